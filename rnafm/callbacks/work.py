"""What a run asks of its device, and what that could do: the two sides of MFU."""

from __future__ import annotations

import functools
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from rnafm.planning.costs import adapting_flops, forward_flops
from rnafm.planning.devices import find_device, processor_flops

if TYPE_CHECKING:
    from rnafm.modules.encoder import EncoderConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """Floating-point operations of training, by the encoder's own formula.

    All that the encoder computes is counted, of its gradients only what is computed of them, and
    the head of masked-language modelling; other heads are not. What activation checkpointing
    computes again is not either.

    Args:
        config: Shape of the encoder.
        vocab_size: Tokens that the head of masked-language modelling tells apart; 0 without it.
        fraction: Share of the tokens that it reads.
        flowing: Share of the blocks that gradients flow through.
        trained: Share of the matrices' elements that are trained.
        uncounted: Whether most of the work is not the encoder's: because its embeddings are kept,
            or because the head computes something for each pair of nucleotides.
    """

    config: EncoderConfig
    vocab_size: int = 0
    fraction: float = 0.0
    flowing: float = 1.0
    trained: float = 1.0
    uncounted: bool = False

    @classmethod
    def of(cls, task: Any) -> Work:
        """What training a task is."""
        encoder, masking = task.encoder, getattr(task, "masking", None)
        blocks = [list(block.named_parameters()) for block in encoder.blocks]
        elements = trained = 0
        for name, parameter in (pair for block in blocks for pair in block):
            if parameter.dim() == 2 and "lora_" not in name:  # noqa: PLR2004  # a matrix
                elements += parameter.numel()
                trained += parameter.numel() * parameter.requires_grad
        learning = [any(each.requires_grad for _, each in block) for block in blocks]
        below = any(each.requires_grad for each in encoder.embed_tokens.parameters())
        first = 0 if below else learning.index(True) if any(learning) else len(blocks)
        frozen = not any(each.requires_grad for each in encoder.parameters())
        kept = bool(getattr(task, "reads", ""))
        return cls(
            encoder.config,
            0 if masking is None else len(encoder.vocabulary),
            0.0 if masking is None else masking.fraction,
            flowing=1 - first / len(blocks),
            trained=trained / elements,
            uncounted=getattr(task, "level", None) == "pairs" or (frozen and kept),
        )

    def flops(self, tokens: int, squares: int) -> float:
        """Operations for so many tokens, in sequences with this sum of squared lengths.

        0 where they would say little.
        """
        if self.uncounted:
            return 0.0
        flowing, trained = self.flowing, self.trained
        own = adapting_flops(self.config, tokens, squares, flowing=flowing, trained=trained)
        predicted = round(self.fraction * tokens)
        whole = forward_flops(self.config, 0, 0, predicted, self.vocab_size)
        return own + 3 * whole


def squared_lengths(cu_seqlens: torch.Tensor, longest: int) -> torch.Tensor:
    """What attention is asked for, on the device: the sum of squared lengths; int64.

    Longer sequences than the encoder takes are cut into windows that overlap a little.

    Args:
        cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).
        longest: Tokens that the encoder takes at once.
    """
    lengths = cu_seqlens.diff().long()
    return (lengths * lengths.clamp(max=longest)).sum()


def find_peak(device: torch.device, precision: str) -> float | None:
    """Operations per second that a device could do in a precision of the trainer's.

    A processor is measured, in 32 bits whatever the precision is. What is not known of a GPU is
    said once.

    Args:
        device: Where the run is.
        precision: Such as ``bf16-mixed`` or ``32-true``.
    """
    if device.type == "cpu":
        return processor_flops(torch.get_num_threads())
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    found = find_device(name)
    if found is None:
        _say_unknown(name)
        return None
    return found.flops if "16" in precision else found.single


@functools.cache
def _say_unknown(name: str) -> None:
    logger.info(
        "The peak of %s is not in the table of rnafm.planning.devices: no MFU is logged", name
    )


def peak_memory(device: torch.device) -> int:
    """Bytes that tensors have taken on a GPU at most; for a processor, those of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
