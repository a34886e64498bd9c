"""A set of 64-bit hashes that takes whole arrays at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_FULL = 0.7
_START = 1 << 18


class Seen:
    """Remembers hashes; an open-addressed table in numpy.

    A Python set of digests takes 100 bytes per sequence; this takes 12 bytes per slot, at most 70 %
    of which are in use: 0.8 GB for 45 million sequences. A hash counts as seen only if a second
    one of 32 bits agrees, so that the chance of one false duplicate among 45 million is 1e-13.
    """

    def __init__(self) -> None:
        self._hashes = np.zeros(_START, np.uint64)
        self._checks = np.zeros(_START, np.uint32)
        self._count = 0

    def __len__(self) -> int:
        """Number of hashes."""
        return self._count

    @property
    def nbytes(self) -> int:
        """Bytes of the table."""
        return self._hashes.nbytes + self._checks.nbytes

    def add(self, hashes: NDArray[np.uint64], checks: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Remember hashes.

        Args:
            hashes: 64 bits of each sequence, (B,).
            checks: 32 further bits of each, (B,).

        Returns:
            Which of them were there before, or earlier in the array, bool (B,).
        """
        while self._count + len(hashes) > _FULL * len(self._hashes):
            self._grow()
        hashes = np.maximum(hashes, np.uint64(1))  # 0 marks a free slot
        seen = np.ones(len(hashes), np.bool_)
        _, first = np.unique(hashes, return_index=True)
        seen[first] = self._insert(hashes[first], checks[first])
        return seen

    def add_texts(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Like :meth:`add`, for texts such as names; fast, and good within one process only."""
        hashes = np.fromiter(map(hash, texts), np.int64, len(texts)).view(np.uint64)
        return self.add(hashes, (hashes >> np.uint64(32)).astype(np.uint32))

    def _insert(self, hashes: NDArray[np.uint64], checks: NDArray[np.uint32]) -> NDArray[np.bool_]:
        """Double hashing, for all at once; the hashes are distinct."""
        seen = np.zeros(len(hashes), np.bool_)
        last = np.uint64(len(self._hashes) - 1)
        waiting = np.arange(len(hashes))
        slots = hashes & last
        steps = (hashes >> np.uint64(32)) | np.uint64(1)
        while len(waiting):
            wanted = hashes[waiting]
            there = self._hashes[slots]
            same = np.flatnonzero(there == wanted)
            if len(same):
                seen[waiting[same]] = self._checks[slots[same]] == checks[waiting[same]]
            free = np.flatnonzero(there == 0)
            self._hashes[slots[free]] = wanted[free]  # of those with one slot the last one wins
            there[free] = self._hashes[slots[free]]
            won = free[there[free] == wanted[free]]
            self._checks[slots[won]] = checks[waiting[won]]
            self._count += len(won)
            left = np.flatnonzero(there != wanted)
            waiting = waiting[left]
            slots = (slots[left] + steps[waiting]) & last
        return seen

    def _grow(self) -> None:
        """Twice the slots."""
        used = np.flatnonzero(self._hashes)
        hashes, checks = self._hashes[used], self._checks[used]
        self._hashes = np.zeros(2 * len(self._hashes), np.uint64)
        self._checks = np.zeros(len(self._hashes), np.uint32)
        self._count = 0
        for start in range(0, len(used), 1 << 20):
            part = slice(start, start + (1 << 20))
            self._insert(hashes[part], checks[part])
