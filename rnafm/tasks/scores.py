"""Scores of predictions: pure functions over labelled entries, and the metric that gathers them.

Where a score is undefined it is NaN: a ranking with labels of one class, a correlation with
constant values. Three scores are written out, because torchmetrics 1.9 gives an MCC of 0.84 to a
model that always answers the class of 90 %, an R2 of 0 or 1 wherever the labels' squares sum to
less than 1e-4, and Spearman ranks that overflow from 65,536 ties on.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_average_precision,
    multiclass_confusion_matrix,
)
from torchmetrics.functional.regression import pearson_corrcoef
from torchmetrics.utilities import dim_zero_cat

if TYPE_CHECKING:
    from rnafm.tasks.objectives import Objective


def regression_scores(predictions: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Scores of one output.

    Args:
        predictions: Values, float64 (n,).
        labels: Values, float64 (n,), none missing.

    Returns:
        ``spearman`` (the Pearson correlation of ranks, those of ties averaged), ``pearson``, ``r2``
        (1 - residual / total sum of squares: not the squared correlation that some papers print
        under this name), ``mse`` and ``rmse``.
    """
    undefined = labels.new_tensor(math.nan)
    scores = dict.fromkeys(("spearman", "pearson", "r2", "mse", "rmse"), undefined)
    if not len(labels) or not predictions.isfinite().all():
        return scores
    residual = (predictions - labels).square()
    scores["mse"] = residual.mean()
    scores["rmse"] = scores["mse"].sqrt()
    if varies(labels):
        scores["r2"] = 1 - residual.sum() / (labels - labels.mean()).square().sum()
        if varies(predictions):
            scores["spearman"] = pearson_corrcoef(_ranks(predictions), _ranks(labels))
            scores["pearson"] = pearson_corrcoef(predictions, labels)
    return scores


def ranking_scores(predictions: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """How well positives are told from negatives, at no particular threshold.

    Args:
        predictions: Probabilities of being positive, float64 (n,).
        labels: Which are, bool (n,).

    Returns:
        ``auroc`` and ``auprc``, the average precision; NaN without positives or negatives.
    """
    if not varies(labels) or not predictions.isfinite().all():
        return dict.fromkeys(("auroc", "auprc"), predictions.new_tensor(math.nan))
    truth = labels.long()
    return {
        "auroc": binary_auroc(predictions, truth, validate_args=False).double(),
        "auprc": binary_average_precision(predictions, truth, validate_args=False).double(),
    }


def decision_scores(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """How often the most probable class is right.

    Args:
        probabilities: Of the classes, float64 (n, C).
        labels: Numbers of classes, int64 (n,), none missing.

    Returns:
        ``accuracy``, the share of right decisions; ``f1`` of each class, (C,), NaN for classes
        that the labels do not have; ``macro_f1``, the mean over the other classes; ``mcc``, the
        Matthews correlation for any number of classes (Gorodkin 2004, Comput Biol Chem 28:367): 0
        if all decisions are the same, NaN if all labels are.
    """
    num_classes = probabilities.shape[1]
    if not probabilities.isfinite().all():
        undefined = probabilities.new_tensor(math.nan)
        scores = dict.fromkeys(("accuracy", "macro_f1", "mcc"), undefined)
        return scores | {"f1": undefined.expand(num_classes)}
    counts = multiclass_confusion_matrix(
        probabilities.argmax(dim=1), labels, num_classes, validate_args=False
    )
    counts = counts.double()  # whole numbers stay exact, also squared
    actual, decided = counts.sum(dim=1), counts.sum(dim=0)
    total, right = counts.sum(), counts.trace()
    f1 = torch.where(actual > 0, 2 * counts.diagonal() / (actual + decided), math.nan)
    spread = total.square() - actual @ actual
    product = spread * (total.square() - decided @ decided)
    mcc = (right * total - actual @ decided) / product.sqrt()
    return {
        "accuracy": right / total,
        "f1": f1,
        "macro_f1": f1.nanmean(),
        "mcc": torch.where(product > 0, mcc, torch.where(spread > 0, 0.0, math.nan)),
    }


def flag_scores(probabilities: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Decisions at a probability of 0.5 and ranking, of what is 0 or 1.

    Args:
        probabilities: Of 1, float64 (n,).
        labels: 0 or 1, (n,), none missing.

    Returns:
        What :func:`decision_scores` and :func:`ranking_scores` give.
    """
    both = torch.stack([1 - probabilities, probabilities], dim=1)
    return decision_scores(both, labels.long()) | ranking_scores(probabilities, labels > 0)


def varies(values: Tensor) -> bool:
    """Whether there are two different values."""
    return bool((values != values[:1]).any())


def mean_over(values: list[Tensor], counted: list[bool]) -> Tensor:
    """Mean over the outputs that the labels allow to score; NaN without any.

    An output that only the predictions make undefined counts, and makes the mean NaN: a model that
    gives up on an output must not look better for it.
    """
    return torch.stack(values)[torch.tensor(counted)].mean()


def _ranks(values: Tensor) -> Tensor:
    """Ranks from 1, float64 (n,); equal values share the mean of theirs."""
    _, place, counts = torch.unique(values, return_inverse=True, return_counts=True)
    counts = counts.double()
    ranks: Tensor = (counts.cumsum(dim=0) - (counts - 1) / 2)[place]
    return ranks


class ObjectiveScores(Metric):
    """Loss and scores of an objective over everything since the last reset, on all ranks.

    Scores such as correlations are no means over batches, so labelled rows are kept until the end
    and scored at once, in float64 on the CPU. Ranks may have differently many rows, or none.

    Args:
        objective: Whose loss and scores. It stays the task's: it is no part of this metric's state.
    """

    full_state_update = False
    logits: list[Tensor]
    labels: list[Tensor]

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self._objective = (objective,)  # a tuple hides it: weights are saved once, by the task
        self.add_state("logits", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")
        self._begin()

    @property
    def update_called(self) -> bool:
        """Always true: no rows on this rank is nothing to be warned of."""
        return True

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self._begin()

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Add rows.

        Args:
            logits: As for the objective's loss, (n, C).
            labels: As for the objective's loss, (n, C) or (n,); rows with nothing but missing
                labels are not kept.
        """
        (objective,) = self._objective
        missing = objective.missing(labels)
        keep = ~(missing if missing.ndim == 1 else missing.all(dim=1))
        start = self.logits[0], self.labels[0]
        for state, first, values in zip(
            (self.logits, self.labels), start, (logits, labels), strict=True
        ):
            state.append(values.detach()[keep].to(first.dtype).reshape(-1, *first.shape[1:]))

    def compute(self) -> dict[str, Tensor]:
        """Scores over all rows so far.

        Returns:
            ``loss``, as in training but over all rows at once, and the objective's scores; NaN
            where undefined.
        """
        (objective,) = self._objective
        logits, labels = dim_zero_cat(self.logits), dim_zero_cat(self.labels)
        logits, labels = logits.cpu().double(), labels.cpu()
        loss = objective.loss(logits, labels) if len(labels) else torch.tensor(math.nan)
        scores = objective.scores(objective.predict(logits), labels)
        values = {"loss": loss, **scores}
        return {name: value.to(self.device, torch.float32) for name, value in values.items()}

    def _begin(self) -> None:
        """An empty first piece, so that a rank without rows gathers the right type and width."""
        (objective,) = self._objective
        labels = objective.no_labels().to(self.device)
        self.logits.append(torch.zeros(0, objective.num_outputs, device=self.device))
        self.labels.append(labels)
