"""Measure how fast a run is, in tokens that were real work, and say what limits it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from rnafm.callbacks.clock import Clock, DeviceWaits
from rnafm.callbacks.limits import Facts, explain
from rnafm.callbacks.work import Work, find_peak, peak_memory, squared_lengths
from rnafm.moments import logs_at

if TYPE_CHECKING:
    from rnafm.data.batch import Batch

logger = logging.getLogger(__name__)

_GIB = 1 << 30
_FEWEST = 20  # steps of a run about which something is said


@dataclass(frozen=True)
class Span:
    """What one process did between two moments.

    Attributes:
        tokens: Real ones.
        squares: Sum of the squared lengths of their sequences.
        batches: Packs, those that count for nothing included.
        steps: Optimizer steps.
        seconds: Of training: without validation and checkpoints.
        waited: Seconds of these in which the device had nothing to do for want of data.
        saving: Seconds of checkpoints.
    """

    tokens: int = 0
    squares: int = 0
    batches: int = 0
    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    saving: float = 0.0

    def __add__(self, other: Span) -> Span:
        """Both together."""
        return Span(*(own + more for own, more in zip(_values(self), _values(other), strict=True)))


class Throughput(pl.Callback):
    """Log how fast a run is, how well it uses the device, and at its end what limited it.

    At the trainer's ``log_every_n_steps``, over the steps since the last time, as ``throughput/``:

    - ``tokens_per_second`` of all devices, ``tokens`` so far, ``step_seconds``. Every token of a
      packed batch is a real one. Validation and checkpoints do not count as time.
    - ``mfu``, the share of its peak that a device reaches with what the encoder has to compute.
    - ``data_wait`` and ``saving``, the shares of the time in which a device had no data and in
      which checkpoints were written.
    - ``packing``, how full batches were, and ``peak_memory_gib``.

    A GPU is waited for only then, and where a run waits for it anyway: before it validates or
    saves.
    """

    def __init__(self) -> None:
        self.total_tokens = 0
        self._clock = Clock(self._wait)
        self._device = torch.device("cpu")
        self._waits: DeviceWaits | None = None
        self._spans: list[Span] = []
        self._first_step = self._logged_step = 0
        self._tokens = self._batches = 0
        self._fetched = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Tokens so far, for a resumed run."""
        return {"total_tokens": self.total_tokens}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on."""
        self.total_tokens = state_dict["total_tokens"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._device, self._work = pl_module.device, Work.of(pl_module)
        self._longest = self._work.config.max_length + 2
        counted = self._work.flops(1, 1) > 0
        self._peak = find_peak(self._device, str(trainer.precision)) if counted else None
        self._first_step = self._logged_step = trainer.global_step
        if self._device.type == "cuda":
            event: Any = torch.cuda.Event
            self._waits = DeviceWaits(lambda: event(enable_timing=True))
        self._spans = []
        self._clock.start(trainer.profiler)  # type: ignore[attr-defined]
        self._begin()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Note how long this batch was waited for."""
        if self._waits is not None:
            before, self._fetched = self._fetched, self._clock.read()["data"]
            self._waits.begin(self._fetched - before)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Count the batch; log when the trainer does."""
        self._batches += 1
        if not batch.filler:
            self._tokens += batch.tokens.numel()
            self.total_tokens += batch.tokens.numel() * trainer.world_size
            self._squares += squared_lengths(batch.cu_seqlens, self._longest)
        if self._waits is not None:
            self._waits.end()
        step = trainer.global_step
        # Batches whose gradients are accumulated share a step: only the last of them counts.
        if step != self._logged_step and logs_at(trainer, step):
            self._log(trainer, pl_module, self._close(step))

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Validation is not training."""
        if self._clock.running:
            self._wait()
            self._clock.validate()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what limited the run."""
        self._wait()
        self._finish(trainer, pl_module)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Say it of the part that was run; a GPU that may be in trouble is left alone."""
        self._finish(trainer, pl_module, close=self._device.type != "cuda")

    def _begin(self) -> None:
        """Count anew."""
        self._tokens = self._batches = 0
        self._squares = torch.zeros((), dtype=torch.int64, device=self._device)
        self._before = self._clock.read()
        self._fetched = self._before["data"]

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _close(self, step: int) -> Span:
        """What was done since the last time."""
        self._wait()
        now = self._clock.read()
        spent = {part: now[part] - self._before[part] for part in now}
        saving = spent.pop("saving")
        spent.pop("validation")
        span = Span(
            tokens=self._tokens,
            squares=int(self._squares),
            batches=self._batches,
            steps=step - self._logged_step,
            seconds=sum(spent.values()),
            waited=spent["data"] if self._waits is None else self._waits.settle(),
            saving=saving,
        )
        self._logged_step = step
        self._spans.append(span)
        if len(self._spans) > 2:  # noqa: PLR2004  # the first one warms up, the rest are one
            self._spans[1:] = [self._spans[1] + self._spans[2]]
        self._begin()
        return span

    def _log(self, trainer: pl.Trainer, task: pl.LightningModule, span: Span) -> None:
        tokens = torch.tensor(span.tokens, device=self._device)
        everywhere = int(trainer.strategy.reduce(tokens, reduce_op="sum"))
        # So far all devices were taken to do as much as this one.
        self.total_tokens += everywhere - span.tokens * trainer.world_size
        values = {
            "tokens": float(self.total_tokens),
            "step_seconds": span.seconds / span.steps,
            "data_wait": span.waited / span.seconds,
            "saving": span.saving / (span.seconds + span.saving),
            "packing": self._packing(trainer, span),
            "peak_memory_gib": peak_memory(self._device) / _GIB,
        }
        for name, value in values.items():
            if value is not None:
                task.log(f"throughput/{name}", value)
        shown = {"tokens_per_second": everywhere / span.seconds, "mfu": self._mfu(span)}
        for name, value in shown.items():
            if value is not None:
                # Lightning would put a number on the device, and read it behind every batch.
                task.log(f"throughput/{name}", torch.tensor(value), prog_bar=True)

    def _mfu(self, span: Span) -> float | None:
        if self._peak is None:
            return None
        return self._work.flops(span.tokens, span.squares) / span.seconds / self._peak

    def _packing(self, trainer: pl.Trainer, span: Span) -> float | None:
        """Share of the budget that was used; None where the budget is not in tokens."""
        data: Any = getattr(trainer, "datamodule", None)
        budget = getattr(data, "tokens_per_batch", None)
        if budget is None or getattr(data, "budget", budget) != budget:
            return None
        return span.tokens / (span.batches * float(budget))

    def _finish(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *, close: bool = True
    ) -> None:
        if not self._clock.running:
            return
        steps = trainer.global_step - self._first_step
        if close and self._batches:
            self._close(trainer.global_step)
        seconds = self._clock.read()
        self._clock.stop()
        if steps < _FEWEST or not self._spans or not trainer.is_global_zero:
            return
        span = self._spans[-1]
        waited = sum(each.waited for each in self._spans)
        facts = Facts.of(
            trainer,
            pl_module,
            seconds=seconds if self._waits is None else {**seconds, "data": waited},
            tokens_per_second=trainer.world_size * span.tokens / span.seconds,
            mfu=self._mfu(span),
            packing=self._packing(trainer, span),
        )
        logger.info("%s", explain(facts))


def _values(span: Span) -> list[Any]:
    return [getattr(span, name) for name in span.__dataclass_fields__]
