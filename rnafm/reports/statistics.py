"""The scores of an objective over any sequences, fast enough to resample them.

Names and values are those of `Objective.scores` on all labels of these sequences, each as many
times as its sequence is drawn.
"""

from __future__ import annotations

import math
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnafm.reports.weighted import Decisions, Gaps, Ranking, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from rnafm.data.labels import LabelSpec
    from rnafm.reports.weighted import Floats, Integers

    Scores = dict[str, float]
    Weighted = Callable[[Floats], Scores]  # takes how often each sequence counts, (B,)

MANY_LABELS = 20_000  # with more of them, fewer resamples do


def statistics_of(
    spec: LabelSpec, predictions: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]]
) -> Callable[[NDArray[np.int64]], Scores]:
    """Make the function that scores sequences, given their numbers, int64 (n,), with repeats.

    A flag alone is scored like `Binary`, or like `Multilabel` if it has a name of its own.

    Args:
        spec: What the labels are.
        predictions: Of each sequence, values or probabilities, (L, C); L is 1 where the sequence
            as a whole has a label.
        labels: Of each sequence, classes, int (L,), negative where missing; or values or flags,
            float (L, C), NaN where missing.

    Raises:
        ValueError: If labels and predictions do not belong together, or labels are base pairs.
    """
    if spec.kind == "pairs":
        raise ValueError(
            "labels (pairs): are not scored over all sequences together; score each structure, and "
            "give the report an array for each score"
        )
    for row, (values, label) in enumerate(zip(predictions, labels, strict=True)):
        needed = (len(label), spec.num_outputs)
        if values.shape != needed or label.shape != needed[: 1 if spec.kind == "class" else 2]:
            raise ValueError(
                f"predictions ({values.shape}) of sequence {row}: its labels are {label.shape}; "
                f"give {needed}"
            )
    return _Statistics(spec, predictions, labels)


class _Part(NamedTuple):
    """Some of the sequences, made ready."""

    rows: Integers
    held: NDArray[np.bool_]
    scores: Weighted


class _Statistics:
    """What `statistics_of` gives. The last small group is kept for the resamples that follow."""

    def __init__(
        self, spec: LabelSpec, predictions: Sequence[NDArray[Any]], labels: Sequence[NDArray[Any]]
    ) -> None:
        self._spec, self._predictions, self._labels = spec, predictions, labels
        self._all = self._prepare(np.arange(len(labels)))
        self._group = self._prepare(np.arange(0))

    def __call__(self, indices: Integers) -> Scores:
        """All scores, by name."""
        weights = np.bincount(indices, minlength=len(self._labels)).astype(np.float64)
        if len(weights) > len(self._labels):
            raise ValueError(
                f"number of a sequence ({len(weights) - 1}): there are {len(self._labels)}; count "
                "them from 0"
            )
        if 2 * len(indices) > len(self._labels):
            return self._all.scores(weights)
        rows = np.flatnonzero(weights)
        if not self._group.held[rows].all():
            self._group = self._prepare(rows)
        return self._group.scores(weights[self._group.rows])

    def _prepare(self, rows: Integers) -> _Part:
        held = np.zeros(len(self._labels), bool)
        held[rows] = True
        labels = [self._labels[row] for row in rows.tolist()]
        values = [self._predictions[row] for row in rows.tolist()]
        empty = np.zeros((0, self._spec.num_outputs))  # also makes float64 of the others
        no_label = np.zeros(0, np.int64) if self._spec.kind == "class" else empty
        scores = {"value": _Values, "class": _Classes, "flag": _Flags}[self._spec.kind](
            self._spec,
            np.concatenate([empty, *values]),
            np.concatenate([no_label, *labels]),
            np.repeat(np.arange(len(rows)), [len(label) for label in labels]),
        )
        return _Part(rows, held, scores)


class _Values:
    """Scores of `Regression`."""

    def __init__(
        self, spec: LabelSpec, predictions: Floats, labels: Floats, sequence: Integers
    ) -> None:
        self._names = spec.output_names
        self._outputs = [
            Value(predictions[known, i], labels[known, i], sequence[known])
            for i, known in enumerate(~np.isnan(labels.T))
        ]

    def __call__(self, weights: Floats) -> Scores:
        single, labelled, varied = zip(*(output(weights) for output in self._outputs), strict=True)
        scores = {}
        for key in single[0]:
            counted = labelled if key in ("mse", "rmse") else varied
            mean = _mean((output[key] for output in single), counted)
            scores["mcrmse" if key == "rmse" else key] = mean
        if len(self._names) > 1:
            for name, output in zip(self._names, single, strict=True):
                scores |= {f"{key}/{name}": value for key, value in output.items()}
        return scores


class _Classes:
    """Scores of `Multiclass`."""

    def __init__(
        self, spec: LabelSpec, predictions: Floats, labels: Integers, sequence: Integers
    ) -> None:
        known = labels >= 0
        predictions, labels, sequence = predictions[known], labels[known], sequence[known]
        self._names = spec.output_names
        self._decisions = Decisions(
            predictions.argmax(axis=1),
            labels,
            spec.num_outputs,
            sequence,
            Gaps(predictions, sequence),
        )
        self._rankings = [
            Ranking(column, labels == number, sequence)
            for number, column in enumerate(predictions.T)
        ]

    def __call__(self, weights: Floats) -> Scores:
        scores, f1, actual, _ = self._decisions(weights)
        varied = (actual > 0) & (actual < actual.sum())
        single = [ranking(weights) for ranking in self._rankings]
        for key in ("auroc", "auprc"):
            scores[key] = _mean((output[key] for output in single), varied)
        return scores | _by_name(f1, self._names)


class _Flags:
    """Scores of `Binary`, or of `Multilabel`."""

    def __init__(
        self, spec: LabelSpec, predictions: Floats, labels: Floats, sequence: Integers
    ) -> None:
        self._binary = spec.num_outputs == 1 and len(spec.names) != 1
        self._names = (spec.names or ("0", "1")) if self._binary else spec.output_names
        self._outputs = []
        for column, truth in zip(predictions.T, labels.T, strict=True):
            known = truth >= 0
            chances, flags, own = column[known], truth[known].astype(np.int64), sequence[known]
            decided = (chances > 1 - chances).astype(np.int64)
            decisions = Decisions(decided, flags, 2, own, Gaps(chances, own))
            self._outputs.append((decisions, Ranking(chances, flags > 0, own)))

    def __call__(self, weights: Floats) -> Scores:
        decided = [decisions(weights) for decisions, _ in self._outputs]
        single = [
            found.scores | ranking(weights)
            for found, (_, ranking) in zip(decided, self._outputs, strict=True)
        ]
        if self._binary:
            return single[0] | _by_name(decided[0].f1, self._names)
        f1 = [found.f1[1] for found in decided]
        labelled = [found.actual.any() for found in decided]
        varied = [bool(found.actual.all()) for found in decided]
        total = sum(found.actual.sum() for found in decided)
        gaps = any(map(math.isnan, compress((s["accuracy"] for s in single), labelled)))
        right = sum(found.right.sum() for found in decided)
        scores = {
            "accuracy": math.nan if gaps or not total else float(right / total),
            "macro_f1": _mean(f1, (found.actual[1] > 0 for found in decided)),
        }
        for key in ("mcc", "auroc", "auprc"):
            scores[key] = _mean((output[key] for output in single), varied)
        return scores | _by_name(f1, self._names)


def _mean(values: Iterable[float], counted: Iterable[bool]) -> float:
    """Mean over the outputs that the labels allow to score; NaN without any."""
    chosen = list(compress(values, counted))
    return float(sum(chosen) / len(chosen)) if chosen else math.nan


def _by_name(f1: Iterable[float], names: Iterable[str]) -> Scores:
    return {f"f1/{name}": float(value) for name, value in zip(names, f1, strict=True)}
