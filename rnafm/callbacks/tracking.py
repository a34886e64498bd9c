"""Weights & Biases, offline first."""

from __future__ import annotations

import logging
import os
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger

logger = logging.getLogger(__name__)


class OfflineFirstWandbLogger(WandbLogger):
    """Log to W&B; without an API key, to a folder that ``wandb sync`` uploads later.

    Args:
        **kwargs: See Lightning's ``WandbLogger``.
    """

    def __init__(self, **kwargs: Any) -> None:
        wanted = kwargs.get("mode") or os.environ.get("WANDB_MODE")
        if not wanted and not kwargs.get("offline") and not wandb.login(prompt=False):
            # As an argument of wandb.init: it wins over whatever wandb has read before.
            kwargs["mode"] = "offline"
            logger.warning(
                "No W&B key: this run is logged offline. To upload it later: wandb login, then "
                "wandb sync %s/wandb/offline-run-*",
                kwargs.get("save_dir", "."),
            )
        super().__init__(**kwargs)
