"""Steps that would spoil the weights are not made."""

from __future__ import annotations

import contextlib
import logging
import math
import statistics
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.callbacks import WeightAveraging

from rnafm.callbacks.bad_steps import StepRecord, leaves_out_by_itself, tell, whole
from rnafm.callbacks.saving import between_steps, model_checkpoints, save_no_more
from rnafm.moments import logs_at

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer

logger = logging.getLogger(__name__)


class LossGuard(pl.Callback):
    """Leave out optimizer steps with gradients that are not finite, or with a loss that jumps up.

    A step that is left out changes neither weights nor optimizer; it counts as a step, so that
    schedules and data go on. Its number, loss, gradient norm and sequences are written to
    ``skipped.jsonl`` in the folder of the run, and ``train/skipped_steps`` is logged. All processes
    decide alike, and a continued run goes on counting. A fused Adam, as Adam is by default, leaves
    the step out by itself, and a line is written one step later: nobody waits for a GPU.

    In 16-mixed precision gradients that are not finite are part of the method, and its scaler's
    business.

    Args:
        action: ``skip`` leaves bad steps out. ``rollback`` does so too, and after ``patience`` of
            them in a row takes weights and optimizer from ``last.ckpt`` and goes on with the data
            that follow. ``stop`` ends the run at the first one.
        spike: How many times the median loss of the last steps is a jump; 2 is common. Without it
            only what is not finite is bad.
        window: Steps over which that median is taken; before there are as many none is a jump.
        patience: Bad steps in a row after which something is done about it: a rollback, or where
            there are none the end of the run.
        max_rollbacks: Rollbacks of a run; instead of one more it ends.
    """

    def __init__(
        self,
        action: Literal["skip", "rollback", "stop"] = "skip",
        spike: float | None = None,
        window: int = 100,
        patience: int = 10,
        max_rollbacks: int = 3,
    ) -> None:
        if spike is not None and spike <= 1:
            raise ValueError(f"spike ({spike}) must be above 1, such as 2, or null for none")
        if window < 2 or patience < 1 or max_rollbacks < 0:  # noqa: PLR2004
            raise ValueError(
                f"window ({window}) must be at least 2, patience ({patience}) at least 1 and "
                f"max_rollbacks ({max_rollbacks}) at least 0"
            )
        self.action, self.spike, self.window = action, spike, window
        self.patience, self.max_rollbacks = patience, max_rollbacks
        self.skipped = self.rollbacks = self.in_a_row = 0
        self._recent: list[float] = []
        self._loss: float | torch.Tensor = 0.0
        self._sequences: list[torch.Tensor] = []
        self._pending: StepRecord | None = None

    @property
    def in_doubt(self) -> bool:
        """Whether the weights may have to be given up, and a checkpoint of them be of no use."""
        return self.action == "rollback" and self.in_a_row > 0

    def state_dict(self) -> dict[str, Any]:
        """What was counted, and the losses of the last steps."""
        self._settle()
        return {
            "skipped": self.skipped,
            "rollbacks": self.rollbacks,
            "in_a_row": self.in_a_row,
            "recent": self._recent,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped, self.rollbacks = state_dict["skipped"], state_dict["rollbacks"]
        self.in_a_row, self._recent = state_dict["in_a_row"], list(state_dict["recent"])

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Refuse to promise a rollback that could not be made."""
        if self.action == "rollback" and not trainer.strategy.lightning_restore_optimizer:
            raise ValueError(
                f"LossGuard.action rollback is not offered with {type(trainer.strategy).__name__}, "
                "which has parts of the optimizer on every device; use skip"
            )

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin a new step, from earlier weights if there have been too many bad ones."""
        if between_steps(trainer, batch_idx):
            self._loss, self._sequences = 0.0, []
            if self.in_a_row >= self.patience:
                self._roll_back(trainer)
        indices = getattr(batch, "indices", None)
        if indices is not None:
            self._sequences.append(indices)

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor
    ) -> None:
        """Add up the loss of a step, whose parts are divided by their number already."""
        if self.spike is not None:
            mean = trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")
            self._loss = float(self._loss) + float(mean)
        else:  # only for the record
            self._loss = self._loss + loss.detach()

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Judge the step, and take its gradients away if it is bad."""
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        self._settle()
        norm = whole(pl_module.gradient_norm())  # type: ignore[operator]  # of all tasks
        record = StepRecord(trainer, self._loss, norm, self._sequences)
        if self.action == "skip" and self.spike is None and leaves_out_by_itself(optimizer):
            tell(optimizer, norm)
            self._pending = record
            return
        if self._conclude(record):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None  # optimizers pass over it, with all they know of it

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what became of the last step."""
        self._settle()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what became of the last step."""
        self._settle()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Say what became of the last step, if a device that may be in trouble has said so."""
        with contextlib.suppress(ValueError, RuntimeError):  # the run ends already
            if self._pending is not None and self._pending.is_there():
                self._settle(alone=True)

    def _settle(self, *, alone: bool = False) -> None:
        """Conclude the last step, if that was left for later."""
        record, self._pending = self._pending, None
        if record is not None:
            self._conclude(record, alone=alone)

    def _conclude(self, record: StepRecord, *, alone: bool = False) -> bool:
        """Whether a step is bad; count it, write it down, and end the run if that has to be."""
        loss, norm = record.read()
        reason = self._judge(loss, norm)
        if reason is None:
            self.in_a_row = 0
            if self.spike is not None:
                self._recent = [*self._recent, loss][-self.window :]
            return False
        self.skipped += 1
        self.in_a_row += 1
        record.write_down(reason, alone=alone)
        about = f"step {record.step}: {reason}"
        if self.action == "stop":
            save_no_more(record.trainer)  # the weights of this moment may be of no use
            raise ValueError(f"{about}; LossGuard.action is stop, so the run ends here")
        if self.action == "skip" and self.in_a_row >= self.patience:
            save_no_more(record.trainer)  # the weights of this moment may be of no use
            raise ValueError(
                f"{about}, as in {self.in_a_row} steps in a row: this does not pass by itself. "
                "Lower the learning rate, look at the sequences in skipped.jsonl, or continue from "
                "an earlier checkpoint"
            )
        logger.warning("Left out %s (%d so far)", about, self.skipped)
        return True

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Log what there is to log: a number takes a GPU's attention, so not at every step."""
        if not logs_at(trainer, trainer.global_step):
            return
        if self.skipped:
            pl_module.log("train/skipped_steps", float(self.skipped))
        if self.rollbacks:
            pl_module.log("train/rollbacks", float(self.rollbacks))

    def _judge(self, loss: float, norm: float) -> str | None:
        """What is bad about a step."""
        if not math.isfinite(norm):
            return f"the gradients are not finite (loss {loss:.4g})"
        if self.spike is None:
            return None
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if len(self._recent) >= self.window:
            usual = statistics.median(self._recent)
            if loss > self.spike * usual:
                return f"the loss of {loss:.4g} is above {self.spike:g} times the usual {usual:.4g}"
        return None

    def _roll_back(self, trainer: pl.Trainer) -> None:
        """Take weights and optimizer from the last checkpoint; data and schedule go on."""
        paths = [each.last_model_path for each in model_checkpoints(trainer)]
        paths = [path for path in paths if path]
        about = f"{self.in_a_row} bad steps in a row at step {trainer.global_step}"
        if self.rollbacks >= self.max_rollbacks:
            raise ValueError(
                f"{about}, after {self.rollbacks} rollbacks already (LossGuard.max_rollbacks): "
                "lower the learning rate, or look at the sequences in skipped.jsonl"
            )
        if not paths and trainer.ckpt_path:  # of a run that was continued a moment ago
            paths = [str(trainer.ckpt_path)]
        if not paths:
            raise ValueError(
                f"{about}, and there is no last.ckpt to go back to yet; give the ModelCheckpoint "
                "save_last: true and SaveLast every_n_steps"
            )
        content = trainer.strategy.checkpoint_io.load_checkpoint(paths[0], weights_only=True)
        rates = [group["lr"] for each in trainer.optimizers for group in each.param_groups]
        weights = content.get("current_model_state", content["state_dict"])
        trainer.lightning_module.load_state_dict(weights)
        for each in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(each, WeightAveraging):
                each.on_load_checkpoint(trainer, trainer.lightning_module, content)
        trainer.strategy.load_optimizer_state_dict(content)
        groups = [group for each in trainer.optimizers for group in each.param_groups]
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        self.rollbacks += 1
        self.in_a_row = 0
        logger.warning(
            "%s: weights and optimizer are those of step %d again (%s, rollback %d of %d)",
            about,
            content["global_step"],
            paths[0],
            self.rollbacks,
            self.max_rollbacks,
        )
