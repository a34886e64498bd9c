"""Redundant sequences, as CD-HIT-EST at 100 % finds them, in linear time.

The sequences that stand within another one, on either strand, are what the authors of RNA-FM
removed from RNAcentral: ``cd-hit-est -c 1.0``, whose time grows with the square of their number.
Here each sequence is found by one window of letters: the *anchor*, the least word (by a hash) among
its first places, begins a window whose hash is the key in an index. Whatever holds the sequence has
the same anchor at the same place, since anchors depend on the letters around them alone. So each
possible container is read once, its own anchors are looked up, one in three to one in sixty places
for each class of lengths, and what is found is compared letter by letter.
"""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.progress import ReadingProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from rnafm.data.containment_scan_kernels import Index
    from rnafm.data.vocabulary import Vocabulary

KINDS = ("kept", "duplicate", "contained", "contained_reverse")
"""What a sequence can be; the numbers in :attr:`Redundancy.kinds` are places in here."""

_PLAIN = 4
_LONGEST = (1 << 24) - 1  # lengths have so many bits in the index
_MOST = (1 << 31) - 1
_NONE = np.uint64(2**64 - 1)
_CHUNK = 1 << 22  # letters that a thread takes at a time
_PAIRS = 1 << 16
# Least length, letters in the window, places where it may start; the window lies in the least
# length. Up to 17 letters there is no room to choose. Windows of 14 and more are selective enough
# for tens of millions of sequences, and 128 places (7 bits) rare enough.
_CLASSES = (
    *((length, length, 1) for length in range(1, 12)),
    *((18, 14, 5), (32, 20, 13), (64, 32, 33), (128, 64, 65)),
    *((1 << j, (1 << j) - 127, 128) for j in range(8, 24)),
)


@dataclass(frozen=True)
class Redundancy:
    """What is redundant among sequences.

    Args:
        kinds: For each sequence its place in :data:`KINDS`, uint8 (B,). ``duplicate`` is as long as
            its container, and equal; ``contained`` is part of it; ``contained_reverse`` is part of
            its reverse complement, or all of it.
        containers: For each sequence the kept one that holds it, -1 for those that are kept, int64
            (B,).
        peak_bytes: Bytes of the tables that the search held at its peak, without ``tokens``.
    """

    kinds: NDArray[np.uint8]
    containers: NDArray[np.int64]
    peak_bytes: int


def complement_of(vocabulary: Vocabulary) -> NDArray[np.uint8]:
    """Token id -> token id of the complement, (256,).

    A and U (or T), C and G are exchanged; every other token is its own complement, also the IUPAC
    codes, since cd-hit-est takes all other letters for one.

    Raises:
        ValueError: If the vocabulary has codons, or lacks a nucleotide.
    """
    if vocabulary.letters_per_token != 1:
        raise ValueError(
            f"vocabulary {vocabulary.name!r}: its tokens are {vocabulary.letters_per_token} letters"
            " long, and containment compares nucleotides; use redundancy: exact, or a nucleotide "
            "vocabulary"
        )
    ids = vocabulary.ids
    uracils = [ids[letter] for letter in "UT" if letter in ids]
    missing = [letter for letter in "ACG" if letter not in ids] + ["U"] * (not uracils)
    if missing:
        raise ValueError(
            f"vocabulary {vocabulary.name!r}: has no token for {' '.join(missing)}, and containment"
            " compares nucleotides; use redundancy: exact, or a nucleotide vocabulary"
        )
    complement = np.arange(256, dtype=np.uint8)
    complement[uracils] = ids["A"]
    complement[[ids["A"], ids["C"], ids["G"]]] = uracils[0], ids["G"], ids["C"]
    return complement


def find_redundant(
    tokens: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    *,
    complement: NDArray[np.uint8],
    num_threads: int | None = None,
    progress: bool = True,
) -> Redundancy:
    """Find the sequences that stand within a longer one or equal an earlier one, on either strand.

    What is kept is what ``cd-hit-est -c 1.0 -n 10 -M 0`` keeps, which goes from the longest to the
    shortest sequence and leaves those of one length in order. As there, letters other than A, C, G
    and U are one letter, which equals itself; and a sequence without ten plain letters in a row is
    kept, whatever holds it. In three things this is exact where cd-hit-est is not: two sequences
    that differ only in the length of a run of one letter (of 8 or more) are not the same; repeats
    and sequences over 65,535 nt are found as all others are; and sequences of up to ten letters,
    which it drops, are compared too: nearly all of them are part of something. Empty ones are kept.

    Takes about 85 bytes per sequence and 34 per letter of the longest sequence and thread, and time
    in proportion to the letters. Each thread takes its own sequences as containers; the result does
    not depend on how many threads there are.

    Args:
        tokens: Token ids of all sequences, (N,); may be a memory map, and is read twice in order.
        offsets: Where each sequence starts, and N, (B + 1,).
        complement: Token id -> token id of the complement, (256,), as :func:`complement_of` gives.
        num_threads: Threads; all cores if not given.
        progress: Whether to show progress on standard error.

    Raises:
        ImportError: If numba is missing.
        ValueError: If ``complement`` is no complement, there are more than 2,147,483,647 sequences,
            or one is longer than 16,777,215.
    """
    codes = _codes(complement)
    num_sequences, lengths = len(offsets) - 1, np.diff(offsets)
    longest = int(lengths.max(initial=0))
    if num_sequences > _MOST or longest > _LONGEST:
        raise ValueError(
            f"{num_sequences:,} sequences of up to {longest:,} letters: containment is found among "
            f"up to {_MOST:,} of up to {_LONGEST:,}; split the store, or set max_length"
        )
    del lengths
    search = _Search(tokens, offsets, codes, longest, num_threads, progress=progress)
    parents = search.run()
    return _resolved(parents, offsets, search.peak_bytes)


def _codes(complement: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Token id -> 0 to 3, complements adding up to 3, or 4 for what is its own complement."""
    ids = np.arange(256)
    plain = np.flatnonzero(complement != ids)
    same = complement[complement[plain]]  # T is U
    wrong = (complement[complement[same]] != same).any()
    firsts = sorted({*np.minimum(same, complement[same]).tolist()})
    if len(complement) != len(ids) or wrong or len(firsts) > _PLAIN // 2:
        raise ValueError(
            "complement: does not exchange two pairs of tokens and leave the others as they are; "
            "make it with complement_of(vocabulary)"
        )
    codes = np.full(256, _PLAIN, np.uint8)
    for number, first in enumerate(firsts):
        codes[plain[same == first]] = number
        codes[plain[same == complement[first]]] = _PLAIN - 1 - number
    return codes


def _resolved(
    parents: NDArray[np.uint64], offsets: NDArray[np.int64], peak_bytes: int
) -> Redundancy:
    """Follow containers up to those that are kept.

    Args:
        parents: Twice the number of the container plus the strand, or the largest number.
        offsets: Where each sequence starts.
        peak_bytes: Passed on.
    """
    lengths, one = np.diff(offsets), np.uint64(1)
    held = np.flatnonzero(parents != _NONE)
    while True:
        above = parents[(parents[held] >> one).astype(np.int64)]
        further = above != _NONE
        if not further.any():
            break
        rows = held[further]
        parents[rows] = above[further] ^ (parents[rows] & one)
    containers = np.full(len(parents), -1, np.int64)
    kinds = np.zeros(len(parents), np.uint8)
    containers[held] = (parents[held] >> one).astype(np.int64)
    reverse = (parents[held] & one).astype(np.bool_)
    equal = lengths[held] == lengths[containers[held]]
    names = np.where(reverse, KINDS.index("contained_reverse"), KINDS.index("contained"))
    kinds[held] = np.where(equal & ~reverse, KINDS.index("duplicate"), names)
    return Redundancy(kinds, containers, peak_bytes)


class _Search:
    """The tables of one search, and the order in which they are made."""

    def __init__(
        self,
        tokens: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        codes: NDArray[np.uint8],
        longest: int,
        num_threads: int | None,
        *,
        progress: bool,
    ) -> None:
        from rnafm.data import containment_kernels, containment_scan_kernels

        self._kernels, self._scan = containment_kernels, containment_scan_kernels
        self.num_threads = num_threads or len(os.sched_getaffinity(0))
        self.progress, self.longest = progress, longest
        # Compiled once for arrays that cannot be written to, whatever the caller has.
        self.tokens, self.offsets = _read_only(tokens), _read_only(offsets)
        self.codes = codes
        generator = np.random.default_rng(0)
        self.values = generator.integers(1, 2**63, _PLAIN + 1, np.uint64)
        powers = np.full(longest + 1, 6364136223846793005, np.uint64)
        powers[0] = 1
        self.powers = np.cumprod(powers, dtype=np.uint64)
        self.classes = np.array(_CLASSES, np.int64).T.copy()
        self.salts = generator.integers(1, 2**63, len(_CLASSES), np.uint64)
        self.peak_bytes = 0

    def run(self) -> NDArray[np.uint64]:
        """Twice the container of each sequence plus the strand; the largest number without one."""
        size = len(self.offsets) - 1
        found = np.full(size, _NONE)
        hashes, keys = np.empty((2, size), np.uint64), np.empty((2, size), np.uint64)
        slots = np.zeros(_power(2.8 * size), np.uint32)
        self._hash(hashes, keys, slots, found)
        self._note(found, hashes, keys, slots)
        index = self._index(hashes, keys, slots, found)
        del keys
        if index is None:
            return found
        best = found.copy()
        self._note(best, *index)
        with ReadingProgress(
            "find contained sequences", len(self.tokens), enabled=self.progress
        ) as shown:
            for first, last, pairs in self._in_threads(lambda *part: self._search(index, *part)):
                for part in pairs:
                    np.minimum.at(best, part[:, 0].astype(np.int64), part[:, 1])
                self._show(shown, first, last)
        return best

    def _hash(
        self,
        hashes: NDArray[np.uint64],
        keys: NDArray[np.uint64],
        slots: NDArray[np.uint32],
        found: NDArray[np.uint64],
    ) -> None:
        """Fill the hashes and keys in threads, and the table of distinct sequences in order."""
        settings = (self.codes, self.values, self.powers, self.classes, self.salts)
        with ReadingProgress("hash sequences", len(self.tokens), enabled=self.progress) as shown:
            for first, last, _ in self._in_threads(
                lambda first, last: self._kernels.hash_sequences(
                    self.tokens, self.offsets, first, last, *settings, hashes, keys
                )
            ):
                self._kernels.insert_distinct(
                    self.tokens, self.offsets, first, last, self.codes, hashes, keys, slots, found
                )
                self._show(shown, first, last)

    def _index(
        self,
        hashes: NDArray[np.uint64],
        keys: NDArray[np.uint64],
        slots: NDArray[np.uint32],
        found: NDArray[np.uint64],
    ) -> Index | None:
        """Everything that containers are looked up in; nothing if there is nothing to find."""
        counts = self._kernels.count_classes(keys, self.classes[0])
        used = np.flatnonzero(counts)
        if not len(used):
            return None
        entries = keys.reshape(-1)
        entries = entries[entries != 0]
        entries.sort()
        entries = entries[np.flatnonzero(np.diff(entries, prepend=np.uint64(0)))]
        classes, salts = self.classes[:, used].copy(), self.salts[used]
        sizes = np.array([_power(count / 4) for count in counts[used]])  # 16 bits or more for each
        places = np.cumsum(sizes) - sizes
        filters = np.zeros(sizes.sum(), np.uint64)
        masks = (sizes - 1).astype(np.uint64)
        self._kernels.fill_blooms(entries, classes[0], filters, places.astype(np.uint64), masks)
        bits = max(int(len(entries)).bit_length() - 1, 1)
        edges = np.arange(1 << bits, dtype=np.uint64) << np.uint64(64 - bits)
        buckets = np.append(np.searchsorted(entries, edges), len(entries)).astype(np.uint32)
        return self._scan.Index(
            tokens=self.tokens,
            offsets=self.offsets,
            codes=self.codes,
            values=self.values,
            powers=self.powers,
            classes=classes,
            salts=salts,
            filters=filters,
            filter_places=places.astype(np.uint64),
            filter_masks=masks,
            entries=entries,
            buckets=buckets,
            bucket_shift=np.uint64(64 - bits),
            hashes=hashes,
            slots=slots,
            found=found,
            equal=found != _NONE,
        )

    def _search(self, index: Index, first: int, last: int) -> list[NDArray[np.uint64]]:
        """The pairs of some containers."""
        found, pairs = [], np.empty((_PAIRS, 2), np.uint64)
        while first < last:
            first, count = self._scan.scan(index, first, last, pairs)
            found.append(pairs[:count].copy())
        return found

    def _in_threads(self, work: Callable[[int, int], Any]) -> Iterator[tuple[int, int, Any]]:
        """Do work on parts of the sequences, some letters each; the results come in order."""
        size, first = len(self.offsets) - 1, 0
        waiting: deque[tuple[int, int, Future[Any]]] = deque()
        with ThreadPoolExecutor(self.num_threads, "containment") as pool:
            while first < size or waiting:
                while first < size and len(waiting) < 2 * self.num_threads:
                    end = self.offsets[first] + _CHUNK
                    last = min(max(int(np.searchsorted(self.offsets, end)), first + 1), size)
                    waiting.append((first, last, pool.submit(work, first, last)))
                    first = last
                start, stop, future = waiting.popleft()
                yield start, stop, future.result()

    def _show(self, shown: ReadingProgress, first: int, last: int) -> None:
        end = int(self.offsets[last])
        shown.update(end, last - first, end - int(self.offsets[first]))

    def _note(self, *tables: Any) -> None:
        """Remember how many bytes there are at most."""


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _power(least: float) -> int:
    """The power of two that is not less."""
    return 1 << max(int(np.ceil(np.log2(max(least, 1)))), 0)
