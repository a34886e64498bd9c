"""The one object that crosses from data to tasks."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Whole sequences end to end, without padding.

    A NamedTuple, because Lightning moves it to the device and torch pins its memory as it is.

    Attributes:
        tokens: Ids of all sequences, each with its ``cls`` and ``eos``; uint8 or int64, (N,).
        cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).
        max_seqlen: Number of tokens of the longest sequence.
        indices: Number of each sequence in its store or table; int64, (B,).
        epoch: The epoch that the batch belongs to. With the seed and the indices it decides
            everything random about the batch, on any number of devices.
    """

    tokens: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    indices: Tensor
    epoch: int = 0

    @property
    def num_sequences(self) -> int:
        """B, the number of sequences."""
        return self.cu_seqlens.numel() - 1
