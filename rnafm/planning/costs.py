"""Models of a training step: operations, bytes in memory, bytes between devices.

Tokens are those of packed sequences, of which every one is real. ``squares`` is the sum of the
squared lengths of the sequences, which the cost of attention goes with. Every formula is held
against a measurement in ``tests/test_planning.py``; those of memory and time are models all the
same: kernels, allocators and networks do as they like.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rnafm.modules.encoder import EncoderConfig
    from rnafm.planning.devices import Device, Network

GIB = 1 << 30
RESERVED = 2 * GIB
"""Context of the device, workspaces of its libraries, buffers of the network, fragments."""

BUCKET = 25e6
"""Bytes of gradients that DDP sends at a time."""

LAUNCH = 5e-3
"""Seconds that a processor needs to launch the kernels of a step: no step is shorter."""

OPTIMIZER_BYTES = 28
"""Bytes that a fused AdamW moves per parameter: it reads four values and writes three."""


def block_parameters(config: EncoderConfig) -> int:
    """Parameters of one block: four matrices of attention, two of the feed-forward layer."""
    dim, inner = config.embed_dim, config.ffn_dim
    matrices = 4 * dim * dim + 2 * dim * inner
    biases = 4 * dim + inner + dim
    return matrices + biases + 4 * dim  # two LayerNorms


def forward_flops(
    config: EncoderConfig, tokens: int, squares: int, predicted: int = 0, vocab_size: int = 0
) -> int:
    """Floating-point operations of a forward pass, two to a multiplication and addition.

    Only matrix products count, as everywhere where the utilisation of devices is reported.

    Args:
        config: Shape of the encoder.
        tokens: Number of tokens.
        squares: Sum of the squared lengths of the sequences.
        predicted: Tokens that the head of masked-language modelling reads.
        vocab_size: Tokens of the vocabulary.
    """
    dim = config.embed_dim
    dense = 2 * tokens * (4 * dim * dim + 2 * dim * config.ffn_dim)
    attention = 4 * dim * squares  # queries with keys, weights with values
    head = 2 * predicted * (dim * dim + dim * vocab_size)
    return config.num_layers * (dense + attention) + head


def training_flops(
    config: EncoderConfig, tokens: int, squares: int, predicted: int = 0, vocab_size: int = 0
) -> int:
    """Operations that training needs: the backward pass does twice the forward one."""
    return 3 * forward_flops(config, tokens, squares, predicted, vocab_size)


def adapting_flops(
    config: EncoderConfig, tokens: int, squares: int, *, flowing: float, trained: float
) -> float:
    """Operations of an encoder that is trained in part, as with frozen blocks or LoRA.

    A matrix costs its forward product again for the gradients of its inputs, where any flow
    through it, and once more for those of its weights, where these are trained. Low-rank additions
    are too small to count.

    Args:
        config: Shape of the encoder.
        tokens: Number of tokens.
        squares: Sum of the squared lengths of the sequences.
        flowing: Share of the blocks that gradients flow through.
        trained: Share of the matrices' elements that are trained.
    """
    dense = forward_flops(config, tokens, 0)
    attention = forward_flops(config, 0, squares)
    return dense * (1 + flowing + trained) + attention * (1 + 2 * flowing)


def elementwise_bytes(
    config: EncoderConfig, tokens: int, *, mixed: bool, compiled: bool = False
) -> float:
    """Bytes that training moves besides matrix products and attention, if nothing stays in caches.

    Residuals and the statistics of LayerNorms are in 32 bits, all else in 16 under autocast. A
    block reads and writes, in units of its width: residual and LayerNorm, both times; the GELU and
    its gradient; the gradients of LayerNorms and biases. Compiled, residual and LayerNorm are one
    pass.
    """
    wide, width = config.ffn_dim / config.embed_dim, 2 if mixed else 4
    norms = 24 if compiled else 48
    gelu = 2 * wide * width + 3 * wide * width
    biases = width * (wide + 5)
    backward = 28 if compiled else 72
    units = norms + gelu + biases + backward
    return tokens * config.num_layers * config.embed_dim * units


def executed_flops(
    config: EncoderConfig,
    tokens: int,
    squares: int,
    predicted: int = 0,
    vocab_size: int = 0,
    *,
    checkpointing: bool = False,
) -> int:
    """Operations that devices do: with activation checkpointing, blocks are computed once more."""
    again = forward_flops(config, tokens, squares) if checkpointing else 0
    return training_flops(config, tokens, squares, predicted, vocab_size) + again


def block_activations(config: EncoderConfig, *, mixed: bool) -> int:
    """Bytes that a block keeps of each token for its gradients.

    The inputs of both LayerNorms are in 32 bits; what matrices multiply and give is in 16 bits
    under autocast (``mixed``): both normed inputs, queries, keys and values, what attention gives,
    and what is before and behind the GELU. A compiled block keeps these, too: what a matrix product
    of the gradients reads is not computed again. Dropout keeps a byte for each of its decisions.
    """
    width = 2 if mixed else 4
    kept = 2 * 4 * config.embed_dim + width * (6 * config.embed_dim + 2 * config.ffn_dim)
    return kept + (2 * config.embed_dim if config.dropout else 0)


def activations(
    config: EncoderConfig,
    tokens: int,
    *,
    mixed: bool,
    checkpointing: bool = False,
) -> int:
    """Bytes that are kept of a batch for its gradients.

    With activation checkpointing they are the inputs of all blocks and the insides of one. Outside
    of blocks the inputs of two LayerNorms are kept. What flows back through a block is widest at
    the GELU: the gradients of both of its sides, of which one takes the place of what was kept, and
    those of the residual and of its branch.
    """
    block, dim = block_activations(config, mixed=mixed), config.embed_dim
    kept = block + (config.num_layers - 1) * (4 * dim if checkpointing else block)
    width = 2 if mixed else 4
    flowing = width * config.ffn_dim + (4 + width) * dim
    return tokens * (kept + 2 * 4 * dim + flowing)


@dataclass(frozen=True)
class Memory:
    """Bytes on one device.

    Args:
        parameters: Weights in 32 bits, or this device's share of them.
        gradients: As many.
        moments: What the optimizer remembers.
        copies: Weights in 16 bits that autocast makes for each block and keeps for its gradients;
            where parameters are in shards, whole weights and gradients of two blocks instead.
        activations: See :func:`activations`.
        reserved: See :data:`RESERVED`.
    """

    parameters: int
    gradients: int
    moments: int
    copies: int
    activations: int
    reserved: int = RESERVED

    @property
    def total(self) -> int:
        """All of it."""
        parts = (self.parameters, self.gradients, self.moments, self.copies, self.activations)
        return sum(parts) + self.reserved


def memory(  # noqa: PLR0913  # what it depends on
    parameters: int,
    trained: int,
    moment_bytes: float,
    activation_bytes: int,
    *,
    block: int,
    num_layers: int,
    shards: int = 1,
    mixed: bool = True,
    checkpointing: bool = False,
) -> Memory:
    """What a device holds.

    Args:
        parameters: Of the whole task.
        trained: Those of them that have gradients.
        moment_bytes: What the optimizer remembers of each trained parameter.
        activation_bytes: See :func:`activations`.
        block: Parameters of a block.
        num_layers: Number of blocks.
        shards: Devices that share the parameters; 1 where each has all of them.
        mixed: Whether blocks compute in 16 bits.
        checkpointing: Whether only one block at a time keeps what it computes with.
    """
    if shards > 1:
        copies = 2 * block * ((2 if mixed else 4) + 4)
    else:
        copies = (1 if checkpointing else num_layers) * 2 * block if mixed else 0
    return Memory(
        parameters=math.ceil(4 * parameters / shards),
        gradients=math.ceil(4 * trained / shards),
        moments=math.ceil(moment_bytes * trained / shards),
        copies=copies,
        activations=activation_bytes,
    )


@dataclass(frozen=True)
class Step:
    """Seconds of an optimizer step.

    Args:
        compute: Forward and backward of all micro-batches, and the optimizer.
        communication: Between devices, whether anybody waits for it or not.
        exposed: What devices wait for.
    """

    compute: float
    communication: float
    exposed: float

    @property
    def total(self) -> float:
        """From one step to the next."""
        return self.compute + self.exposed

    @property
    def efficiency(self) -> float:
        """Share of the time that is not spent waiting for other devices."""
        return self.compute / self.total


def step_time(  # noqa: PLR0913  # what a step depends on
    flops: float,
    parameters: int,
    device: Device,
    network: Network,
    *,
    devices: int,
    mfu: float,
    sharded: bool = False,
    num_layers: int = 12,
    micro_batches: int = 1,
) -> Step:
    """How long a step takes, with what of the communication cannot hide behind computation.

    Args:
        flops: Executed by one device in one micro-batch.
        parameters: Of the task.
        device: What computes.
        network: What connects.
        devices: How many.
        mfu: Share of the device's peak that forward and backward reach by themselves.
        sharded: FSDP2: weights in 16 bits are gathered for forward and backward, gradients in 32
            bits reduced and scattered, in every micro-batch. Otherwise DDP: gradients in 32 bits
            are reduced once in a step, in buckets.
        num_layers: Blocks: what FSDP2 gathers at a time.
        micro_batches: Whose gradients are accumulated.
    """
    one = flops / (device.flops * mfu)
    shards = devices if sharded else 1
    update = OPTIMIZER_BYTES * parameters / shards / device.bandwidth
    compute = max(micro_batches * one, LAUNCH * micro_batches) + update
    if devices == 1:
        return Step(compute, 0.0, 0.0)
    forward, backward = one / 3, one * 2 / 3
    if not sharded:
        buckets = math.ceil(4 * parameters / BUCKET)
        reduce = network.all_reduce(4 * parameters, devices, messages=buckets)
        last = reduce / buckets  # is full only when all else is done
        return Step(compute, reduce, max(reduce - backward, last))
    gather = network.gather(2 * parameters, devices, messages=num_layers)
    scatter = network.gather(4 * parameters, devices, messages=num_layers)
    first, last = gather / num_layers, scatter / num_layers
    exposed = max(gather - forward, first) + max(gather + scatter - backward, last)
    return Step(compute, micro_batches * (2 * gather + scatter), micro_batches * exposed)
