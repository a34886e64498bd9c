"""What is known of one optimizer step, and the file in which bad ones are written down."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.optim import Adam

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from torch import Tensor
    from torch.optim import Optimizer

SKIPPED = "skipped.jsonl"


class StepRecord:
    """A step before it is made.

    Loss and norm are on their way from the device when this is made; reading them waits for it.

    Args:
        trainer: Knows the step.
        loss: Mean loss of the step on this device.
        norm: Norm of all gradients.
        sequences: Numbers of the sequences of its batches.
    """

    def __init__(
        self, trainer: pl.Trainer, loss: float | Tensor, norm: Tensor, sequences: list[Tensor]
    ) -> None:
        self.trainer, self.sequences = trainer, sequences
        self.step, self.epoch = trainer.global_step, trainer.current_epoch
        values = torch.stack([torch.as_tensor(loss, device=norm.device).to(norm), norm])
        self._values = values.to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event() if norm.is_cuda else None  # type: ignore[no-untyped-call]
        if self._copied is not None:
            self._copied.record()

    def is_there(self) -> bool:
        """Whether it can be read without waiting."""
        return self._copied is None or bool(self._copied.query())  # type: ignore[no-untyped-call]

    def read(self) -> tuple[float, float]:
        """Loss and norm, once the device has them."""
        if self._copied is not None:
            self._copied.synchronize()
        loss, norm = self._values.tolist()
        return loss, norm

    def write_down(self, reason: str, *, alone: bool = False) -> None:
        """Add a line to the file in the folder of the run.

        Args:
            reason: What is bad about the step.
            alone: Whether other processes take no part: then nothing is written if there are any.
        """
        trainer, (loss, norm) = self.trainer, self.read()
        sequences: list[int] = [number for part in self.sequences for number in part.tolist()]
        if trainer.world_size > 1:
            if alone:
                return
            parts: list[list[int]] = [[] for _ in range(trainer.world_size)]
            distributed.all_gather_object(parts, sequences)
            sequences = [each for part in parts for each in part]
        folder = trainer.log_dir  # asked of the first process by all of them
        if not trainer.is_global_zero or folder is None:
            return
        line = {
            "step": self.step,
            "epoch": self.epoch,
            "reason": reason,
            "loss": loss if math.isfinite(loss) else str(loss),
            "grad_norm": norm if math.isfinite(norm) else str(norm),
            "sequences": sequences,
        }
        Path(folder).mkdir(parents=True, exist_ok=True)
        with Path(folder, SKIPPED).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def leaves_out_by_itself(optimizer: Optimizer) -> bool:
    """Whether an optimizer leaves a step out when told so on the device, as a fused Adam does.

    A fused SGD would begin its momentum with whatever was in memory, were its first step left out.
    """
    groups = optimizer.param_groups
    parts = [hasattr(each, "full_tensor") for group in groups for each in group["params"]]
    fused = isinstance(optimizer, Adam) and all(group.get("fused") for group in groups)
    return fused and not any(parts)


def whole(norm: Any) -> Tensor:
    """A norm that all devices have; parameters may be divided over them, and so is theirs."""
    found: Tensor = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return found


def tell(optimizer: Any, norm: Tensor) -> None:
    """Let a fused optimizer leave its next step out if the gradients are not finite.

    This is how gradient scalers tell it, and nobody has to wait for the device.
    """
    optimizer.grad_scale, optimizer.found_inf = None, (~norm.isfinite()).to(torch.float32)
