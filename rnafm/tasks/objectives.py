"""The objectives: numbers, one class of two or of several, and flags."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from rnafm.data.labels import LabelSpec, Level
from rnafm.tasks.objective import (
    MISSING,
    Balanced,
    Objective,
    count_outputs,
    mean_loss,
    need_labels,
    no_pairs,
    precise,
    read_weights,
)
from rnafm.tasks.scores import (
    decision_scores,
    flag_scores,
    mean_over,
    ranking_scores,
    regression_scores,
    varies,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Binary", "Multiclass", "Multilabel", "Objective", "Regression"]

logger = logging.getLogger(__name__)


class Regression(Objective):
    """One or several numbers.

    The loss is in standard deviations of the training labels, so that outputs of different units
    count the same; predictions and scores are in the original unit. A missing label is NaN.

    Args:
        names: Names of the outputs.
        num_outputs: Number of outputs, where ``names`` does not tell; 1 by default.
        standardise: Whether to learn (label - mean) / standard deviation of the training split
            instead of the label.
        criterion: ``mse``, or ``huber``: linear where the error is above one.
    """

    monitor = "spearman"  # what tables of RNA regressions rank by; blind to unit and calibration
    mean: Tensor
    sd: Tensor

    def __init__(
        self,
        names: Sequence[str] = (),
        num_outputs: int | None = None,
        *,
        standardise: bool = True,
        criterion: Literal["mse", "huber"] = "mse",
    ) -> None:
        super().__init__(names, count_outputs("Regression", names, num_outputs or len(names) or 1))
        if criterion not in ("mse", "huber"):
            raise ValueError(f"criterion ({criterion}) of Regression: unknown; use mse or huber")
        self.standardise, self.criterion = standardise, criterion
        self.register_buffer("mean", torch.zeros(self.num_outputs), persistent=standardise)
        self.register_buffer("sd", torch.ones(self.num_outputs), persistent=standardise)

    def spec(self, level: Level) -> LabelSpec:
        """A value for each output."""
        return LabelSpec("value", no_pairs(self, level), self.num_outputs, self.names)

    def fit(self, labels: Tensor) -> None:
        """Take mean and standard deviation of each output (1 where all labels are the same).

        Raises:
            ValueError: If an output has no training label, or an infinite one.
        """
        for i, (title, (values,)) in enumerate(
            zip(self.titles(), self._columns(labels), strict=True)
        ):
            need_labels(values, f"output {title}")
            if not values.isfinite().all():
                raise ValueError(f"output {title}: a training label is infinite; correct it")
            if not varies(values):
                logger.warning("Output %s: all training labels are %g", title, values[0])
            if self.standardise:
                self.mean[i] = values.mean()
                self.sd[i] = values.std(correction=0) if varies(values) else 1.0

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean squared or Huber error, in standardised units."""
        logits, labels, missing = self._entries(logits, labels)
        targets = (labels - self.mean.to(logits)) / self.sd.to(logits)
        function = F.mse_loss if self.criterion == "mse" else F.huber_loss
        return mean_loss(function(logits, targets, reduction="none"), missing)

    def predict(self, logits: Tensor) -> Tensor:
        """Values in the original unit, (n, C)."""
        logits = precise(logits)
        return logits * self.sd.to(logits) + self.mean.to(logits)

    def scores(self, predictions: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Correlations and errors in the original unit.

        Returns:
            ``spearman``, ``pearson``, ``r2`` and ``mse``, means over the outputs; ``mcrmse``, the
            mean over outputs of the root of the mean squared error. Outputs without (different)
            labels are left out. For several outputs also ``spearman/NAME`` ... ``rmse/NAME``.
        """
        columns = self._columns(predictions, labels)
        single = [regression_scores(*column) for column in columns]
        labelled = [len(truth) > 0 for _, truth in columns]
        varied = [varies(truth) for _, truth in columns]
        scores = {}
        for key in single[0]:
            counted = labelled if key in ("mse", "rmse") else varied
            mean = mean_over([output[key] for output in single], counted)
            scores["mcrmse" if key == "rmse" else key] = mean
        if self.num_outputs > 1:
            for title, output in zip(self.titles(), single, strict=True):
                scores |= {f"{key}/{title}": value for key, value in output.items()}
        return scores


class Multiclass(Objective):
    """One of several classes. A missing label is -100.

    Args:
        names: Names of the classes, in the order of their numbers.
        num_outputs: Number of classes, where they have no names.
        class_weights: What a row of each class counts in the loss (the mean is weighted), or
            ``balanced``: inversely to how many training labels the class has.
    """

    monitor = "macro_f1"  # classes of RNA differ in size by orders of magnitude; each counts here
    weights: Tensor

    def __init__(
        self,
        names: Sequence[str] = (),
        num_outputs: int | None = None,
        class_weights: Sequence[float] | Balanced | None = None,
    ) -> None:
        count = count_outputs("Multiclass", names, num_outputs or len(names), least=2)
        super().__init__(names, count)
        self.class_weights, weights = read_weights("class_weights", class_weights, count)
        self.register_buffer("weights", weights, persistent=class_weights == "balanced")

    def spec(self, level: Level) -> LabelSpec:
        """The number of a class."""
        return LabelSpec("class", no_pairs(self, level), self.num_outputs, self.names)

    def no_labels(self) -> Tensor:
        """Labels of no rows: int64 (0,)."""
        return torch.zeros(0, dtype=torch.long)

    def fit(self, labels: Tensor) -> None:
        """Count the classes, for balanced weights.

        Raises:
            ValueError: If nothing is labelled, or a label is no class.
        """
        values = labels[~self.missing(labels)].cpu()
        need_labels(values, "Multiclass")
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest >= self.num_outputs:
            raise ValueError(
                f"training labels run from {lowest} to {highest}; with {self.num_outputs} classes "
                f"they must be 0 to {self.num_outputs - 1}; set names or num_outputs of Multiclass"
            )
        counts = values.bincount(minlength=self.num_outputs)
        present = counts > 0
        for title in (
            t for t, there in zip(self.titles(), present.tolist(), strict=True) if not there
        ):
            logger.warning("Class %s: no training label", title)
        if self.class_weights == "balanced":
            weights = len(values) / (present.sum() * counts)
            self.weights.copy_(torch.where(present, weights, 1.0))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy, weighted by class."""
        missing = self.missing(labels)
        # Also 0 in their gradient: a log_softmax of NaN has a NaN gradient, asked for or not.
        logits = precise(logits).masked_fill(missing.unsqueeze(-1), 0)
        weights = self.weights.to(logits)
        total = F.cross_entropy(logits, labels, weights, ignore_index=MISSING, reduction="sum")
        weight = weights[labels.masked_fill(missing, 0)].masked_fill(missing, 0).sum()
        return total / torch.where(weight > 0, weight, 1.0)

    def predict(self, logits: Tensor) -> Tensor:
        """Probabilities of the classes, (n, C)."""
        return precise(logits).softmax(dim=-1)

    def scores(self, predictions: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scores of the most probable class, and of each class's probability against the rest.

        Returns:
            ``accuracy``, ``macro_f1`` and ``mcc``; ``auroc`` and ``auprc``, means over classes;
            ``f1/NAME`` of each class. Classes without labels are left out of means.
        """
        labels = labels.cpu()
        keep = ~self.missing(labels)
        predictions, labels = predictions.detach().cpu()[keep].double(), labels[keep]
        scores = decision_scores(predictions, labels)
        f1 = scores.pop("f1")
        rest = [labels == number for number in range(self.num_outputs)]
        varied = [varies(flags) for flags in rest]
        single = [ranking_scores(p, y) for p, y in zip(predictions.T, rest, strict=True)]
        for key in single[0]:
            scores[key] = mean_over([output[key] for output in single], varied)
        return scores | {f"f1/{title}": f1[i] for i, title in enumerate(self.titles())}


class _Flags(Objective):
    """Outputs that are each 0 or 1, on their own. A missing label is NaN or -100."""

    weights: Tensor

    def __init__(
        self,
        names: Sequence[str],
        num_outputs: int,
        pos_weight: float | Sequence[float] | Balanced | None,
    ) -> None:
        super().__init__(names, num_outputs)
        self.pos_weight, weights = read_weights("pos_weight", pos_weight, num_outputs)
        self.register_buffer("weights", weights, persistent=pos_weight == "balanced")

    def missing(self, labels: Tensor) -> Tensor:
        """Which labels are NaN or -100."""
        return labels.isnan() | (labels == MISSING)

    def fit(self, labels: Tensor) -> None:
        """Count both labels of each output, for balanced weights.

        Raises:
            ValueError: If an output has no training label, or one that is not 0 or 1.
        """
        for i, (values,) in enumerate(self._columns(labels)):
            title = type(self).__name__ if self.num_outputs == 1 else f"output {self.titles()[i]}"
            need_labels(values, title)
            wrong = values[(values != 0) & (values != 1)]
            if len(wrong):
                raise ValueError(f"{title}: a training label is {wrong[0]:g}; it must be 0 or 1")
            ones = values.mean()
            if not varies(values):
                logger.warning("%s: all training labels are %d", title, ones)
            if self.pos_weight == "balanced":
                self.weights[i] = (1 - ones) / ones if varies(values) else 1.0

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross entropy."""
        logits, labels, missing = self._entries(logits, labels)
        weights = self.weights.to(logits)
        losses = F.binary_cross_entropy_with_logits(
            logits, labels, pos_weight=weights, reduction="none"
        )
        return mean_loss(losses, missing)

    def predict(self, logits: Tensor) -> Tensor:
        """Probabilities of 1, (n, C)."""
        return precise(logits).sigmoid()


class Binary(_Flags):
    """One of two classes, or whether two nucleotides pair. A missing label is NaN or -100.

    Args:
        names: Names of the classes 0 and 1.
        pos_weight: What a label 1 counts in the loss, where a 0 counts 1; ``balanced``: as many
            times as there are more training labels 0 than 1. Anything but 1 shifts the
            probabilities.
    """

    monitor = "mcc"  # 0 for any constant answer, however unequal the classes; judges the decision

    def __init__(
        self, names: Sequence[str] = (), pos_weight: float | Balanced | None = None
    ) -> None:
        if len(names) not in (0, 2):
            raise ValueError(
                f"names ({', '.join(names)}) of Binary: {len(names)}; give two or none"
            )
        super().__init__(names, 1, pos_weight)

    def spec(self, level: Level) -> LabelSpec:
        """A flag, or base pairs."""
        if level == "pairs":
            return LabelSpec("pairs", level, 1)
        return LabelSpec("flag", level, 1, self.names)

    def titles(self) -> tuple[str, ...]:
        """Names of the two classes."""
        return self.names or ("0", "1")

    def scores(self, predictions: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scores of decisions at a probability of 0.5, and of the probabilities.

        Returns:
            ``accuracy``, ``mcc``, ``macro_f1`` of both classes and ``f1/NAME`` of each; ``auroc``
            and ``auprc`` of class 1.
        """
        ((probabilities, truth),) = self._columns(predictions, labels)
        scores = flag_scores(probabilities, truth)
        negative, positive = self.titles()
        f1 = scores.pop("f1")
        return scores | {f"f1/{negative}": f1[0], f"f1/{positive}": f1[1]}


class Multilabel(_Flags):
    """Several outputs that are each 0 or 1, on their own. A missing label is NaN or -100.

    Args:
        names: Names of the outputs.
        num_outputs: Number of outputs, where they have no names.
        pos_weight: What a label 1 counts in the loss, where a 0 counts 1: one number, one for each
            output, or ``balanced``: as many times as an output has more training labels 0 than 1.
            Anything but 1 shifts the probabilities.
    """

    monitor = "auprc"  # what binding-site tables use: positives are rare, and AUROC flatters there

    def __init__(
        self,
        names: Sequence[str] = (),
        num_outputs: int | None = None,
        pos_weight: float | Sequence[float] | Balanced | None = None,
    ) -> None:
        count = count_outputs("Multilabel", names, num_outputs or len(names))
        super().__init__(names, count, pos_weight)

    def spec(self, level: Level) -> LabelSpec:
        """A flag for each output."""
        return LabelSpec("flag", no_pairs(self, level), self.num_outputs, self.names)

    def scores(self, predictions: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scores of decisions at a probability of 0.5, and of the probabilities.

        Returns:
            ``accuracy`` over all labels; ``macro_f1`` (of label 1), ``mcc``, ``auroc`` and
            ``auprc``, means over outputs; ``f1/NAME`` of each. Outputs without (different) labels
            are left out of means.
        """
        columns = self._columns(predictions, labels)
        single = [flag_scores(*column) for column in columns]
        f1 = [output["f1"][1] for output in single]
        positive = [bool(truth.any()) for _, truth in columns]
        varied = [varies(truth) for _, truth in columns]
        pooled = (torch.cat(parts) for parts in zip(*columns, strict=True))
        scores = {
            "accuracy": flag_scores(*pooled)["accuracy"],
            "macro_f1": mean_over(f1, positive),
        }
        for key in ("mcc", "auroc", "auprc"):
            scores[key] = mean_over([output[key] for output in single], varied)
        return scores | {f"f1/{title}": f1[i] for i, title in enumerate(self.titles())}
