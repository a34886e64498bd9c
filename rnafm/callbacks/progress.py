"""One bar for the whole run: steps, rate, loss, time left."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from rnafm.moments import logs_at

if TYPE_CHECKING:
    import lightning.pytorch as pl

_REREAD = 0.5  # seconds


class RunProgress(ProgressBar):
    """Progress of the whole run rather than of an epoch.

    A terminal gets a bar. A file or a pipe gets a line now and then, so that logs stay readable.
    Values are read when the trainer has logged new ones, and twice a second at most: to read what a
    GPU has computed is to wait for it.

    Args:
        log_seconds: Seconds between two lines where there is no terminal.
    """

    def __init__(self, log_seconds: float = 20.0) -> None:
        super().__init__()
        self.log_seconds = log_seconds
        self._enabled = True
        self._progress: Progress | None = None
        self._started = self._spoken = self._read_at = 0.0
        self._first_step = self._logged_step = 0
        self._is_new = False
        self._shown = ""
        self._total: int | None = None

    def disable(self) -> None:
        """Called by Lightning on all but the first process."""
        self._enabled = False

    def enable(self) -> None:
        """Undo :meth:`disable`."""
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print beside the bar."""
        (self._progress.console if self._progress else Console()).print(*args)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar at the step where the run stands."""
        self._started = self._spoken = time.perf_counter()
        self._first_step = self._logged_step = trainer.global_step
        self._is_new, self._shown = False, ""
        # Asked here, by all processes: without max_steps, finding out takes all of them.
        self._total = _num_steps(trainer)
        if self._enabled and sys.stderr.isatty():
            self._progress = Progress(
                TextColumn("step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=30),
                TextColumn("{task.fields[metrics]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._progress.add_task(
                "step", total=self._total, completed=trainer.global_step, metrics=""
            )
            self._progress.start()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Show what was logged behind the last batch, when all callbacks have done so."""
        if self._enabled and self._is_new and time.perf_counter() - self._read_at > _REREAD:
            self._read(trainer)
            if self._progress:
                self._progress.update(self._task, metrics=self._shown)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move on."""
        if not self._enabled:
            return
        step = trainer.global_step
        if step != self._logged_step and logs_at(trainer, step):
            self._logged_step, self._is_new = step, True
        if self._progress:
            self._progress.update(self._task, completed=step)
        elif time.perf_counter() - self._spoken > self.log_seconds:
            self._say(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the new scores of a training run."""
        if self._enabled and trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._read(trainer)
            if self._progress:
                self._progress.update(self._task, metrics=self._shown)
            else:
                self._say(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Close the bar, so that the message is not drawn over."""
        self._close()

    def _close(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None

    def _say(self, trainer: pl.Trainer) -> None:
        """Write a line to the log."""
        self._spoken = time.perf_counter()
        total = self._total
        parts = [f"step {trainer.global_step}" + (f"/{total}" if total else "")]
        done = trainer.global_step - self._first_step
        if total and done:
            left = (self._spoken - self._started) / done * (total - trainer.global_step)
            parts.append(f"{_duration(left)} left")
        if self._shown:
            parts.append(self._shown)
        print(*parts, sep="  ", file=sys.stderr, flush=True)  # noqa: T201

    def _read(self, trainer: pl.Trainer) -> None:
        """Take the values of this moment from the device."""
        parts = []
        for name, value in trainer.progress_bar_metrics.items():
            if not isinstance(value, int | float):
                continue
            if name.endswith("tokens_per_second"):
                parts.append(f"{value:,.0f} tokens/s")
            elif name.endswith("mfu"):
                parts.append(f"MFU {100 * value:.3g} %")
            else:
                parts.append(f"{name} {value:.4g}")
        self._shown, self._is_new, self._read_at = "  ".join(parts), False, time.perf_counter()


def _num_steps(trainer: pl.Trainer) -> int | None:
    """Optimizer steps of the run, if they are known."""
    if trainer.max_steps > 0:
        return trainer.max_steps
    steps = trainer.estimated_stepping_batches
    return None if steps == float("inf") else int(steps)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
