"""Keep the end of a run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

logger = logging.getLogger(__name__)


class SaveLast(pl.Callback):
    """Keep ``last.ckpt`` up to date, where a ModelCheckpoint has one: after every validation.

    By itself that renews it only when validation has improved: a run that is stuck, or that ends
    between two validations, would lose what it did since.

    Args:
        every_n_steps: Save every so many optimizer steps too, between validations; 0 does not. For
            runs that take weeks, choose what may be lost if a machine dies: half an hour or so.
    """

    def __init__(self, every_n_steps: int = 0) -> None:
        if every_n_steps < 0:
            raise ValueError(f"every_n_steps ({every_n_steps}) must be 0 or more")
        self.every_n_steps = every_n_steps
        self._step = -1
        self._begun = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Have files rather than links, which are removed before they are made anew."""
        for each in _keepers(trainer):
            if each.save_last == "link":
                each.save_last = True

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Do not count a batch that was begun and is not done: it is done when the run goes on."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for part in (progress["total"], progress["current"]):
            part["ready"] = part["started"] = part["processed"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Remember where the run begins: that is saved already."""
        self._step, self._begun = max(self._step, trainer.global_step), True

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save nothing of a run that did not begin, such as one that could not be continued."""
        if not self._begun:
            save_no_more(trainer)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save every so many steps, when all others have done their part of the last one."""
        step = trainer.global_step
        due = self.every_n_steps and step % self.every_n_steps == 0 and step > self._step
        doubted = any(getattr(each, "in_doubt", False) for each in trainer.callbacks)  # type: ignore[attr-defined]
        if due and not doubted and between_steps(trainer, batch_idx):  # all processes count alike
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save. An improvement is saved once more, by the ModelCheckpoint, which comes later."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, if this is the end.

        Not in ``on_train_end``: from there Lightning takes a complete epoch for a begun one.
        """
        steps, epochs = trainer.max_steps, trainer.max_epochs or -1
        if (
            trainer.should_stop
            or 0 < steps <= trainer.global_step
            or 0 < epochs <= trainer.current_epoch + 1
        ):
            # What failed before gets another chance; asked of the process that writes.
            failed = getattr(trainer.strategy.checkpoint_io, "failed", {})
            self.save(trainer, again=trainer.strategy.broadcast(bool(failed)))

    def save(self, trainer: pl.Trainer, *, again: bool = False) -> list[Path]:
        """Renew ``last.ckpt``, on all processes together.

        Args:
            trainer: Of a run, between two steps.
            again: Also where this step is saved already.

        Returns:
            The files, now of this step.
        """
        paths = []
        for each in _keepers(trainer):
            saved = max(self._step, each._last_global_step_saved)  # noqa: SLF001
            if saved != trainer.global_step or again:
                _renew(each, trainer)
            paths.append(Path(each.last_model_path))
        self._step = trainer.global_step
        return paths


def between_steps(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether no gradients are accumulated, asked in ``on_train_batch_start``."""
    return batch_idx % trainer.accumulate_grad_batches == 0


def model_checkpoints(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    """All of a trainer that are Lightning's own, or made of it."""
    return [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]


def save_no_more(trainer: pl.Trainer) -> None:
    """Leave the checkpoints that there are when the run ends with an error."""
    for each in model_checkpoints(trainer):
        each.save_on_exception = False


def _keepers(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    """Those that have a ``last.ckpt``."""
    return [each for each in model_checkpoints(trainer) if each.save_last]


def _renew(keeper: ModelCheckpoint, trainer: pl.Trainer) -> None:
    if keeper.last_model_path:
        trainer.save_checkpoint(keeper.last_model_path, weights_only=False)
        return
    # It finds the name of its first file itself, but would then take the step as done with, and
    # not save it as the best.
    before = keeper._last_global_step_saved  # noqa: SLF001
    keeper._save_last_checkpoint(trainer, keeper._monitor_candidates(trainer))  # noqa: SLF001
    keeper._last_global_step_saved = before  # noqa: SLF001
