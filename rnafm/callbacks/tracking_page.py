"""The page of a run on Weights & Biases: everything but the metrics, which loggers log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import WandbLogger

from rnafm.callbacks.saving import model_checkpoints
from rnafm.callbacks.testing import TestReport
from rnafm.callbacks.tracking import Forgiving
from rnafm.callbacks.tracking_artifacts import (
    CheckpointUploads,
    staged_beside,
    use_checkpoint,
    use_data,
)
from rnafm.callbacks.tracking_attention import Watched, write_attention
from rnafm.callbacks.tracking_data import artifact_name, data_page, describe_data, manifests
from rnafm.callbacks.tracking_environment import commits, environment, saved_config
from rnafm.callbacks.tracking_tables import prediction_table, scores_of_test

if TYPE_CHECKING:
    from rnafm.data.batch import Batch

_TABLE_ROWS = 100


class RunPage(pl.Callback):
    """Put configuration, commit, environment, data, pictures, tables and checkpoints on the page.

    Without a W&B logger it does nothing. Whatever W&B cannot do is a warning, and the run goes on.
    Only the first process of a run logs.

    Args:
        checkpoints: ``end`` uploads the best and the last checkpoint when training is done, ``all``
            each improvement too, ``none`` leaves them where they are.
        attention_every: Validations from one picture of the encoder's attention to the next; there
            is one after the first and one at the end. 0 draws none.
        table_rows: Test sequences in the table of predictions.
    """

    def __init__(
        self,
        checkpoints: Literal["end", "all", "none"] = "end",
        attention_every: int = 10,
        table_rows: int = _TABLE_ROWS,
    ) -> None:
        if checkpoints not in ("end", "all", "none"):
            raise ValueError(f"checkpoints ({checkpoints!r}) must be end, all or none")
        for name, number in (("attention_every", attention_every), ("table_rows", table_rows)):
            if number < 0:
                raise ValueError(f"{name} ({number}) must be 0 or more; 0 for none")
        self.checkpoints, self.attention_every = checkpoints, attention_every
        self.table_rows = table_rows
        self._forgiving = Forgiving()
        self._logger: WandbLogger | None = None
        self._folder: Path | None = None
        self._data: dict[str, Any] = {}
        self._origin: str | None = None
        self._validations = 0
        self._best: dict[str, float] = {}
        self._drawn_step = -1
        self._uploads = CheckpointUploads()
        self._watched = Watched()

    def state_dict(self) -> dict[str, Any]:
        """How far the page is."""
        return {"validations": self._validations, "best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self._validations, self._best = state_dict["validations"], dict(state_dict["best"])

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember which run a checkpoint that is tested is of."""
        self._origin = checkpoint.get("wandb_id")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the page."""
        self._begin(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the page of ``rnafm validate``."""
        if trainer.state.fn == "validate":
            self._begin(trainer)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the page of a test."""
        self._begin(trainer)

    def on_validation_batch_end(  # Lightning's hook
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Choose the sequences whose attention is drawn: some of the first batch."""
        if self._logger is not None and self.attention_every and not self._watched.sequences:
            with self._forgiving("attention"):
                self._watched.choose(batch)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the best scores so far, and attention when it is its turn."""
        if self._logger is None or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        self._validations += 1
        with self._forgiving("best scores"):
            self._log_best(trainer)
        if self.attention_every and (self._validations - 1) % self.attention_every == 0:
            self._draw_attention(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Upload a better checkpoint, where all of them are wanted."""
        if self._logger is not None and self.checkpoints == "all":
            with self._forgiving("checkpoints"):
                self._uploads.log_improvement(self._logger.experiment, trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw attention as it is now."""
        if self._logger is not None and self.attention_every:
            self._draw_attention(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Upload the curve of the loss and the checkpoints, which are all written by now."""
        if self._logger is None or self._folder is None:
            return
        with self._forgiving("the curve of the loss"):
            if (curve := self._folder / "loss.png").is_file():
                self._show("pictures/loss", curve, trainer.global_step)
        if self.checkpoints != "none":
            with self._forgiving("checkpoints"):
                self._uploads.log_all(self._logger.experiment, trainer)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log scores and the table of predictions, from the files of the test report."""
        reports = [each for each in trainer.callbacks if isinstance(each, TestReport)]  # type: ignore[attr-defined]
        predictions = reports[0].predictions if reports else {}
        if self._logger is None or self._folder is None or not predictions:
            return
        import wandb

        def picture(path: Path, caption: str) -> Any:
            return wandb.Image(str(path), caption=caption)

        run = self._logger.experiment
        with self._forgiving("scores of the test"):
            run.summary.update(scores_of_test(self._folder))
        with self._forgiving("predictions"), staged_beside(run):
            data: Any = trainer.datamodule  # type: ignore[attr-defined]
            columns, rows = prediction_table(
                self._folder, data, predictions, self.table_rows, picture
            )
            table = wandb.Table(columns=list(columns), data=rows, allow_mixed_types=True)
            run.log({"test/predictions": table})

    def _begin(self, trainer: pl.Trainer) -> None:
        """Log what is known before the first step."""
        self._logger = self._folder = None
        loggers = [each for each in trainer.loggers if isinstance(each, WandbLogger)]
        if not loggers:
            return
        folder = trainer.log_dir  # asks the first process, so all of them must come by here
        if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        with self._forgiving("the page of the run"):
            run = loggers[0].experiment
            if run.disabled:  # WANDB_MODE
                return
            self._logger, self._folder = loggers[0], Path(folder or ".")
            self._describe(trainer, run)

    def _describe(self, trainer: pl.Trainer, run: Any) -> None:
        verb = str(getattr(trainer.state.fn, "value", trainer.state.fn))
        config: dict[str, Any] = {"verb": verb}
        assert self._folder is not None  # noqa: S101  # set before
        with self._forgiving("the configuration"):
            config |= saved_config(self._folder, verb)
        with self._forgiving("the environment"):
            config |= {"environment": environment(trainer), "git": commits()}
        data: Any = getattr(trainer, "datamodule", None)
        with self._forgiving("the data"):
            if data is not None:
                self._data = describe_data(data)
                self._uploads.facts = {"data": self._data["digest"]}
                run.summary.update(data_page(self._data))
                config["data_fingerprint"] = self._data
        if verb != "fit" and self._origin is not None:
            config["origin"] = self._origin
        run.config.update(config, allow_val_change=True)
        with self._forgiving("the data as an artifact"):
            if self._data:
                use_data(run, artifact_name(data), self._data, manifests(data))
        path = trainer.ckpt_path
        if verb != "fit" and self._origin and path and self.checkpoints != "none":
            with self._forgiving("the checkpoint that is tested"):
                use_checkpoint(run, Path(path), self._origin)

    def _log_best(self, trainer: pl.Trainer) -> None:
        """The best value so far of what checkpoints are chosen by: what sweeps look at."""
        assert self._logger is not None  # noqa: S101  # asked before
        for keeper in model_checkpoints(trainer):
            value = trainer.callback_metrics.get(keeper.monitor or "")
            if keeper.monitor is None or value is None or not torch.isfinite(value):
                continue
            better = max if keeper.mode == "max" else min
            name = f"best/{keeper.monitor.partition('/')[2] or keeper.monitor}"
            self._best[name] = better(self._best.get(name, float(value)), float(value))
        if self._best:
            self._logger.log_metrics(self._best, trainer.global_step)

    def _draw_attention(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        encoder, step = getattr(pl_module, "encoder", None), trainer.global_step
        # Where parameters are divided over devices, one of them alone cannot compute anything.
        divided = not trainer.strategy.lightning_restore_optimizer
        has_maps = hasattr(encoder, "attention_maps") and self._watched.sequences
        if step == self._drawn_step or divided or not has_maps or self._folder is None:
            return
        self._drawn_step = step
        with self._forgiving("attention"):
            names = getattr(getattr(trainer, "datamodule", None), "names", None) or []
            known = {i: names[i] for i in self._watched.sequences if i < len(names)}
            folder = self._folder / "attention"
            for key, path in write_attention(encoder, self._watched, folder, step, known).items():
                self._show(f"attention/{key}", path, step)

    def _show(self, key: str, path: Path, step: int) -> None:
        assert self._logger is not None  # noqa: S101  # asked before
        self._logger.log_image(key, [str(path)], step)
