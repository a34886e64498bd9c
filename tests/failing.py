"""Fails where a test wants that."""
# ruff: noqa: ARG002  # Lightning fixes the hooks' signatures

import os
import signal
import time
from pathlib import Path

import lightning.pytorch as pl


class Fail(pl.Callback):
    """One process fails, while the others know nothing of it.

    Args:
        rank: Which.
        folder: Where the time of the failure is written down.
        hook: ``setup``, ``batch``, ``backward`` (while gradients are being sent) or ``validation``.
        how: ``raise`` an exception, or be ``kill``ed.
        step: At which step.
    """

    def __init__(
        self, rank: int, folder: str, hook: str = "batch", how: str = "raise", step: int = 5
    ) -> None:
        self.rank, self.folder = rank, Path(folder)
        self.hook, self.how, self.step = hook, how, step

    def setup(self, trainer, pl_module, stage):
        self._fail("setup", trainer)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            self._fail("batch", trainer)

    def on_before_backward(self, trainer, pl_module, loss):
        if trainer.global_step == self.step and self.hook == "backward":
            # Of the first layer, whose gradients are computed last.
            weight = pl_module.encoder.embed_tokens.weight
            weight.register_hook(lambda _: self._fail("backward", trainer))

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if trainer.global_step == self.step:
            self._fail("validation", trainer)

    def _fail(self, hook, trainer):
        if hook != self.hook or trainer.global_rank != self.rank:
            return
        (self.folder / "failed").write_text(str(time.time()))
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise RuntimeError(f"the disk of process {self.rank} is gone")
