"""The report of a test: tables, files and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch.distributed

if TYPE_CHECKING:
    from rnafm.data.batch import Batch


class TestReport(pl.Callback):
    """Score the test split beside simple predictors; print it, write it, draw it.

    Files lie in the trainer's ``log_dir``: ``metrics.json``, ``per_sequence.csv`` and pictures.
    """

    __test__ = False  # no test class, whatever pytest makes of the name

    def __init__(self) -> None:
        self._predictions: dict[int, Any] = {}

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the last test."""
        self._predictions = {}

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
        if isinstance(outputs, list) and len(outputs) == batch.num_sequences:
            self._predictions.update(zip(batch.indices.tolist(), outputs, strict=True))

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Bring the predictions of all devices together and report."""
        predictions = _gathered(self._predictions)
        folder = trainer.log_dir  # asks the first process, so all of them must come by here
        if not predictions or not trainer.is_global_zero:
            return
        from rnafm.reports.evaluate import evaluate
        from rnafm.reports.gallery import draw_all
        from rnafm.reports.tables import show

        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        task: Any = pl_module
        report = evaluate(
            data,
            task.reported(predictions),
            {**task.facts, "checkpoint": trainer.ckpt_path or task.facts.get("checkpoint", "none")},
            getattr(task, "score_pairs", None),
        )
        headline = task.monitor.removeprefix("val/")
        show(report, headline)
        if folder is None:
            return
        report.write(Path(folder))
        pictures = draw_all(Path(folder), data, predictions, report, headline)
        print(f"Report: {folder} ({', '.join(path.name for path in pictures)})")  # noqa: T201
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                for path in pictures:
                    logger.log_image(key=f"test/{path.stem}", images=[str(path)])


def _gathered(predictions: dict[int, Any]) -> dict[int, Any]:
    """Those of all processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return predictions
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, predictions)
    return {row: value for part in parts for row, value in part.items()}
