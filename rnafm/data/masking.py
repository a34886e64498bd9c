"""The corruption of masked-language-model training, as a pure function on packed tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from rnafm.data.counter import fold_tensor, mix_tensor, uniform

if TYPE_CHECKING:
    from torch import Tensor

    from rnafm.data.batch import Batch
    from rnafm.data.vocabulary import Vocabulary

_HASH_BITS = 40  # of the sort key; 2^23 sequences in a batch fit above them


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

    Attributes:
        tokens: Corrupted ids; int64, (N,).
        positions: Which tokens the model is asked for, ascending; int64, (M,).
        labels: Their original ids; int64, (M,).
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
    differs from the original.

    Args:
        batch: Packed sequences on any device.
        vocabulary: Says which ids are special, standard and the mask.
        masking: Shares and spans.
    """
    tokens = batch.tokens.long()
    device = tokens.device
    lengths = batch.cu_seqlens.diff().long()
    sequence = torch.repeat_interleave(
        torch.arange(len(lengths), device=device), lengths, output_size=len(tokens)
    )
    position = torch.arange(len(tokens), device=device) - batch.cu_seqlens[sequence]
    keys = fold_tensor(batch.key, batch.indices)

    special = torch.zeros(len(vocabulary), dtype=torch.bool, device=device)
    special[list(vocabulary.special_ids)] = True
    maskable = ~special[tokens]
    chosen = _choose(maskable, sequence, position, keys, batch.cu_seqlens.long(), masking)

    positions = chosen.nonzero().squeeze(1)
    labels = tokens[positions]
    draws = mix_tensor(keys[sequence[positions]] ^ ~position[positions])
    share = uniform(draws)
    replaced = torch.where(
        share < masking.mask,
        torch.full_like(labels, vocabulary.mask_id),
        torch.where(
            share < masking.mask + masking.random, _others(labels, draws, vocabulary), labels
        ),
    )
    return Masked(tokens.index_copy(0, positions, replaced), positions, labels)


def _choose(
    maskable: Tensor,
    sequence: Tensor,
    position: Tensor,
    keys: Tensor,
    cu_seqlens: Tensor,
    masking: Masking,
) -> Tensor:
    """Which tokens are asked for: those with the smallest hashes of their sequence; bool, (N,)."""
    ends = torch.cat([maskable.new_zeros(1, dtype=torch.long), maskable.cumsum(0)])
    available = ends[cu_seqlens[1:]] - ends[cu_seqlens[:-1]]
    wanted = (masking.fraction * available + uniform(mix_tensor(keys))).long()
    wanted = wanted.clamp(min=1).minimum(available)

    # Tokens of one span share a hash; the sort is stable, so a span is taken from its start on.
    phase = (mix_tensor(~keys) & (2**32 - 1)) % masking.span
    block = (position + phase[sequence]) // masking.span
    order = mix_tensor(keys[sequence] + block) & (2**_HASH_BITS - 1)
    order = torch.where(maskable, order, 2**_HASH_BITS - 1)
    ranked = torch.argsort((sequence << _HASH_BITS) | order, stable=True)
    chosen = torch.empty_like(maskable)
    chosen[ranked] = position < wanted[sequence]  # sorting keeps every sequence in its place
    return chosen


def _others(labels: Tensor, draws: Tensor, vocabulary: Vocabulary) -> Tensor:
    """A standard token other than each label, all equally likely."""
    standard = torch.tensor(vocabulary.standard_ids, device=labels.device)
    place = torch.full((len(vocabulary),), -1, device=labels.device)
    place[standard] = torch.arange(len(standard), device=labels.device)
    place = place[labels]
    bits = mix_tensor(draws) & (2**32 - 1)
    step = torch.where(place < 0, bits % len(standard), 1 + bits % (len(standard) - 1))
    return standard[(place.clamp(min=0) + step) % len(standard)]
