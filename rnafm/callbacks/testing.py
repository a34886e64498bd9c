"""The report of a test: tables, files and pictures."""

from __future__ import annotations

import hashlib
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch.distributed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rnafm.data.batch import Batch
    from rnafm.reports.report import Report

_WIDTH = 100  # of a fact in the table
_MOST_DRAWN = 100  # structures whose maps of probabilities are kept, to draw three of them


class TestReport(pl.Callback):
    """Score the test split beside simple predictors; print it, write it, draw it.

    Files lie in the trainer's ``log_dir``: ``metrics.json``, ``per_sequence.csv`` and pictures.
    Without a logger nothing is written.
    """

    __test__ = False  # no test class, whatever pytest makes of the name

    def __init__(self) -> None:
        self.predictions: dict[int, Any] = {}  # of the last test, where it is reported
        self._predictions: dict[int, Any] = {}
        self._drawn: dict[int, Any] = {}

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the last test."""
        self._forget()

    def on_test_batch_end(  # Lightning's hook
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the predictions of a batch, by row of the data."""
        if not isinstance(outputs, list) or len(outputs) != batch.num_sequences:
            return
        task: Any = pl_module
        found = dict(zip(batch.indices.tolist(), outputs, strict=True))
        scored = task.reported(found)
        self._predictions.update(scored)
        self._drawn.update({row: found[row] for row in found if found[row] is not scored[row]})
        self._drawn = _some(self._drawn)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the predictions of all devices together and report."""
        predictions, drawn = _gathered(self._predictions), _gathered(self._drawn)
        folder = trainer.log_dir  # asks the first process, so all of them must come by here
        self._forget()
        if not predictions or not trainer.is_global_zero:
            return
        self.predictions = predictions
        from rnafm.reports.evaluate import evaluate
        from rnafm.reports.tables import show

        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        task: Any = pl_module
        checkpoint = trainer.ckpt_path or task.facts.get("checkpoint", "none")
        report = evaluate(
            data,
            predictions,
            {**task.facts, "checkpoint": checkpoint},
            getattr(task, "score_pairs", None),
        )
        headline = task.monitor.removeprefix("val/")
        if headline not in report.metrics:  # a score that only the user's own objective knows
            headline = next(iter(report.metrics))
        show(replace(report, facts=readable(report.facts)), headline)
        if folder is not None and trainer.loggers:
            _keep(trainer, Path(folder), report, headline, _some(drawn) or predictions)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Keep nothing: predictions are large, and others have seen them."""
        self.predictions = {}

    def _forget(self) -> None:
        self._predictions, self._drawn = {}, {}


def readable(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as they are printed: leaks as a sentence for each split, few of many files.

    Sentences have lines of their own, and no line is endless.
    """
    from rnafm.reports.gallery import shortened

    said: dict[str, Any] = {}
    for name, value in facts.items():
        if name == "data":
            said[name] = shortened(value)
        elif name == "leaks":
            said |= {f"leaks, {split}": _leaks(numbers) for split, numbers in value.items()}
        else:
            said[name] = value
    for name, value in said.items():
        if isinstance(value, str | list | tuple):
            texts = [value] if isinstance(value, str) else map(str, value)
            said[name] = "\n".join(line for text in texts for line in textwrap.wrap(text, _WIDTH))
    return said


def _leaks(numbers: Mapping[str, Any]) -> str:
    text = (
        f"{numbers['exact_copies']:,} of {numbers['sequences']:,} are exact copies of training "
        f"sequences, {numbers['near_copies']:,} near copies "
        f"({100 * numbers['near_copy_share']:.0f} % of {numbers['k']}-mers)"
    )
    if dropped := numbers["dropped_from_training"]:
        text += f"; {dropped:,} training sequences were left out for it"
    return text


def _keep(
    trainer: pl.Trainer,
    folder: Path,
    report: Report,
    headline: str,
    drawn: Mapping[int, Any],
) -> None:
    """Write files and pictures, and show pictures to loggers that take them."""
    from rnafm.reports.gallery import draw_all

    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    report.write(folder)
    pictures = draw_all(folder, data, drawn, report, headline)
    print(  # noqa: T201
        f"Report: {folder} (metrics.json, per_sequence.csv and {len(pictures)} pictures)"
    )
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):
            for path in pictures:
                logger.log_image(key=f"test/{path.stem}", images=[str(path)])


def _some(predictions: dict[int, Any]) -> dict[int, Any]:
    """At most so many as are kept; which, depends on the rows alone and not on devices."""
    if len(predictions) <= _MOST_DRAWN:
        return predictions
    rows = sorted(predictions, key=lambda row: hashlib.blake2b(str(row).encode()).digest())
    return {row: predictions[row] for row in rows[:_MOST_DRAWN]}


def _gathered(predictions: dict[int, Any]) -> dict[int, Any]:
    """Those of all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return predictions
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, predictions)
    return {row: value for part in parts for row, value in part.items()}
