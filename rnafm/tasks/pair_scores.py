"""Scores of predicted base pairs, one sequence at a time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

SCORES = (
    "precision",
    "recall",
    "f1",
    "flexible_precision",
    "flexible_recall",
    "flexible_f1",
    "mcc",
    "pseudoknot_f1",
)


def score_pairs(
    predicted: ArrayLike | Tensor, reference: ArrayLike | Tensor, length: int
) -> dict[str, float]:
    """Compare two sets of base pairs of one sequence.

    With P the predicted and R the reference pairs, tp = |P and R|, and N = L (L - 1) / 2:

    - ``precision`` tp / |P|, ``recall`` tp / |R|, ``f1`` 2 tp / (|P| + |R|): strict, as in sinc-lab
      (Zablocki et al. 2025). 1 where both sets are empty, 0 where one is.
    - ``flexible_precision``: share of P with (i, j), (i +- 1, j) or (i, j +- 1) in R;
      ``flexible_recall``: share of R with one of these in P; ``flexible_f1``: their harmonic mean
      (RiNALMo, after Mathews 2004).
    - ``mcc``: (tp tn - fp fn) / sqrt((tp + fp)(tp + fn)(tn + fp)(tn + fn)) over the upper triangle,
      so that tn = N - tp - fp - fn (Matthews 1975). 1 where P = R, 0 where the root is 0.
    - ``pseudoknot_f1``: F1 of the pairs of P that cross another pair of P and those of R that cross
      another of R. NaN where R has none.

    A base may be in several pairs; a pair that is listed twice counts once.

    Args:
        predicted: P, (P, 2), 0-based; order of pairs and ends does not matter.
        reference: R, (R, 2).
        length: Number of nucleotides, L.

    Returns:
        The scores by name, in the order of :data:`SCORES`.

    Raises:
        ValueError: If a pair is out of range, or a base is paired with itself.

    Examples:
        >>> scores = score_pairs([(0, 9), (1, 8)], [(0, 9), (1, 7)], 10)
        >>> scores["f1"], scores["flexible_f1"]
        (0.5, 1.0)
    """
    found = _encode(predicted, length, "predicted")
    wanted = _encode(reference, length, "reference")
    tp = len(np.intersect1d(found, wanted, assume_unique=True))
    precision, recall, f1 = _shares(tp, len(found), tp, len(wanted))
    flexible = _shares(
        _num_near(found, wanted, length), len(found), _num_near(wanted, found, length), len(wanted)
    )
    knots = _crossing(wanted, length)
    knot_f1 = math.nan
    if len(knots):
        guessed = _crossing(found, length)
        shared = len(np.intersect1d(guessed, knots, assume_unique=True))
        knot_f1 = _shares(shared, len(guessed), shared, len(knots))[2]
    mcc = _mcc(tp, len(found) - tp, len(wanted) - tp, length * (length - 1) // 2)
    values = (precision, recall, f1, *flexible, mcc, knot_f1)
    return dict(zip(SCORES, values, strict=True))


class PairScores(Metric):
    """Means of :func:`score_pairs` over sequences.

    States are sums and counts, so that the result does not depend on how sequences are spread
    over processes. Sequences where a score is NaN are left out of that score's mean.

    Examples:
        >>> scores = PairScores()
        >>> scores.update([(0, 9), (1, 8)], [(0, 9), (1, 7)], 10)
        >>> scores.update([(0, 9)], [(0, 9)], 10)
        >>> scores.compute()["f1"].item()
        0.75
    """

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self) -> None:
        super().__init__()
        zeros = torch.zeros(len(SCORES), dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("counts", zeros.long(), dist_reduce_fx="sum")

    def update(
        self, predicted: ArrayLike | Tensor, reference: ArrayLike | Tensor, length: int
    ) -> None:
        """Add one sequence.

        Args:
            predicted: (P, 2), 0-based.
            reference: (R, 2).
            length: Number of nucleotides.
        """
        scores = score_pairs(predicted, reference, length)
        values = torch.tensor(list(scores.values()), dtype=torch.float64, device=self.sums.device)
        self.sums += values.nan_to_num(0.0)
        self.counts += ~values.isnan()

    def compute(self) -> dict[str, Tensor]:
        """The means by name; NaN where no sequence has the score."""
        means = (self.sums / self.counts).float()
        return dict(zip(SCORES, means.unbind(), strict=True))


def _encode(pairs: ArrayLike | Tensor, length: int, what: str) -> NDArray[np.int64]:
    """Each pair i < j as the number i L + j, sorted, without repeats."""
    values: Any = pairs.detach().cpu().numpy() if isinstance(pairs, Tensor) else pairs
    ends = np.sort(np.asarray(values, np.int64).reshape(-1, 2), axis=1)
    wrong = (ends[:, 0] < 0) | (ends[:, 1] >= length) | (ends[:, 0] == ends[:, 1])
    if wrong.any():
        i, j = ends[wrong][0].tolist()
        raise ValueError(
            f"{what} pair ({i}, {j}) of a sequence of {length} nucleotides: both ends must differ "
            "and be numbered from 0"
        )
    return np.unique(ends[:, 0] * length + ends[:, 1])


def _num_near(pairs: NDArray[np.int64], others: NDArray[np.int64], length: int) -> int:
    """How many pairs are among the others, or would be if one end moved by one base."""
    # A move out of the sequence gives a number that no pair has, as j > i of every pair.
    moves = np.array([0, 1, -1, length, -length])
    return int(np.isin(pairs[:, None] + moves, others).any(axis=1).sum())


def _crossing(pairs: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Those pairs that cross another."""
    lefts, rights = np.divmod(pairs, max(length, 1))
    farthest = np.full(length, -1)  # partner to the right of each base
    nearest = np.full(length, length)  # partner to the left: the first
    np.maximum.at(farthest, lefts, rights)
    np.minimum.at(nearest, rights, lefts)
    crosses = [
        farthest[i + 1 : j].max(initial=-1) > j or nearest[i + 1 : j].min(initial=length) < i
        for i, j in zip(lefts.tolist(), rights.tolist(), strict=True)
    ]
    return pairs[np.array(crosses, np.bool_)]


def _shares(
    num_right: int, num_found: int, num_recovered: int, num_wanted: int
) -> tuple[float, float, float]:
    """Precision, recall and their harmonic mean."""
    if not num_found and not num_wanted:
        return 1.0, 1.0, 1.0
    precision = num_right / num_found if num_found else 0.0
    recall = num_recovered / num_wanted if num_wanted else 0.0
    total = precision + recall
    return precision, recall, 2 * precision * recall / total if total else 0.0


def _mcc(tp: int, fp: int, fn: int, total: int) -> float:
    if not fp and not fn:
        return 1.0
    tn = total - tp - fp - fn
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return (tp * tn - fp * fn) / root if root else 0.0
