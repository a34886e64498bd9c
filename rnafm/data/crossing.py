"""Which base pairs cross, the largest part that does not, and the loops that it closes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def crossing(pairs: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which pairs cross another one: ``i < k < j < l``.

    Pairs that share a nucleotide do not cross for that. O(L log L) in time, by the farthest and
    nearest partners of the nucleotides inside of each pair.

    Args:
        pairs: The pairs, (P, 2), ``i < j``, in any order.

    Returns:
        bool (P,).
    """
    found = np.zeros(len(pairs), np.bool_)
    if not len(pairs):
        return found
    i, j = np.asarray(pairs, np.int64).T
    size = int(j.max()) + 1
    high, low = np.full(size, -1), np.full(size, size)
    for one, other in ((i, j), (j, i)):
        np.maximum.at(high, one, other)
        np.minimum.at(low, one, other)
    inside = j - i - 1
    width = 1
    while width < size:  # high and low: over `width` nucleotides from each one on
        rows = np.flatnonzero((inside >= width) & (inside < 2 * width))
        first, last = i[rows] + 1, j[rows] - width
        found[rows] = (np.maximum(high[first], high[last]) > j[rows]) | (
            np.minimum(low[first], low[last]) < i[rows]
        )
        high = np.maximum(high[:-width], high[width:])
        low = np.minimum(low[:-width], low[width:])
        width *= 2
    return found


def is_nested(pairs: NDArray[np.integer]) -> bool:
    """Whether no pair crosses another one."""
    return not crossing(pairs).any()


def largest_nested(pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The largest set of pairs that do not cross; of equal ones that with the later pairs.

    So do the page numbers of bpRNA, all but a few. Pairs that cross nothing are always in it.
    Those that do are taken as stems, and the best set of stems is found by dynamic programming over
    their ends, O(stems squared) in time and memory.

    Args:
        pairs: The pairs, (P, 2), ``i < j``, sorted, without multiplets.

    Returns:
        Which pairs are in the set, bool (P,).
    """
    if _opens_and_closes(pairs):  # most structures: ten times faster than to look for crossings
        return np.ones(len(pairs), np.bool_)
    chosen = ~crossing(pairs)
    rows = np.flatnonzero(~chosen)
    if not len(rows):
        return chosen
    i, j = np.searchsorted(np.sort(pairs[rows], axis=None), pairs[rows]).T
    starts = np.ones(len(rows), np.bool_)
    starts[1:] = (np.diff(i) != 1) | (np.diff(j) != -1)
    stem_of_row = np.cumsum(starts) - 1
    ends = np.stack([i[starts], j[starts]], axis=1)
    ranks = np.searchsorted(np.sort(ends, axis=None), ends)
    stems = _best_stems(ranks, np.bincount(stem_of_row))
    chosen[rows] = stems[stem_of_row]
    return chosen


def _opens_and_closes(pairs: NDArray[np.int64]) -> bool:
    """Whether each pair ends within the one that it starts in; for pairs without multiplets."""
    ends: list[int] = []
    for i, j in pairs.tolist():
        while ends and ends[-1] < i:
            ends.pop()
        if ends and ends[-1] < j:
            return False
        ends.append(j)
    return True


def _best_stems(ends: NDArray[np.intp], weights: NDArray[np.intp]) -> NDArray[np.bool_]:
    """The heaviest set of stems that do not cross; ``ends`` are 0 to 2 S - 1, each once."""
    count = 2 * len(ends)
    stem_at = np.full(count, -1)
    stem_at[ends[:, 0]] = np.arange(len(ends))
    best = np.zeros((count + 1, count + 1), np.int32)  # [a, b]: weight within ends a to b - 1
    for a in range(count - 1, -1, -1):
        best[a] = best[a + 1]
        if (stem := stem_at[a]) >= 0:
            p = ends[stem, 1]
            taken = weights[stem] + best[a + 1, p] + best[p + 1, p + 1 :]
            np.maximum(best[a, p + 1 :], taken, out=best[a, p + 1 :])
    chosen = np.zeros(len(ends), np.bool_)
    spans = [(0, count)]
    while spans:
        a, b = spans.pop()
        while a < b:
            if best[a, b] > best[a + 1, b]:  # only with the stem that starts here
                stem = stem_at[a]
                chosen[stem] = True
                spans.append((a + 1, int(ends[stem, 1])))
                a = int(ends[stem, 1])
            a += 1
    return chosen


def loop_types(pairs: NDArray[np.int64], length: int) -> str:
    """The kind of loop that each nucleotide is in, in the letters of bpRNA.

    S stem, H hairpin, B bulge, I interior loop, M multiloop, X exterior loop between stems, E
    dangling end. Only the largest set of pairs that do not cross counts; others are unpaired, as
    in bpRNA, which calls that set page 1.

    Args:
        pairs: The pairs, (P, 2), ``i < j``, sorted, without multiplets.
        length: Number of nucleotides.

    Returns:
        One letter for each nucleotide.
    """
    nested = pairs[largest_nested(pairs)].tolist()
    partner = dict(nested)
    letters = ["S"] * length
    for i, j in nested:
        branches, free = _walk(i + 1, j, partner)
        if not branches:
            kind = "H"
        elif len(branches) > 1:
            kind = "M"
        else:
            first, last = branches[0]
            kind = "I" if i + 1 < first and last + 1 < j else "B"
        for base in free:
            letters[base] = kind
    branches, free = _walk(0, length, partner)
    for base in free:
        between = branches and branches[0][0] < base < branches[-1][1]
        letters[base] = "X" if between else "E"
    return "".join(letters)


def _walk(base: int, stop: int, partner: dict[int, int]) -> tuple[list[tuple[int, int]], list[int]]:
    """Pairs that branch off between two nucleotides, and what is unpaired between them."""
    branches, free = [], []
    while base < stop:
        if base in partner:
            branches.append((base, partner[base]))
            base = partner[base]
        else:
            free.append(base)
        base += 1
    return branches, free
