"""Pictures that a run draws of itself."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from rnafm.files import atomic
from rnafm.moments import logs_at

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

_MAX_POINTS = 2000
_SECONDS = 5.0  # between two pictures


class LossCurve(pl.Callback):
    """Draw training and validation loss, with the composition baseline, to ``loss.png``.

    The picture lies beside the other files of the run (the trainer's ``log_dir``), is renewed
    after validations, though not more often than every five seconds, and when the run ends; it
    goes on where a resumed run had left it.
    """

    def __init__(self) -> None:
        self.train: list[tuple[int, float]] = []
        self.val: list[tuple[int, float]] = []
        self.baseline: float | None = None
        self._path: Path | None = None  # what is not drawn yet goes here
        self._drawn = -math.inf

    def state_dict(self) -> dict[str, Any]:
        """The points so far."""
        return {"train": self.train, "val": self.val, "baseline": self.baseline}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the points of the run that is continued."""
        self.train, self.val = list(state_dict["train"]), list(state_dict["val"])
        self.baseline = state_dict["baseline"]

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep a point whenever the trainer logs."""
        if logs_at(trainer, trainer.global_step):
            loss = trainer.callback_metrics.get("train/loss")
            if loss is not None and (not self.train or self.train[-1][0] != trainer.global_step):
                self.train.append((trainer.global_step, float(loss)))
            if len(self.train) > _MAX_POINTS:  # a month of training must not fill the checkpoint
                self.train = [_mean(pair) for pair in zip(*[iter(self.train)] * 2, strict=False)]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the validation loss and draw."""
        loss = trainer.callback_metrics.get("val/loss")
        if trainer.sanity_checking or trainer.state.fn != "fit" or loss is None:
            return
        self.val.append((trainer.global_step, float(loss)))
        if (baseline := trainer.callback_metrics.get("val/baseline_loss")) is not None:
            self.baseline = float(baseline)
        folder = trainer.log_dir  # asks the first process, so all of them must come by here
        if trainer.is_global_zero and folder is not None:
            self._path = Path(folder) / "loss.png"
            if time.monotonic() - self._drawn >= _SECONDS:
                self._draw_rest()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw what came since the last picture."""
        self._draw_rest()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Draw what came since the last picture."""
        self._draw_rest()

    def _draw_rest(self) -> None:
        if self._path is not None:
            self.draw(self._path)
            self._path, self._drawn = None, time.monotonic()

    def draw(self, path: Path) -> None:
        """Write the picture.

        Args:
            path: A PNG file; replaced as a whole.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
        axes = figure.subplots()
        if self.train:
            axes.plot(
                *zip(*self.train, strict=True), color="#9db7d5", lw=0.8, label="train, a step"
            )
            axes.plot(
                *zip(*_smooth(self.train), strict=True),
                color="#1f5fa8",
                lw=1.6,
                label="train, smoothed",
            )
        if self.val:
            label = f"validation (last: {self.val[-1][1]:.3f})"
            axes.plot(*zip(*self.val, strict=True), "o-", color="#d1495b", ms=3.5, label=label)
        if self.baseline is not None:
            label = f"composition baseline ({self.baseline:.3f})"
            axes.axhline(self.baseline, color="#444444", ls="--", lw=1, label=label)
        axes.set(
            xlabel="optimizer step",
            ylabel="loss" if self.baseline is None else "loss (nats per hidden token)",
            title="Loss" if self.baseline is None else "Masked-language-model loss",
        )
        low = min([loss for _, loss in self.val + _smooth(self.train)] or [0.0])
        if self.baseline is not None:  # the start of a run is far above all that matters later
            axes.set_ylim(low - 0.05, max(self.baseline + 0.25, low + 0.1))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)
        try:
            with atomic(path) as temporary:
                figure.savefig(temporary, format="png")
        except OSError as error:  # a full disk does not end a run
            logger.warning("%s: is not drawn (%s)", path, error.strerror or error)


def _smooth(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Moving mean over a twentieth of the points."""
    losses = torch.tensor([loss for _, loss in points], dtype=torch.float64)
    width = max(1, len(points) // 20)
    sums = torch.cat([losses.new_zeros(1), losses.cumsum(0)])
    means = (sums[width:] - sums[:-width]) / width
    steps = [step for step, _ in points[width // 2 : width // 2 + len(means)]]
    return list(zip(steps, means.tolist(), strict=True))


def _mean(pair: Sequence[tuple[int, float]]) -> tuple[int, float]:
    return pair[-1][0], sum(loss for _, loss in pair) / len(pair)
