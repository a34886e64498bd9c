"""Scores of each class from counts per sequence, so that resampling them is fast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def confusion_counts(
    labels: NDArray[np.integer], predictions: NDArray[np.integer], num_classes: int
) -> NDArray[np.int64]:
    """How often each class (row) was predicted as each class (column), int (C, C).

    Args:
        labels: True classes, (n,); negative ones are missing and left out.
        predictions: Predicted classes, (n,).
        num_classes: Number of classes C.
    """
    known = labels >= 0
    both = labels[known].astype(np.int64) * num_classes + predictions[known]
    return np.bincount(both, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_scores(
    labels: Sequence[NDArray[np.integer]],
    predictions: Sequence[NDArray[np.integer]],
    names: Sequence[str],
) -> ClassScores:
    """Count what precision, recall and F1 of each class are made from.

    Args:
        labels: True classes of each sequence: () or (L,); negative ones are missing.
        predictions: Predicted classes, of the same shapes.
        names: Names of the classes.
    """
    actual, predicted, right = np.zeros((3, len(labels), len(names)))
    for row, (label, prediction) in enumerate(zip(labels, predictions, strict=True)):
        truth, found = np.atleast_1d(label), np.atleast_1d(prediction)
        truth, found = truth[truth >= 0], found[truth >= 0]
        np.add.at(actual[row], truth, 1)
        np.add.at(predicted[row], found, 1)
        np.add.at(right[row], truth[truth == found], 1)
    return ClassScores(names, right, predicted, actual)


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of each class against all others.

    Args:
        names: Names of the classes, C.
        right: How often each class was predicted rightly in each sequence, (B, C).
        predicted: How often it was predicted, (B, C).
        actual: How often it occurs, (B, C).
    """

    names: Sequence[str]
    right: NDArray[np.float64]
    predicted: NDArray[np.float64]
    actual: NDArray[np.float64]

    def __call__(self, indices: NDArray[np.int64]) -> dict[str, float]:
        """Scores over some sequences, int (n,) with repeats, by ``"class/score"``.

        Precision of a class that is never predicted, recall of one that does not occur, and F1 of
        one that does neither are NaN.
        """
        weights = np.bincount(indices, minlength=len(self.actual)).astype(np.float64)
        right, predicted, actual = (
            weights @ counts for counts in (self.right, self.predicted, self.actual)
        )
        with np.errstate(invalid="ignore"):
            scores = {
                "precision": right / predicted,
                "recall": right / actual,
                "f1": 2 * right / (predicted + actual),
            }
        return {
            f"{name}/{score}": float(values[number])
            for score, values in scores.items()
            for number, name in enumerate(self.names)
        }
