"""Measure how fast a run is, in tokens that were real work."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

if TYPE_CHECKING:
    from rnafm.data.batch import Batch


class Throughput(pl.Callback):
    """Log tokens per second, tokens so far, and the share of time spent waiting for data.

    Every token of a packed batch is a real one. Time in validation does not count. The device is
    waited for only when something is logged, at the trainer's ``log_every_n_steps``.
    """

    def __init__(self) -> None:
        self.total_tokens = 0
        self._logged_step = self._tokens = 0
        self._waited = 0.0
        self._start = self._ready = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Tokens so far, for a resumed run."""
        return {"total_tokens": self.total_tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on."""
        self.total_tokens = state_dict["total_tokens"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._logged_step = trainer.global_step
        self._restart()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """What has passed since the last batch was waiting for this one."""
        self._waited += time.perf_counter() - self._ready

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the batch; log when the trainer does."""
        tokens = 0 if batch.filler else batch.tokens.numel() * trainer.world_size
        self._tokens += tokens
        self.total_tokens += tokens
        step = trainer.global_step
        # Batches whose gradients are accumulated share a step: only the last of them counts.
        if step != self._logged_step and step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._logged_step = step
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)
            elapsed = time.perf_counter() - self._start
            pl_module.log("train/tokens_per_second", self._tokens / elapsed, prog_bar=True)
            pl_module.log("train/data_wait", self._waited / elapsed)
            pl_module.log("train/tokens", float(self.total_tokens))
            self._restart()
        self._ready = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin a new interval: validation is not training."""
        self._restart()

    def _restart(self) -> None:
        """Begin a new interval."""
        self._tokens, self._waited = 0, 0.0
        self._start = self._ready = time.perf_counter()
