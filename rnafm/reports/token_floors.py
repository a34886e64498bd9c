"""Floors for labels of every nucleotide: what the letter, or its neighbours, alone say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.reports.floors import Floor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BLOCK = 1 << 14  # positions whose windows are held at once: 7 MB of nucleotides


def letter_model(
    train_sequences: Sequence[Sequence[str]],
    train_labels: Sequence[NDArray[Any]],
    test_sequences: Sequence[Sequence[str]],
    num_classes: int | None = None,
) -> Floor:
    """Predict for each nucleotide what training nucleotides of the same letter have.

    Args:
        train_sequences: Sequences; text, or lists of codons where those are labelled.
        train_labels: Classes, int (L,), negative where missing (shares of the classes are
            predicted), or values or flags, float (L, C), NaN where missing (means).
        test_sequences: Sequences to predict.
        num_classes: Number of classes; without it, those that occur.

    Returns:
        Predictions (L, C) for each sequence. A letter without a label gets the overall mean.
    """
    targets = _targets(train_labels, num_classes)
    alphabet = sorted({letter for sequence in train_sequences for letter in sequence})
    codes = np.concatenate([_codes(sequence, alphabet) for sequence in train_sequences])
    values = np.concatenate(targets)
    known = ~np.isnan(values)
    sums, counts = np.zeros((2, len(alphabet) + 1, values.shape[1]))
    np.add.at(sums, codes, np.where(known, values, 0))
    np.add.at(counts, codes, known)
    with np.errstate(invalid="ignore"):
        means = np.where(counts, sums / counts, sums.sum(0) / counts.sum(0))
    predictions = [means[_codes(sequence, alphabet)] for sequence in test_sequences]
    about = f"mean of each letter over {int(known.any(1).sum()):,} labelled training positions"
    return Floor("per-letter mean", about, predictions)


def window_model(
    train_sequences: Sequence[Sequence[str]],
    train_labels: Sequence[NDArray[Any]],
    test_sequences: Sequence[Sequence[str]],
    num_classes: int | None = None,
    radius: int = 12,
    alpha: float = 10.0,
) -> Floor:
    """Ridge regression on the letters up to 12 positions to either side, one-hot.

    Solved exactly from the normal equations, so all training rows are used. Classes are regressed
    on as 0 and 1, and clipped to probabilities.

    Args:
        train_sequences: As for `letter_model`.
        train_labels: As for `letter_model`.
        test_sequences: Sequences to predict.
        num_classes: Number of classes; without it, those that occur.
        radius: Positions seen to either side.
        alpha: Ridge penalty on the weights, not on the constant.
    """
    targets = np.concatenate(_targets(train_labels, num_classes))
    alphabet = sorted({letter for sequence in train_sequences for letter in sequence})
    inputs = _Windows(train_sequences, alphabet, radius)
    known = ~np.isnan(targets)
    weights = np.full((inputs.size, targets.shape[1]), np.nan)
    patterns: dict[bytes, list[int]] = {}
    for column in range(targets.shape[1]):
        patterns.setdefault(known[:, column].tobytes(), []).append(column)
    for columns in patterns.values():  # one, unless the columns miss different positions
        rows = np.flatnonzero(known[:, columns[0]])
        squares, products = np.zeros((inputs.size,) * 2), np.zeros((inputs.size, len(columns)))
        for some in np.array_split(rows, len(rows) // _BLOCK + 1):
            block = inputs.of(some)
            squares += block.T @ block
            products += block.T @ targets[some][:, columns]
        penalty = np.diag([*[alpha] * (inputs.size - 1), 1e-9])
        if len(rows):
            weights[:, columns] = np.linalg.solve(squares + penalty, products)
    tests = _Windows(test_sequences, alphabet, radius)
    found = np.concatenate(
        [
            tests.of(some) @ weights
            for some in np.array_split(np.arange(len(tests)), len(tests) // _BLOCK + 1)
        ]
    )
    if _are_classes(train_labels):
        found = np.clip(found, 1e-6, None)
        found /= found.sum(1, keepdims=True)
    about = (
        f"ridge regression on one-hot letters up to {radius} to either side, "
        f"{int(known.any(1).sum()):,} labelled training positions"
    )
    ends = np.cumsum([len(sequence) for sequence in test_sequences])
    return Floor("window model", about, np.split(found, ends[:-1]))


class _Windows:
    """One-hot letters around every position of all sequences, made block by block."""

    def __init__(
        self, sequences: Sequence[Sequence[str]], alphabet: Sequence[str], radius: int
    ) -> None:
        nothing = np.full(radius, len(alphabet))
        codes = [part for s in sequences for part in (nothing, _codes(s, alphabet))]
        self.codes = np.concatenate([*codes, nothing])
        lengths = np.array([len(sequence) for sequence in sequences], np.int64)
        gaps = np.repeat(radius * np.arange(1, len(lengths) + 1), lengths)
        self.positions = np.arange(lengths.sum()) + gaps
        self.offsets = np.arange(-radius, radius + 1)
        self.one_hot = np.eye(len(alphabet) + 1, len(alphabet), dtype=np.float32)
        self.size = len(self.offsets) * len(alphabet) + 1

    def __len__(self) -> int:
        return len(self.positions)

    def of(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Letters around some positions, and a constant 1, (rows, size)."""
        letters = self.one_hot[self.codes[self.positions[rows, None] + self.offsets]]
        ones = np.ones((len(rows), 1), np.float32)
        return np.concatenate([letters.reshape(len(rows), -1), ones], axis=1)


def _codes(sequence: Sequence[str], alphabet: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of the letters, (L,); one more than the last for letters of no training row."""
    numbers = {letter: number for number, letter in enumerate(alphabet)}
    return np.array([numbers.get(letter, len(alphabet)) for letter in sequence], np.int64)


def _are_classes(labels: Sequence[NDArray[Any]]) -> bool:
    return np.issubdtype(labels[0].dtype, np.integer)


def _targets(labels: Sequence[NDArray[Any]], num_classes: int | None) -> list[NDArray[np.float64]]:
    """Labels as float (L, C), NaN where missing; classes as 0 and 1."""
    if not _are_classes(labels):
        return [np.asarray(label, np.float64) for label in labels]
    width = max([num_classes or 0, *(int(label.max(initial=0)) + 1 for label in labels)])
    table = np.concatenate([np.eye(width), np.full((1, width), np.nan)])
    return [table[np.where(label >= 0, label, -1)] for label in labels]
