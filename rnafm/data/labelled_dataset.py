"""Labelled sequences in memory as batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rnafm.data.batch import Batch
from rnafm.data.counter import fold
from rnafm.data.label_cells import NO_CLASS
from rnafm.data.loader import Packable
from rnafm.data.order import Shuffle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from rnafm.data.labels import Level


class LabelledDataset(Packable):
    """Makes the batch of any pack of an epoch. No sequence is cropped.

    Args:
        tokens: Ids of each row of the table, with ``cls`` and ``eos``; uint8 or int64, (L + 2,).
        indices: Which rows belong to this split; int64, (n,).
        labels: Of each row of the table: (C,) or () for sequences, (L, C) or (L,) for tokens,
            (P, 2) for pairs; None if there are none.
        level: What has a label.
        seed: Chooses the order, with the epoch.
        budget: Costs above it count as it, so that such a sequence has a pack for itself.

    Raises:
        ValueError: If labels of tokens or pairs do not belong to their sequence.
    """

    def __init__(
        self,
        tokens: Sequence[NDArray[np.uint8] | NDArray[np.int64]],
        indices: NDArray[np.int64],
        labels: Sequence[NDArray[Any]] | None,
        *,
        level: Level,
        seed: int = 0,
        budget: int | None = None,
    ) -> None:
        self.tokens, self.indices, self.labels = tokens, indices, labels
        self.level, self.order = level, Shuffle(len(indices), seed)
        self.budget = budget
        self._sizes = np.array([len(tokens[row]) for row in indices.tolist()], np.int64)
        if labels is not None and level != "sequence":
            self._check(labels)

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.indices)

    def lengths(self) -> NDArray[np.int64]:
        """What each sequence costs of the budget of a pack; (n,)."""
        costs = (self._sizes - 2) ** 2 if self.level == "pairs" else self._sizes
        return costs if self.budget is None else np.minimum(costs, self.budget)

    def make(self, epoch: int, order: NDArray[np.int64]) -> Batch:
        """A batch of the sequences at these places of ``indices``, (b,)."""
        # Runs of equal lengths let attention without a packed kernel take them in one call.
        order = order[np.argsort(self._sizes[order], kind="stable")]
        sizes, rows = self._sizes[order], self.indices[order]
        cu_seqlens = np.zeros(len(order) + 1, np.int32)
        np.cumsum(sizes, out=cu_seqlens[1:])
        return Batch(
            tokens=torch.from_numpy(np.concatenate([self.tokens[row] for row in rows.tolist()])),
            cu_seqlens=torch.from_numpy(cu_seqlens),
            max_seqlen=int(sizes.max()),
            indices=torch.from_numpy(rows),
            key=fold(self.order.seed, epoch, 2),
            labels=self._pack_labels(rows),
        )

    def _pack_labels(self, rows: NDArray[np.int64]) -> Tensor | None:
        if self.labels is None:
            return None
        labels = [self.labels[row] for row in rows.tolist()]
        if self.level == "sequence":
            return torch.from_numpy(np.stack(labels))
        if self.level == "pairs":
            numbers = np.repeat(np.arange(len(labels)), [len(pairs) for pairs in labels])
            pairs = np.concatenate(labels).reshape(-1, 2)
            return torch.from_numpy(np.column_stack([numbers, pairs]).astype(np.int64))
        width = labels[0].shape[1:]
        special = np.full((1, *width), NO_CLASS if labels[0].dtype == np.int64 else np.nan)
        special = special.astype(labels[0].dtype)
        return torch.from_numpy(
            np.concatenate([part for each in labels for part in (special, each, special)])
        )

    def _check(self, labels: Sequence[NDArray[Any]]) -> None:
        for row, size in zip(self.indices.tolist(), self._sizes.tolist(), strict=True):
            own, length = labels[row], size - 2
            if self.level == "token" and len(own) != length:
                raise ValueError(f"row {row}: {len(own)} labels for a sequence of {length} tokens")
            if self.level == "pairs" and len(own) and not 0 <= own.min() <= own.max() < length:
                raise ValueError(
                    f"row {row}: pairs of the nucleotides {own.min()} to {own.max()} in a sequence "
                    f"of {length}; count them from 0"
                )
