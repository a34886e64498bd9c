"""Learning-rate schedules, stepped once per optimizer step.

Each takes the optimizer and the number of steps that the run will make, which the task supplies;
a configuration gives the rest.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from torch.optim.lr_scheduler import LRScheduler

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


class Schedule(LRScheduler):
    """Multiplies every group's learning rate by a factor that depends on the step alone.

    Args:
        optimizer: Its learning rates at this moment are those that the factor multiplies.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer)

    @abstractmethod
    def factor(self, step: int) -> float:
        """What the learning rates of a step are multiplied by.

        Args:
            step: Number of the optimizer step, from 0.
        """

    def state_dict(self) -> dict[str, Any]:
        """Where the schedule stands. Its shape is not part of it: that is for the configuration."""
        names = ("base_lrs", "last_epoch", "_step_count", "_last_lr")
        return {name: getattr(self, name) for name in names}

    def get_lr(self) -> list[float | Tensor]:
        """Learning rate of each parameter group for the coming step."""
        factor = self.factor(self.last_epoch)
        return [float(rate) * factor for rate in self.base_lrs]


class InverseSqrt(Schedule):
    """Linear warm-up, then falling with one over the square root of the step.

    Needs no end, so a run can always be prolonged. The schedule of RNA-FM, after
    Vaswani et al. 2017 (arXiv:1706.03762).

    Args:
        optimizer: See :class:`Schedule`.
        total_steps: Not used.
        warmup_steps: Steps until the full learning rate.

    Raises:
        ValueError: If ``warmup_steps`` is below 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,  # noqa: ARG002  # all schedules are called alike
        warmup_steps: int = 10_000,
    ) -> None:
        if warmup_steps < 1:
            raise ValueError(f"warmup_steps ({warmup_steps}) must be at least 1")
        self.warmup_steps = warmup_steps
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """See :meth:`Schedule.factor`."""
        return min((step + 1) / self.warmup_steps, math.sqrt(self.warmup_steps / (step + 1)))


class WarmupCosine(Schedule):
    """Linear warm-up, then half a cosine down to a share of the full rate at the last step.

    Args:
        optimizer: See :class:`Schedule`.
        total_steps: Steps of the whole run.
        warmup: Share of the steps until the full learning rate.
        final: Share of the full rate that is left at the end.

    Raises:
        ValueError: If the run has no known end, or a share lies outside [0, 1].
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        warmup: float = 0.05,
        final: float = 0.1,
    ) -> None:
        if total_steps < 1:
            raise ValueError(
                "WarmupCosine has to know where the run ends; set trainer.max_steps or "
                "trainer.max_epochs, or use InverseSqrt, which needs no end"
            )
        for name, share in (("warmup", warmup), ("final", final)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} ({share}) is a share: it must lie between 0 and 1")
        self.warmup_steps = max(1, round(warmup * total_steps))
        self.total_steps, self.final = total_steps, final
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """See :meth:`Schedule.factor`."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        left = max(1, self.total_steps - self.warmup_steps)
        done = min(1.0, (step - self.warmup_steps) / left)
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2
