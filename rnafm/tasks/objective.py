"""What an objective is, and what all objectives do with missing labels."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from rnafm.tasks.scores import ObjectiveScores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnafm.data.labels import LabelSpec, Level

Balanced = Literal["balanced"]
MISSING = -100  # among classes and flags; among values only NaN, as -100 may well be one


class Objective(nn.Module, ABC):
    """What the logits of a head stand for: their loss, what they predict, how that is scored.

    A subclass keeps each parameter of its constructor as an attribute of the same name, so that
    checkpoints can hold it as plain values.

    Args:
        names: Names of the outputs, or of the classes; empty: their numbers.
        num_outputs: Number of logits per row, C.
    """

    monitor: ClassVar[str]  # the score that chooses the best checkpoint
    mode: ClassVar[Literal["max", "min"]] = "max"

    def __init__(self, names: Sequence[str], num_outputs: int) -> None:
        super().__init__()
        self.names, self.num_outputs = tuple(names), num_outputs
        if len(set(self.names)) < len(self.names):
            raise ValueError(
                f"names ({', '.join(names)}) of {type(self).__name__} repeat; use each once"
            )

    @abstractmethod
    def spec(self, level: Level) -> LabelSpec:
        """What labels must be.

        Raises:
            ValueError: If the objective cannot be learned at this level.
        """

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss over labelled entries, in float32 also under autocast.

        Args:
            logits: (n, C). Their values at missing labels have no influence, not even NaN.
            labels: (n, C) float or (n,) int64, as :meth:`spec` says.

        Returns:
            A scalar; 0, still with a graph, where nothing is labelled.
        """

    @abstractmethod
    def predict(self, logits: Tensor) -> Tensor:
        """Values in their original unit, or probabilities; (n, C), at least float32."""

    @abstractmethod
    def scores(self, predictions: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Scores of what :meth:`predict` gives, over labelled entries; NaN where undefined."""

    def fit(self, labels: Tensor) -> None:
        """Learn what the loss must know of the training labels.

        Args:
            labels: Of the whole training split, (n, C) or (n,).
        """

    def missing(self, labels: Tensor) -> Tensor:
        """Which labels are missing, bool of their shape."""
        return labels.isnan() if labels.is_floating_point() else labels == MISSING

    def no_labels(self) -> Tensor:
        """Labels of no rows: their type and width."""
        return torch.zeros(0, self.num_outputs)

    def new_metric(self) -> ObjectiveScores:
        """A metric of logits and labels that computes the loss and all scores."""
        return ObjectiveScores(self)

    def titles(self) -> tuple[str, ...]:
        """Names, or numbers where there are none."""
        return self.names or tuple(map(str, range(self.num_outputs)))

    def to_dict(self) -> dict[str, Any]:
        """Class and parameters as plain values, which load with ``weights_only=True``.

        Raises:
            ValueError: If a parameter of the constructor is no attribute.
        """
        cls = type(self)
        names = list(inspect.signature(cls).parameters)
        if lost := [name for name in names if not hasattr(self, name)]:
            raise ValueError(
                f"objective ({cls.__qualname__}): a checkpoint needs its parameters "
                f"({', '.join(lost)}); set attributes of these names in __init__"
            )
        values = {name: getattr(self, name) for name in names}
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        return {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": values}

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Objective:
        """Make an objective from :meth:`to_dict`. A checkpoint cannot make anything be imported.

        Raises:
            ValueError: If no subclass of ``Objective`` that is already imported has this name.
        """
        known: dict[str, type[Objective]] = {}
        waiting = Objective.__subclasses__()
        while waiting:
            cls = waiting.pop()
            waiting.extend(cls.__subclasses__())
            if not inspect.isabstract(cls):
                known[f"{cls.__module__}.{cls.__qualname__}"] = cls
        path = values["class_path"]
        if path not in known:
            raise ValueError(
                f"objective ({path}): no imported subclass of Objective has this name; import its "
                f"module first, or use one of {', '.join(sorted(known))}"
            )
        return known[path](**values.get("init_args", {}))

    # For objectives whose labels have the shape of the logits:

    def _entries(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and labels in float32, 0 where a label is missing, and where that is; (n, C)."""
        logits, labels = self._tables(logits, labels)
        missing = self.missing(labels)
        logits = precise(logits).masked_fill(missing, 0)
        return logits, labels.to(logits.dtype).masked_fill(missing, 0), missing

    def _columns(self, *tensors: Tensor) -> list[list[Tensor]]:
        """The labelled entries of each output, float64 on the CPU; the last are the labels."""
        tables = [table.detach().cpu() for table in self._tables(*tensors)]
        keep = ~self.missing(tables[-1])
        return [
            [table[keep[:, i], i].double() for table in tables] for i in range(self.num_outputs)
        ]

    def _tables(self, *tensors: Tensor) -> list[Tensor]:
        """Rows by outputs, also of one output without a dimension of its own."""
        tables = [tensor.unsqueeze(-1) if tensor.ndim == 1 else tensor for tensor in tensors]
        for table in tables:
            if table.shape != (len(tables[0]), self.num_outputs):
                shapes = " and ".join(str(tuple(tensor.shape)) for tensor in tensors)
                raise ValueError(
                    f"shape {shapes}: {type(self).__name__} needs rows by {self.num_outputs} "
                    "outputs; set names or num_outputs to what the data have"
                )
        return tables


def mean_loss(losses: Tensor, missing: Tensor) -> Tensor:
    """Mean over entries that are not missing; 0 without any."""
    return losses.masked_fill(missing, 0).sum() / (~missing).sum().clamp(min=1)


def precise(logits: Tensor) -> Tensor:
    """In float32, or float64 if that is what they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def count_outputs(kind: str, names: Sequence[str], num_outputs: int, least: int = 1) -> int:
    """Number of outputs, checked against their names."""
    if num_outputs < least:
        raise ValueError(
            f"num_outputs ({num_outputs}) of {kind}: at least {least} needed; set names or "
            "num_outputs"
        )
    if names and len(names) != num_outputs:
        raise ValueError(
            f"num_outputs ({num_outputs}) of {kind}: the names ({', '.join(names)}) are "
            f"{len(names)}; leave num_outputs away, or name each"
        )
    return num_outputs


def read_weights(
    name: str, given: float | Sequence[float] | Balanced | None, count: int
) -> tuple[float | tuple[float, ...] | Balanced | None, Tensor]:
    """What to keep of a constructor's weights, and the weights, (count,)."""
    if given is None:
        return None, torch.ones(count)
    if given == "balanced":  # NaN until fit: a forgotten fit shows in the loss
        return "balanced", torch.full((count,), math.nan)
    if isinstance(given, str):
        raise ValueError(f"{name} ({given}): give numbers or balanced")  # noqa: TRY004  # YAML's
    kept = tuple(map(float, given)) if isinstance(given, Sequence) else float(given)
    values = torch.tensor(kept).expand(count) if isinstance(kept, float) else torch.tensor(kept)
    if len(values) != count:
        raise ValueError(f"{name} ({given}): {len(values)} numbers; give one for each of {count}")
    if not (values.isfinite() & (values > 0)).all():
        raise ValueError(f"{name} ({given}): must be above 0 and finite")
    return kept, values.clone()


def no_pairs(objective: Objective, level: Level) -> Level:
    """Refuse base pairs."""
    if level == "pairs":
        raise ValueError(
            f"objective ({type(objective).__name__}): cannot learn base pairs; use Binary"
        )
    return level


def need_labels(values: Tensor, title: str) -> None:
    """Refuse an output without a single training label."""
    if not len(values):
        raise ValueError(f"{title}: no training label; label some rows, or leave it out")
