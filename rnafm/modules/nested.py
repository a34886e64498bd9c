"""The best nested structure: every base in one pair at most, and no two pairs that cross."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

_MAX_CELLS = 2**24  # of the table: 128 MiB


def nested(
    pairs: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    thresholds: Sequence[float],
    length: int,
) -> list[NDArray[np.int64]]:
    """Maximum expected accuracy: the nested pairs with the largest sum of p - threshold.

    A pair of probability p is expected to add p right and 1 - p wrong pairs. Where a right one is
    worth gamma and a wrong one costs 1, it is worth gamma p - (1 - p), which is proportional to
    p - 1 / (1 + gamma): the threshold is 1 / (1 + gamma), 0.5 for gamma 1. (Knudsen & Hein 2003;
    Hamada et al. 2009, whose gamma-centroid estimator has this threshold.)

    The recurrence is Nussinov's. Its two inner loops, over starts and over partners, are numpy's;
    the outer one, over ends, serves all thresholds together. Time O(L E), where E pairs
    are above the lowest threshold, at most O(L^3); memory O(L^2) for each threshold.

    Args:
        pairs: Candidates i < j, (E, 2).
        probabilities: Theirs, (E,).
        thresholds: Each gives one structure.
        length: Number of nucleotides, L.

    Returns:
        The chosen candidates, as numbers into ``pairs``, for each threshold.
    """
    step = max(1, _MAX_CELLS // (length + 1) ** 2)
    order = np.argsort(pairs[:, 1], kind="stable")
    lefts, rights = pairs[order].T
    bounds = np.searchsorted(rights, np.arange(length + 1))
    found = []
    for first in range(0, len(thresholds), step):
        gains = probabilities[order] - np.array(thresholds[first : first + step])[:, None]
        gains[gains <= 0] = -np.inf
        table = _fill(lefts, bounds, gains, length)
        found += [
            order[np.fromiter(_trace(table[number], lefts, bounds, gain), np.int64)]
            for number, gain in enumerate(gains)
        ]
    return found


def _fill(
    lefts: NDArray[np.int64], bounds: NDArray[np.int64], gains: NDArray[np.float64], length: int
) -> NDArray[np.float64]:
    """Best sums: ``[c, end, start]`` is that of nucleotides start to end - 1, -inf if start > end.

    Starts are last, so that the inner loop runs over neighbours in memory.
    """
    best = np.full((len(gains), length + 1, length + 1), -np.inf)
    best[:, 0, 0] = 0.0
    for last in range(length):
        row = best[:, last + 1]
        row[:, : last + 1] = best[:, last, : last + 1]  # the last nucleotide stays unpaired
        row[:, last + 1] = 0.0
        here = slice(bounds[last], bounds[last + 1])
        left = lefts[here]
        if len(left):
            stop = left[-1] + 1
            closed = best[:, last, left + 1] + gains[:, here]
            options = best[:, left, :stop] + closed[:, :, None]
            np.maximum(row[:, :stop], options.max(axis=1), out=row[:, :stop])
    return best


def _trace(
    best: NDArray[np.float64],
    lefts: NDArray[np.int64],
    bounds: NDArray[np.int64],
    gains: NDArray[np.float64],
) -> Iterator[int]:
    """Numbers of the pairs behind the sum of the whole sequence."""
    stack = [(0, len(best) - 1)]
    while stack:
        start, end = stack.pop()
        while end > start:
            if best[end, start] == best[end - 1, start]:
                end -= 1
                continue
            here = slice(bounds[end - 1], bounds[end])
            left = lefts[here]
            options = best[left, start] + (best[end - 1, left + 1] + gains[here])
            chosen = int(options.argmax())
            yield int(bounds[end - 1]) + chosen
            stack.append((int(left[chosen]) + 1, end - 1))
            end = int(left[chosen])
