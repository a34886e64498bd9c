"""Scores of one output over labels of which each counts as often as its sequence is drawn.

What does not depend on the counts, above all sorting, is done once. The definitions are those of
`rnafm.tasks.scores`: NaN where a score is undefined.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]


class Gaps:
    """Sequences with a prediction that is no finite number: no score of them is defined.

    Args:
        predictions: (n,) or (n, C).
        sequence: Number of the sequence that each is of, (n,).
    """

    def __init__(self, predictions: Floats, sequence: Integers) -> None:
        finite = np.isfinite(predictions)
        broken = ~(finite.all(axis=1) if predictions.ndim > 1 else finite)
        self._sequences = np.unique(sequence[broken])

    def __call__(self, weights: Floats) -> bool:
        """Whether one of them counts; see `Value`."""
        return bool(weights[self._sequences].any())


class Decided(NamedTuple):
    """What came of decisions between classes."""

    scores: dict[str, float]  # accuracy, macro_f1, mcc
    f1: Floats  # of each class; NaN where the labels do not have it
    actual: Floats  # labels of each class
    right: Floats  # how many of them were decided rightly


class Decisions:
    """How often the right class was chosen.

    Args:
        decided: Chosen classes, (n,).
        truth: Their labels, (n,).
        num_classes: Number of classes.
        sequence: Number of the sequence that each is of, (n,).
        gaps: Where there was nothing to choose by.
    """

    def __init__(
        self,
        decided: Integers,
        truth: Integers,
        num_classes: int,
        sequence: Integers,
        gaps: Gaps,
    ) -> None:
        cases = (sequence * num_classes + truth) * num_classes + decided
        _, first, self._times = np.unique(cases, return_index=True, return_counts=True)
        self._decided, self._truth = decided[first], truth[first]
        self._hit = self._decided == self._truth
        self._num_classes, self._sequence, self._gaps = num_classes, sequence[first], gaps

    def __call__(self, weights: Floats) -> Decided:
        """Score; see `Value`."""
        counts = weights[self._sequence] * self._times
        actual, decided, right = (
            np.bincount(classes, times, self._num_classes).astype(np.float64)
            for classes, times in (
                (self._truth, counts),
                (self._decided, counts),
                (self._truth, counts * self._hit),
            )
        )
        f1 = np.full(self._num_classes, math.nan)
        scores = dict.fromkeys(("accuracy", "macro_f1", "mcc"), math.nan)
        total, hits = float(actual.sum()), float(right.sum())
        if not total or self._gaps(weights):
            return Decided(scores, f1, actual, right)
        np.divide(2 * right, actual + decided, out=f1, where=actual > 0)
        spread = total**2 - _dot(actual, actual)
        product = spread * (total**2 - _dot(decided, decided))
        scores["accuracy"] = hits / total
        scores["macro_f1"] = float(f1[actual > 0].mean())
        if product > 0:
            scores["mcc"] = (hits * total - _dot(actual, decided)) / math.sqrt(product)
        elif spread > 0:
            scores["mcc"] = 0.0
        return Decided(scores, f1, actual, right)


class Ranking:
    """How well positives are told from negatives, at no particular threshold.

    Args:
        predictions: Chances of being positive, (n,).
        positive: Which are, bool (n,).
        sequence: Number of the sequence that each is of, (n,).
    """

    def __init__(
        self, predictions: Floats, positive: NDArray[np.bool_], sequence: Integers
    ) -> None:
        self._gaps = Gaps(predictions, sequence)
        order = np.argsort(-predictions, kind="stable")
        ordered = predictions[order]
        new = np.append(True, ordered[1:] != ordered[:-1])[: len(order)]
        begins, threshold = np.flatnonzero(new), np.cumsum(new) - 1
        self._sequence = sequence[order]
        self._positives = np.flatnonzero(positive[order])
        # Equal predictions share a threshold; only those of positives add to either score.
        used, self._starts = np.unique(threshold[self._positives], return_index=True)
        self._begins, self._ends = begins[used], np.append(begins, len(order))[used + 1]

    def __call__(self, weights: Floats) -> dict[str, float]:
        """Score; see `Value`.

        Returns:
            ``auroc``, the chance that a positive is above a negative (ties count half), and
            ``auprc``, the average precision; NaN without positives or negatives.
        """
        undefined = {"auroc": math.nan, "auprc": math.nan}
        if not len(self._positives) or self._gaps(weights):
            return undefined
        counts = weights[self._sequence]
        before = np.zeros(len(counts) + 1)
        np.cumsum(counts, out=before[1:])
        hits = np.add.reduceat(counts[self._positives], self._starts)
        right, found = np.cumsum(hits), before[self._ends]
        positives, negatives = right[-1], before[-1] - right[-1]
        if not positives or not negatives:
            return undefined
        tied = found - before[self._begins] - hits
        below = negatives - (found - right)
        precision = right / np.maximum(found, 1)  # nothing found that counts: no hit either
        return {
            "auroc": _dot(hits, below + tied / 2) / float(positives * negatives),
            "auprc": _dot(hits, precision) / float(positives),
        }


class Value:
    """How close numbers are.

    Args:
        predictions: (n,).
        labels: (n,).
        sequence: Number of the sequence that each is of, (n,).
    """

    def __init__(self, predictions: Floats, labels: Floats, sequence: Integers) -> None:
        self._gaps, self._sequence = Gaps(predictions, sequence), sequence
        self._predictions = np.where(np.isfinite(predictions), predictions, 0)
        self._labels, self._errors = labels, (self._predictions - labels) ** 2
        self._ranked = _Ranks(self._predictions), _Ranks(labels)

    def __call__(self, weights: Floats) -> tuple[dict[str, float], bool, bool]:
        """Score.

        Args:
            weights: How often each sequence counts, whole numbers (B,).

        Returns:
            ``spearman``, ``pearson``, ``r2``, ``mse`` and ``rmse``; whether there are labels; and
            whether they differ.
        """
        counts = weights[self._sequence]
        total = float(counts.sum())
        scores = dict.fromkeys(("spearman", "pearson", "r2", "mse", "rmse"), math.nan)
        if not total:
            return scores, False, False
        ranks, varied = self._ranked[1](counts)
        if self._gaps(weights):
            return scores, True, varied
        residual = _dot(counts, self._errors)
        scores["mse"], scores["rmse"] = residual / total, math.sqrt(residual / total)
        if varied:
            labels = self._labels - _dot(counts, self._labels) / total
            if spread := _dot(counts * labels, labels):  # squares below 1e-308 are 0
                scores["r2"] = 1 - residual / spread
            own_ranks, predictions_vary = self._ranked[0](counts)
            if predictions_vary:
                predictions = self._predictions - _dot(counts, self._predictions) / total
                scores["spearman"] = _correlate(own_ranks, ranks, counts)
                scores["pearson"] = _correlate(predictions, labels, counts)
        return scores, True, varied


class _Ranks:
    """Ranks of values, (n,), sorted once."""

    def __init__(self, values: Floats) -> None:
        distinct, self._place = np.unique(values, return_inverse=True)
        self._num_distinct = len(distinct)

    def __call__(self, counts: Floats) -> tuple[Floats, bool]:
        """Ranks as if each value stood there so often, less their mean; and whether any differ.

        Equal values share the mean of their ranks.
        """
        ties = np.bincount(self._place, counts, self._num_distinct)
        last = np.cumsum(ties)
        ranks = last - (ties + last[-1]) / 2  # those from 1 are last - (ties - 1) / 2
        return ranks[self._place], bool(np.count_nonzero(ties) > 1)


def _correlate(one: Floats, two: Floats, counts: Floats) -> float:
    """Pearson's correlation of values around 0, (n,)."""
    weighted = counts * one
    spread = math.sqrt(_dot(weighted, one)) * math.sqrt(_dot(counts * two, two))
    return min(max(_dot(weighted, two) / spread, -1.0), 1.0) if spread else math.nan


def _dot(one: Floats, two: Floats) -> float:
    """Their product without BLAS, whose threads take longer to meet than to multiply."""
    return float(np.einsum("i,i->", one, two))
