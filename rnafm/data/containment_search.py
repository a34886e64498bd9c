"""The search for sequences within others: its tables, its steps and its threads."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.progress import ReadingProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from rnafm.data.containment_scan_kernels import Index

NONE = np.uint64(2**64 - 1)
"""Stands for no container."""

_LETTERS = 5
_BASE = 6364136223846793005  # of the polynomials: odd, with no pattern in its bits
_CHUNK = 1 << 22  # letters that a thread takes at a time
_PAIRS = 1 << 16
_BYTES_PER_LETTER = 49  # what a thread holds for each letter of its longest sequence
# Least length, letters in the window, places where it may start; the window lies in the least
# length. Up to 13 letters there is no room to choose. Windows of 14 and more are selective enough
# for tens of millions of sequences, and 128 places (7 bits) rare enough.
_CLASSES = (
    *((length, length, 1) for length in range(1, 11)),
    *((14, 11, 4), (18, 14, 5), (32, 20, 13), (64, 32, 33), (128, 64, 65)),
    *((1 << j, (1 << j) - 127, 128) for j in range(8, 24)),
)


class Search:
    """One search; see :func:`rnafm.data.containment.find_redundant`.

    Args:
        tokens: Token ids of all sequences.
        offsets: Where each starts, and the end.
        codes: Token id -> 0 to 3, complements adding up to 3, or 4.
        longest: Length of the longest sequence.
        num_threads: Number of threads.
        progress: Whether to show progress.

    Attributes:
        peak_bytes: Bytes of the tables, once the search is done.
    """

    def __init__(
        self,
        tokens: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        codes: NDArray[np.uint8],
        longest: int,
        num_threads: int,
        *,
        progress: bool,
    ) -> None:
        from rnafm.data import (
            containment_index_kernels,
            containment_kernels,
            containment_scan_kernels,
        )

        self._index_kernels = containment_index_kernels
        self._scan_kernels = containment_scan_kernels
        self.num_threads, self.progress = num_threads, progress
        generator = np.random.default_rng(0)
        powers = np.full(longest + 1, _BASE, np.uint64)
        powers[0] = 1
        self._text = containment_kernels.Text(
            # Compiled once, for arrays that cannot be written to, whatever the caller has.
            tokens=_read_only(tokens),
            offsets=_read_only(offsets.astype(np.int64, copy=False)),
            codes=codes,
            values=generator.integers(1, 2**63, _LETTERS, np.uint64),
            powers=np.cumprod(powers, dtype=np.uint64),
            classes=np.array(_CLASSES, np.int64).T.copy(),
            salts=generator.integers(1, 2**63, len(_CLASSES), np.uint64),
        )
        self.peak_bytes = 0

    def run(self) -> NDArray[np.uint64]:
        """Twice the container of each sequence plus the strand, or :data:`NONE`; uint64 (B,)."""
        size = len(self._text.offsets) - 1
        hashes, keys = np.empty((2, size), np.uint64), np.empty((2, size), np.uint64)
        slots, found = np.zeros(_power(2.8 * size), np.uint32), np.full(size, NONE)
        for first, last, _ in self._in_threads(
            "hash sequences",
            lambda *part: self._index_kernels.hash_sequences(self._text, *part, hashes, keys),
        ):
            self._index_kernels.insert_distinct(self._text, first, last, hashes, keys, slots, found)
        index = self._index(hashes, keys, slots, found)
        best = found.copy()
        self.peak_bytes = (
            sum(table.nbytes for table in (*index, *self._text[2:], best))
            + (2 * size - len(index.entries)) * keys.itemsize
            + self.num_threads * (len(self._text.powers) * _BYTES_PER_LETTER + 16 * _PAIRS)
        )
        for _, _, found_pairs in self._in_threads(
            "find contained sequences", lambda *part: self._scan(index, *part)
        ):
            for pairs in found_pairs:
                np.minimum.at(best, pairs[:, 0].astype(np.int64), pairs[:, 1])
        return best

    def _index(
        self,
        hashes: NDArray[np.uint64],
        keys: NDArray[np.uint64],
        slots: NDArray[np.uint32],
        found: NDArray[np.uint64],
    ) -> Index:
        """Everything that is looked up for containers; takes the memory of the keys."""
        entries = keys.reshape(-1)
        entries = entries[: self._index_kernels.squeeze(entries)]
        entries.sort()
        entries = entries[: self._index_kernels.squeeze(entries)]
        counts = self._index_kernels.count_classes(entries, self._text.classes[0])
        used = np.flatnonzero(counts)
        self._text = self._text._replace(
            classes=self._text.classes[:, used].copy(), salts=self._text.salts[used]
        )
        words = np.array([_power(count / 4) for count in counts[used]], np.int64)  # 16 bits each
        places, masks = np.cumsum(words) - words, (words - 1).astype(np.uint64)
        filters = np.zeros(words.sum(), np.uint64)
        self._index_kernels.fill_filters(entries, self._text.classes[0], filters, places, masks)
        num_bits = max(len(entries).bit_length() - 1, 1)
        shift = np.uint64(64 - num_bits)
        buckets = np.zeros((1 << num_bits) + 1, np.uint32)
        self._index_kernels.fill_buckets(entries, shift, buckets)
        return self._scan_kernels.Index(
            entries=entries,
            buckets=buckets,
            bucket_shift=shift,
            filters=filters,
            filter_places=places,
            filter_masks=masks,
            hashes=hashes,
            slots=slots,
            equal=found != NONE,
            found=found,
        )

    def _scan(self, index: Index, first: int, last: int) -> list[NDArray[np.uint64]]:
        """The pairs of some containers."""
        found, pairs = [], np.empty((_PAIRS, 2), np.uint64)
        following: int | np.int64 = first
        while following < last and len(self._text.salts):
            following, count = self._scan_kernels.scan(self._text, index, following, last, pairs)
            found.append(pairs[:count].copy())
        return found

    def _in_threads(
        self, what: str, work: Callable[[int, int], Any]
    ) -> Iterator[tuple[int, int, Any]]:
        """Do work on parts of the sequences, some letters each; the results come in order."""
        offsets, size, first = self._text.offsets, len(self._text.offsets) - 1, 0
        waiting: deque[tuple[int, int, Future[Any]]] = deque()
        with (
            ReadingProgress(what, len(self._text.tokens), enabled=self.progress) as shown,
            ThreadPoolExecutor(self.num_threads, "containment") as pool,
        ):
            while first < size or waiting:
                while first < size and len(waiting) < 2 * self.num_threads:
                    end = np.searchsorted(offsets, offsets[first] + _CHUNK)
                    last = min(max(int(end), first + 1), size)
                    waiting.append((first, last, pool.submit(work, first, last)))
                    first = last
                start, stop, future = waiting.popleft()
                yield start, stop, future.result()
                num_letters = int(offsets[stop] - offsets[start])
                shown.update(int(offsets[stop]), stop - start, num_letters)


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _power(least: float) -> int:
    """The power of two that is not less."""
    return 1 << max(int(np.ceil(np.log2(max(least, 1)))), 0)
