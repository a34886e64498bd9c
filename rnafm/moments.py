"""When something is due in a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import lightning.pytorch as pl


def logs_at(trainer: pl.Trainer, step: int) -> bool:
    """Whether a trainer logs when it has made so many steps; never if it logs every 0."""
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
    return every > 0 and step % every == 0
