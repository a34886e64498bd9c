"""Keep the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

if TYPE_CHECKING:
    from collections.abc import Iterator


class SaveLast(pl.Callback):
    """Write ``last.ckpt`` when training ends, where a ModelCheckpoint keeps a last one.

    By itself that writes at validations only: the steps after the last one would be lost.
    """

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save, if this is the end and the last checkpoint is not of this very step.

        Not in ``on_train_end``: from there Lightning takes a complete epoch for a begun one.
        """
        if not trainer.fit_loop.done:
            return
        for each in _keepers(trainer):
            saved = each._last_global_step_saved  # noqa: SLF001  # nothing public says it
            if 0 < saved != trainer.global_step and each.dirpath:  # else it does so by itself
                trainer.save_checkpoint(Path(each.dirpath) / f"{each.CHECKPOINT_NAME_LAST}.ckpt")


def _keepers(trainer: pl.Trainer) -> Iterator[ModelCheckpoint]:
    for each in trainer.checkpoint_callbacks:
        if isinstance(each, ModelCheckpoint) and each.save_last:
            yield each
