"""Weights & Biases, offline first."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger, WandbLogger

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)


class OutliveFullDisk(pl.Callback):
    """Go on when ``metrics.csv`` cannot be written: what is measured is kept for the next time."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stand between the loggers and the disk."""
        for each in trainer.loggers:
            if isinstance(each, CSVLogger) and trainer.is_global_zero:
                # Once for each object, though a trainer may be set up several times.
                each.__dict__.setdefault("save", _tolerant(each.save))


def _tolerant(save: Callable[[], None]) -> Callable[[], None]:
    """The same, with errors of the disk logged."""

    def attempt() -> None:
        try:
            save()
        except OSError as error:
            logger.warning("metrics.csv could not be written (%s); tried again later", error)

    return attempt


class OfflineFirstWandbLogger(WandbLogger):
    """Log to W&B; without an API key, to a folder that ``wandb sync`` uploads later.

    Each run has a folder of its own, ``save_dir/project/version_<n>``, as CSVLogger gives it.

    Args:
        save_dir: Where the runs lie.
        project: Name of the project.
        **kwargs: See Lightning's ``WandbLogger``.
    """

    def __init__(self, save_dir: str = "runs", project: str = "rnafm", **kwargs: Any) -> None:
        import wandb

        folder = Path(save_dir) / project
        taken = [path.name.removeprefix("version_") for path in folder.glob("version_*")]
        number = max([int(name) for name in taken if name.isdigit()], default=-1) + 1
        folder /= f"version_{number}"
        mode = kwargs.pop("mode", None) or os.environ.get("WANDB_MODE")
        if not mode and not kwargs.get("offline") and not wandb.login(prompt=False):
            mode = "offline"
            logger.warning(
                "No W&B key: this run is logged offline. To upload it later: wandb login, then "
                "wandb sync %s/wandb/offline-run-*",
                folder,
            )
        # As an argument of wandb.init the mode wins over whatever wandb has read before.
        super().__init__(save_dir=str(folder), project=project, mode=mode, **kwargs)


class KeepRunId(pl.Callback):
    """Put the id of the W&B run into checkpoints, so that a continued run is the same run there."""

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add it, where there is one: the first process has it, and writes."""
        for each in trainer.loggers:
            if isinstance(each, WandbLogger):
                checkpoint["wandb_id"] = each.version
