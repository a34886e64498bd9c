"""Keep the end of a run."""

from __future__ import annotations

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint


class SaveLast(pl.Callback):
    """Keep ``last.ckpt`` at the last validation and at the end, where a ModelCheckpoint has one.

    By itself that renews it only when validation has improved: a run that is stuck, or that ends
    between two validations, would lose what it did since.
    """

    def __init__(self) -> None:
        self._step = -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save. An improvement is saved once more, by the ModelCheckpoint, which comes later."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

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
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        for each in trainer.checkpoint_callbacks:
            # Before its first own file a ModelCheckpoint would take ours for somebody else's.
            if isinstance(each, ModelCheckpoint) and each.save_last and each.last_model_path:
                saved = max(self._step, each._last_global_step_saved)  # noqa: SLF001
                if saved != trainer.global_step:
                    trainer.save_checkpoint(each.last_model_path, weights_only=False)
        self._step = trainer.global_step
