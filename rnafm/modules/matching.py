"""Choices among candidate pairs that may cross, so that pseudoknots are possible."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PARTNERS = 8  # candidates of a base that a matching looks at
_STEPS = 2**32  # weights as integers: then networkx is exact


def greedy(
    pairs: NDArray[np.int64], probabilities: NDArray[np.float64], thresholds: Sequence[float]
) -> list[NDArray[np.int64]]:
    """From the most probable pair down, each base once; of equals the first in order of (i, j).

    Args:
        pairs: Candidates i < j, sorted, (E, 2).
        probabilities: Theirs, (E,).
        thresholds: Each gives one structure. What is chosen above one threshold does not depend on
            less probable pairs, so one pass serves all.

    Returns:
        The chosen candidates, as numbers into ``pairs``, for each threshold.
    """
    taken: set[int] = set()
    chosen = []
    order = np.argsort(-probabilities, kind="stable")
    for number, (i, j) in zip(order.tolist(), pairs[order].tolist(), strict=True):
        if i not in taken and j not in taken:
            taken |= {i, j}
            chosen.append(number)
    kept = np.array(chosen, np.int64)
    return [kept[probabilities[kept] > threshold] for threshold in thresholds]


def matching(
    pairs: NDArray[np.int64], probabilities: NDArray[np.float64], thresholds: Sequence[float]
) -> list[NDArray[np.int64]]:
    """Each base once, with the largest sum of p - threshold (Edmonds' blossoms, networkx).

    Groups of bases that share no candidate are solved apart. Of each base only the most probable
    candidates take part, :data:`PARTNERS` at most: before a network has learned anything, all are
    above a low threshold, and the time is cubic.

    Args:
        pairs: Candidates i < j, (E, 2).
        probabilities: Theirs, (E,).
        thresholds: Each gives one structure.

    Returns:
        The chosen candidates, as numbers into ``pairs``, for each threshold.
    """
    import networkx as nx

    found = []
    for threshold in thresholds:
        graph = nx.Graph()
        above = _likely(pairs, probabilities, threshold)
        weights = np.rint((probabilities[above] - threshold) * _STEPS).astype(np.int64)
        for number, (i, j), weight in zip(
            above.tolist(), pairs[above].tolist(), weights.tolist(), strict=True
        ):
            graph.add_edge(i, j, weight=weight, number=number)
        chosen = [
            graph.edges[edge]["number"]
            for group in nx.connected_components(graph)
            for edge in nx.max_weight_matching(graph.subgraph(group))
        ]
        found.append(np.array(chosen, np.int64))
    return found


def _likely(
    pairs: NDArray[np.int64], probabilities: NDArray[np.float64], threshold: float
) -> NDArray[np.int64]:
    """Numbers of the candidates above a threshold that are among the best of one of their bases."""
    above = np.flatnonzero(probabilities > threshold)
    order = above[np.argsort(-probabilities[above], kind="stable")]
    seen: Counter[int] = Counter()
    kept = []
    for number, (i, j) in zip(order.tolist(), pairs[order].tolist(), strict=True):
        if min(seen[i], seen[j]) < PARTNERS:
            kept.append(number)
        seen[i] += 1
        seen[j] += 1
    return np.sort(np.array(kept, np.int64))


def one_sided(
    pairs: NDArray[np.int64], probabilities: NDArray[np.float64], thresholds: Sequence[float]
) -> list[NDArray[np.int64]]:
    """All pairs above the threshold, less the conflicts that sinc-lab's published rule sees.

    Where the left base of a pair is the right base of others, only the most probable of them all
    stays, of equals the first (``mat2bp`` of sinc-lab/rna-llm-folding). Pairs that share a left
    base, or a right base, all stay, so that most results are no structures.

    Args:
        pairs: Candidates i < j, sorted, (E, 2).
        probabilities: Theirs, (E,).
        thresholds: Each gives one list of pairs.

    Returns:
        The chosen candidates, as numbers into ``pairs``, for each threshold.
    """
    found = []
    length = pairs.max(initial=-1) + 1
    for threshold in thresholds:
        above = np.flatnonzero(probabilities > threshold)
        values, (lefts, rights) = probabilities[above], pairs[above].T
        best_left, best_right = np.zeros((2, length))  # of the pairs that have a base there
        np.maximum.at(best_left, lefts, values)
        np.maximum.at(best_right, rights, values)
        firsts = np.flatnonzero(values == best_right[rights])
        firsts = firsts[np.unique(rights[firsts], return_index=True)[1]]  # of equals the first
        stays = best_left[rights] == 0  # no conflict at the right base
        stays[firsts] |= values[firsts] >= best_left[rights[firsts]]
        found.append(above[stays & (values > best_right[lefts])])
    return found
