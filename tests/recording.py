"""Writes down which sequences a run trains on, and kills it where a test wants that."""

import json
import os
import signal
from pathlib import Path

import lightning.pytorch as pl


class Record(pl.Callback):
    """One line per batch and process: epoch, step, sequences.

    Args:
        folder: Where the files go, one for each process.
        kill_at: Step in the middle of which all processes are killed; none if negative.
    """

    def __init__(self, folder: str, kill_at: int = -1) -> None:
        self.folder, self.kill_at = Path(folder), kill_at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        epoch, step = (
            trainer.fit_loop._combined_loader.flattened[0].sampler.epoch,
            trainer.global_step,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        indices = [] if batch.filler else batch.indices.tolist()
        line = json.dumps([epoch, step, indices])
        with (self.folder / f"{trainer.global_rank}.jsonl").open("a") as file:
            file.write(line + "\n")

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def trained(folder, steps):
    """Epoch -> sequences trained in some steps of a run, in no order."""
    result = {}
    for path in Path(folder).glob("*.jsonl"):
        for line in path.read_text().splitlines():
            epoch, step, indices = json.loads(line)
            if step in steps:
                result.setdefault(epoch, []).extend(indices)
    return {epoch: sorted(indices) for epoch, indices in result.items()}
