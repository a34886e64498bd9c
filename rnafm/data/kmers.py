"""Shared k-mers: which of many sequences a sequence is like, without an alignment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnafm.data.counter import mix

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_OTHER = 4  # neither A, C, G nor U
_DIGITS = np.full(256, _OTHER, np.uint8)
_DIGITS[list(b"ACGU")] = range(4)
_SHORTEST, _LONGEST = 8, 11
_BLOCK = 1 << 21  # counts or letters that are worked on at a time; larger ones are slower


def normalise(sequences: Sequence[str]) -> list[str]:
    """In upper case and with U for T: what equality of sequences means here."""
    return [sequence.upper().replace("T", "U") for sequence in sequences]


def choose_k(sequences: Sequence[str]) -> int:
    """Length of k-mers, 8 to 11: a sequence of median length has one by chance in 1 of 100 cases.

    This is 8 up to 655 nucleotides, 9 up to 2,621, 10 up to 10,485.
    """
    median = float(np.median([len(sequence) for sequence in sequences])) if sequences else 0.0
    return next((k for k in range(_SHORTEST, _LONGEST) if 4**k >= 100 * median), _LONGEST)


class KmerSets(NamedTuple):
    """The distinct k-mers of every sequence, as numbers to the base of 4."""

    codes: NDArray[np.int32]
    """Those of the first sequence in ascending order, those of the second, ..., (M,)."""
    owners: NDArray[np.int32]
    """Number of the sequence of each, (M,)."""
    sizes: NDArray[np.int64]
    """How many each sequence has, (n,)."""


def kmer_sets(sequences: Sequence[str], k: int, most: int | None = None) -> KmerSets:
    """Distinct k-mers of normalised sequences; those with letters other than A, C, G, U are none.

    Args:
        sequences: Upper case, U for T.
        k: Number of letters, at most 15.
        most: Longer sequences are stood for by so many of their k-mers, chosen by hash.
    """
    codes, owners = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    sizes = np.zeros(len(sequences), np.int64)
    for start, stop in _blocks(np.array([len(s) + 1 for s in sequences], np.int64)):
        keys = _distinct(sequences[start:stop], k)
        owner = keys >> (2 * k)
        if most is not None:
            order = np.lexsort((mix((keys & (4**k - 1)).astype(np.uint64)), owner))
            first = np.searchsorted(owner, owner)  # lexsort leaves the owners in their order
            keys = np.sort(keys[order][np.arange(len(keys)) - first < most])
            owner = keys >> (2 * k)
        sizes[start:stop] = np.bincount(owner, minlength=stop - start)
        codes.append((keys & (4**k - 1)).astype(np.int32))
        owners.append((owner + start).astype(np.int32))
    return KmerSets(np.concatenate(codes), np.concatenate(owners), sizes)


class KmerIndex:
    """Looks up which sequences have a k-mer.

    Memory: 20 bytes per k-mer of a sequence while it is made, 4 after that, and blocks of 16 MB.

    Args:
        sets: K-mers of the sequences that are looked up.
        k: Their number of letters.
    """

    def __init__(self, sets: KmerSets, k: int) -> None:
        order = np.argsort(sets.codes, kind="stable")
        self._rows = sets.owners[order]
        self._starts = np.zeros(4**k + 1, np.int64)
        np.cumsum(np.bincount(sets.codes, minlength=4**k), out=self._starts[1:])
        self.num_sequences = len(sets.sizes)

    def shared(self, queries: KmerSets) -> Iterator[tuple[slice, NDArray[np.int64]]]:
        """Numbers of k-mers that queries share with every indexed sequence, block by block.

        Yields:
            Which queries, and the numbers, int64 (queries of the block, indexed sequences).
        """
        ends = np.cumsum(queries.sizes)
        hits = self._starts[queries.codes + 1] - self._starts[queries.codes]
        total = np.concatenate([[0], np.cumsum(hits)])
        of_query = total[ends] - total[ends - queries.sizes]
        for start, stop in _blocks(np.maximum(of_query, self.num_sequences)):
            part = slice(ends[start] - queries.sizes[start], ends[stop - 1])
            count = hits[part]
            before = np.cumsum(count) - count
            places = np.repeat(self._starts[queries.codes[part]] - before, count)
            rows = self._rows[places + np.arange(len(places))].astype(np.int64)
            rows += np.repeat((queries.owners[part] - np.int64(start)) * self.num_sequences, count)
            shape = (stop - start, self.num_sequences)
            yield (
                slice(start, stop),
                np.bincount(rows, minlength=shape[0] * shape[1]).reshape(shape),
            )


def _distinct(sequences: Sequence[str], k: int) -> NDArray[np.int64]:
    """``owner * 4**k + code`` of the distinct k-mers, ascending."""
    # The separator is no nucleotide, so no k-mer reaches over the end of a sequence.
    text = "\n".join([*sequences, ""]).encode("ascii", "replace")
    digits = _DIGITS[np.frombuffer(text, np.uint8)]
    lengths = np.array([len(sequence) + 1 for sequence in sequences], np.int64)
    num_windows = max(len(digits) - k + 1, 0)
    keys = np.repeat(np.arange(len(sequences)), lengths)[:num_windows]
    plain = np.ones(num_windows, np.bool_)
    for place in range(k):
        digit = digits[place : place + num_windows]
        keys = 4 * keys + digit
        plain &= digit != _OTHER
    keys = np.sort(keys[plain])  # numpy's unique, a hash table, takes five times as long
    return keys[np.diff(keys, prepend=-1) > 0]


def _blocks(costs: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of neighbours that cost at most a block together, or are a single one."""
    ends = np.cumsum(costs)
    start = 0
    while start < len(costs):
        limit = (ends[start - 1] if start else 0) + _BLOCK
        stop = max(int(np.searchsorted(ends, limit, "right")), start + 1)
        yield start, stop
        start = stop
