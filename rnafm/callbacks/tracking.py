"""Weights & Biases, offline first."""

from __future__ import annotations

import logging
from typing import Any

from lightning.pytorch.loggers import WandbLogger

logger = logging.getLogger(__name__)


class OfflineFirstWandbLogger(WandbLogger):
    """Log to W&B; without an API key, to a folder that ``wandb sync`` uploads later.

    Args:
        **kwargs: See Lightning's ``WandbLogger``.
    """

    def __init__(self, **kwargs: Any) -> None:
        if not kwargs.get("offline") and not _has_key():
            kwargs["offline"] = True
            logger.info(
                "No W&B key: logging offline. Upload later with `wandb login` and "
                "`wandb sync %s/wandb/offline-run-*`.",
                kwargs.get("save_dir", "."),
            )
        super().__init__(**kwargs)


def _has_key() -> bool:
    """Whether a key is in the environment or in the file that ``wandb login`` writes."""
    import wandb

    return bool(wandb.api.api_key)
