"""The one object that crosses from data to tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor


class Batch(NamedTuple):
    """Whole sequences end to end, without padding.

    A NamedTuple, because Lightning moves it to the device and torch pins its memory as it is.

    Attributes:
        tokens: Ids of all sequences, each with its ``cls`` and ``eos``; uint8 or int64, (N,).
        cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).
        max_seqlen: Number of tokens of the longest sequence.
        indices: Number of each sequence in its store or table; int64, (B,). Where an epoch visits
            a sequence again, the number of all sequences is added for each time.
        key: Made of the seed and the epoch. With the index of a sequence and a position it decides
            what is random about a token, whatever batch or device the sequence is on.
        labels: What is to be predicted; None in pretraining. For sequences (B, C) float or (B,)
            int64; for tokens (N, C) or (N,), special tokens missing; for base pairs (P, 3) int64:
            number of the sequence in the batch, and both nucleotides, counted from 0. Missing
            numbers are NaN, missing classes -100.
        filler: Whether the batch only keeps its process in step with the others, at the end of an
            epoch, and counts for nothing.
    """

    tokens: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    indices: Tensor
    key: int = 0
    labels: Tensor | None = None
    filler: bool = False

    @property
    def num_sequences(self) -> int:
        """B, the number of sequences."""
        return self.cu_seqlens.numel() - 1
