"""The corruption of masked-language-model training, as a pure function on packed tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F

from rnafm.data.counter import fold_tensor, mix_tensor, uniform

if TYPE_CHECKING:
    from torch import Tensor

    from rnafm.data.batch import Batch
    from rnafm.data.vocabulary import Vocabulary

IGNORED = -100
"""Label of what counts for nothing, as torch's cross-entropy has it."""

_HASH_BITS = 40  # of the sort key; 2^23 sequences in a batch fit above them
_ROUND = 128


@dataclass(frozen=True)
class Masking:
    """How tokens are hidden from the model (Devlin et al. 2019, arXiv:1810.04805).

    Args:
        fraction: Share of the nucleotides of every sequence that the model is asked for.
        mask: Share of these that become the mask token.
        random: Share of these that become another nucleotide; the rest stays as it is.
        span: Length of the runs in which nucleotides are chosen; 1 chooses them one by one.

    Raises:
        ValueError: If a share lies outside its range.
    """

    fraction: float = 0.15
    mask: float = 0.8
    random: float = 0.1
    span: int = 1

    def __post_init__(self) -> None:
        """Check the shares."""
        if not 0 < self.fraction <= 1:
            raise ValueError(f"masking.fraction ({self.fraction}) must be above 0 and at most 1")
        if min(self.mask, self.random) < 0 or self.mask + self.random > 1:
            raise ValueError(
                f"masking.mask ({self.mask}) and masking.random ({self.random}) "
                "must not be negative or exceed 1 together"
            )
        if self.span < 1:
            raise ValueError(f"masking.span ({self.span}) must be at least 1")


class Masked(NamedTuple):
    """A corrupted batch and what was hidden.

    M is a number that the host knows without waiting for a GPU, and a little above the number of
    hidden tokens; what is left over has label -100 and counts for nothing.

    Attributes:
        tokens: Corrupted ids; int64, (N,).
        positions: Which tokens the model is asked for, sequence after sequence; int64, (M,).
        labels: Their original ids, -100 for what is left over; int64, (M,).
    """

    tokens: Tensor
    positions: Tensor
    labels: Tensor


def mask_tokens(batch: Batch, vocabulary: Vocabulary, masking: Masking) -> Masked:
    """Hide a share of every sequence's nucleotides.

    Of a sequence of L nucleotides floor(fraction L + u) are chosen, u uniform in [0, 1), and at
    least one. What happens to a token depends on the key of the batch (seed and epoch), the number
    of its sequence and its position alone: not on the batch around it, nor on the device. Special
    tokens are never chosen. A random replacement is one of the standard nucleotides (codons) and
    differs from the original. On a GPU nothing here waits for the device.

    Args:
        batch: Packed sequences on any device.
        vocabulary: Says which ids are special, standard and the mask.
        masking: Shares and spans.
    """
    tokens = batch.tokens.long()
    tables = _tables(vocabulary, tokens.device)
    lengths, starts = batch.cu_seqlens.diff(), batch.cu_seqlens[:-1].long()
    numbers = torch.arange(len(lengths), device=tokens.device)
    sequence = torch.repeat_interleave(numbers, lengths, output_size=len(tokens))
    position = torch.arange(len(tokens), device=tokens.device) - starts[sequence]
    keys = fold_tensor(batch.key, batch.indices)

    maskable = tables.maskable[tokens]
    ends = F.pad(maskable.cumsum(0), (1, 0))[batch.cu_seqlens]
    available = ends.diff()
    # Where half precision is the default, a product with an integer would be rounded to that.
    wanted = (masking.fraction * available.float() + uniform(mix_tensor(keys))).long()
    wanted = wanted.clamp(min=1).minimum(available)
    ranked = _ranked(maskable, sequence, position, keys, masking.span)

    # The first tokens of each sequence in the order of its ranks, one sequence after the other.
    last = wanted.cumsum(0)
    slots = torch.arange(_room(masking, batch), device=tokens.device)
    filled = slots < last[-1]
    owner = torch.searchsorted(last, slots, right=True).clamp(max=len(lengths) - 1)
    place = starts[owner] + slots - (last - wanted)[owner]
    # What is left over points at tokens of all kinds: gradients of one would wait for each other.
    positions = ranked[torch.where(filled, place, slots % len(tokens))]

    originals = tokens[positions]
    draws = mix_tensor(keys[owner] ^ ~position[positions])
    share = uniform(draws)
    others = tables.others(originals, draws)
    replaced = torch.where(share < masking.mask + masking.random, others, originals)
    replaced = torch.where(share < masking.mask, vocabulary.mask_id, replaced)
    # What is left over is written behind the end, which is cut off again.
    targets = torch.where(filled, positions, len(tokens))
    corrupted = F.pad(tokens, (0, 1)).index_copy(0, targets, replaced)[:-1]
    return Masked(corrupted, positions, torch.where(filled, originals, IGNORED))


def _room(masking: Masking, batch: Batch) -> int:
    """More than can be hidden in a batch, from numbers that the host has.

    Rounded up, so that batches of one size mostly agree in it.
    """
    most = int(masking.fraction * len(batch.tokens)) + batch.num_sequences
    return (most // _ROUND + 1) * _ROUND


def _ranked(
    maskable: Tensor, sequence: Tensor, position: Tensor, keys: Tensor, span: int
) -> Tensor:
    """Tokens by the hashes of their sequence, sequence after sequence; int64, (N,)."""
    own = keys[sequence]
    if span == 1:
        block = position
    else:
        # Tokens of one span share a hash; the sort is stable, so a span is taken from its start on.
        phase = (mix_tensor(~keys) & (2**32 - 1)) % span
        block = (position + phase[sequence]) // span
    order = mix_tensor(own + block) & (2**_HASH_BITS - 1)
    order = torch.where(maskable, order, 2**_HASH_BITS - 1)
    return torch.argsort((sequence << _HASH_BITS) | order, stable=True)


@dataclass(frozen=True)
class _Tables:
    """What is asked of every id, on one device.

    Attributes:
        maskable: Whether an id may be hidden; bool, (V,).
        standard: The standard ids; int64, (S,).
        place: Where an id stands among them, -1 for others; int64, (V,).
    """

    maskable: Tensor
    standard: Tensor
    place: Tensor

    def others(self, ids: Tensor, draws: Tensor) -> Tensor:
        """A standard token other than each id, all equally likely."""
        place, count = self.place[ids], len(self.standard)
        bits = mix_tensor(draws) & (2**32 - 1)
        step = torch.where(place < 0, bits % count, 1 + bits % (count - 1))
        return self.standard[(place.clamp(min=0) + step) % count]


@lru_cache
def _tables(vocabulary: Vocabulary, device: torch.device) -> _Tables:
    """Copied to a device once: a copy at every step would wait for all that it has to do."""
    with torch.inference_mode(mode=False):
        maskable = torch.ones(len(vocabulary), dtype=torch.bool)
        maskable[list(vocabulary.special_ids)] = False
        standard = torch.tensor(vocabulary.standard_ids)
        place = torch.full((len(vocabulary),), -1)
        place[standard] = torch.arange(len(standard))
        return _Tables(*(each.to(device) for each in (maskable, standard, place)))
