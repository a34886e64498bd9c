"""Runs that are told to leave: save, stop, and be continued."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import WeightAveraging
from torch import distributed

from rnafm.callbacks.saving import SaveLast, between_steps, model_checkpoints

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger(__name__)

EXIT_CODES = {signal.SIGUSR1: 75, signal.SIGTERM: 143}
"""What the command ends with: "try again later", and "was terminated". The later one counts."""


class Preempted(SystemExit):
    """The run has stopped because a signal asked for it.

    Args:
        signum: The signal.
        code: What this process ends with.
        step: Optimizer steps of the run.
        saved: What to continue from; nothing if no step was made.
        requeue: Whether this process is to put the job back into the queue.
    """

    def __init__(
        self,
        signum: signal.Signals,
        code: int,
        step: int = 0,
        saved: list[Path] | None = None,
        *,
        requeue: bool = False,
    ) -> None:
        super().__init__(code)
        self.signum, self.step, self.saved, self.requeue = signum, step, saved or [], requeue


class Preemption(pl.Callback):
    """Save and stop when SIGTERM or SIGUSR1 comes, as from a cluster that wants its machine back.

    The signal is only noted. When the step that is under way is done, or the batch of a validation,
    all processes agree to stop, ``last.ckpt`` is saved and the command ends: with 143 after
    SIGTERM, with 75 after SIGUSR1. It is enough that one process gets the signal. A validation that
    was stopped is made up for when the run continues. Before the first step there is nothing to
    save, and the signal ends the run at once.

    Args:
        requeue: Whether a SLURM job that gets SIGUSR1 is put back into the queue.
    """

    def __init__(self, *, requeue: bool = True) -> None:
        self.requeue = requeue
        self.validation_due = False
        self._received: signal.Signals | None = None
        self._process = os.getpid()
        self._before: dict[signal.Signals, Any] = {}
        self._training = False
        self._first_step = 0
        self._agreement: _Agreement | None = None
        self._shared_batches = 0

    def state_dict(self) -> dict[str, Any]:
        """Whether the validation of the last step is still to come."""
        return {"validation_due": self.validation_due}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.validation_due = state_dict["validation_due"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listen, before workers are started, which a signal to all processes would kill."""
        if stage == "fit":
            self._listen()

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen in Lightning's place."""
        self._listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen in Lightning's place, and from here on together."""
        self._listen()
        self._training, self._first_step = True, trainer.global_step
        if trainer.world_size > 1:
            self._agreement = _Agreement()
            # Lightning's own way to agree would wait for the GPU in every step.
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]  # noqa: SLF001

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Between two steps: make up for a validation, or stop."""
        if not between_steps(trainer, batch_idx):
            return
        if self.validation_due:
            self._validate(trainer)
        if (signum := self._agreed()) is not None:
            self._stop(trainer, signum)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out how many batches all processes have: so often they can agree."""
        if self._training:
            batches: Any = trainer.num_val_batches
            total = sum(batches) if isinstance(batches, list) else batches
            own = int(min(total, 2**31 - 1))
            self._shared_batches = self._agreement.least(own) if self._agreement else own

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Stop in the middle of a validation, with the weights of the last step."""
        if not self._training or self._shared_batches <= 0:
            return
        self._shared_batches -= 1
        if (signum := self._agreed()) is None:
            return
        for each in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(each, WeightAveraging):  # the averages were put in for the validation
                each.on_validation_epoch_end(trainer, pl_module)
        self.validation_due = True
        self._stop(trainer, signum)

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give the signals back."""
        self._release(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        self._release(trainer)

    def _listen(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may
        for signum in EXIT_CODES:
            current = signal.getsignal(signum)
            if current != self._note:
                self._before.setdefault(signum, current or signal.SIG_DFL)
                signal.signal(signum, self._note)

    def _release(self, trainer: pl.Trainer) -> None:
        lightnings = trainer._signal_connector._original_handlers  # noqa: SLF001
        for signum, before in self._before.items():
            if signum in lightnings:  # what it gives back after an error: it knows only ours
                lightnings[signum] = before
            if signal.getsignal(signum) == self._note:
                signal.signal(signum, before)
        self._before = {}

    def _note(self, number: int, _: Any) -> None:
        signum = signal.Signals(number)
        if os.getpid() != self._process:
            return  # in a worker, which its parent tells when to stop
        if not self._training:
            raise Preempted(signum, EXIT_CODES[signum], requeue=self._requeues(signum))
        if self._received != signal.SIGTERM:
            self._received = signum

    def _requeues(self, signum: signal.Signals) -> bool:
        first = os.environ.get("SLURM_PROCID", "0") == "0"
        return self.requeue and signum == signal.SIGUSR1 and "SLURM_JOB_ID" in os.environ and first

    def _agreed(self) -> signal.Signals | None:
        """The signal that all processes stop for; all ask equally often."""
        codes = list(EXIT_CODES)
        own = 0 if self._received is None else 1 + codes.index(self._received)
        highest = self._agreement.highest(own) if self._agreement else own
        return codes[highest - 1] if highest else None

    def _stop(self, trainer: pl.Trainer, signum: signal.Signals) -> None:
        """Save and raise, on all processes."""
        saved: list[Path] = []
        if trainer.global_step > self._first_step:
            found = (each for each in trainer.callbacks if isinstance(each, SaveLast))  # type: ignore[attr-defined]
            saved = next(found, SaveLast()).save(trainer, again=self.validation_due)
        for each in model_checkpoints(trainer):  # or it would save once more on the way out
            each._last_global_step_saved = trainer.global_step  # noqa: SLF001
        code = EXIT_CODES[signum]
        if getattr(trainer.strategy.checkpoint_io, "failed", {}):
            saved, code = [], 1
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if trainer.local_rank and isinstance(environment, LightningEnvironment):
            code = 0  # at another one Lightning kills the process that started this one
        requeue = trainer.is_global_zero and self._requeues(signum)
        raise Preempted(signum, code, trainer.global_step, saved, requeue=requeue)

    def _validate(self, trainer: pl.Trainer) -> None:
        """Run the validation that an earlier run did not finish, as its loop would have."""
        self.validation_due = False
        logger.info("Validating step %d, which was interrupted", trainer.global_step)
        loop, connector = trainer.fit_loop.epoch_loop, trainer._logger_connector  # noqa: SLF001
        loop._batches_that_stepped = trainer.global_step - 1  # noqa: SLF001  # logged under
        keepers = model_checkpoints(trainer)
        moments = [each._save_on_train_epoch_end for each in keepers]  # noqa: SLF001
        for each in keepers:  # that end was in the other run
            each._save_on_train_epoch_end = False  # noqa: SLF001
        first = connector._first_loop_iter  # noqa: SLF001
        trainer.validating = True
        loop.val_loop.restarting = False
        loop.val_loop.run()
        trainer.training = True
        connector._first_loop_iter = first  # noqa: SLF001
        for each, moment in zip(keepers, moments, strict=True):
            each._save_on_train_epoch_end = moment  # noqa: SLF001
        if trainer.should_stop:  # ends the epoch
            raise StopIteration


class _Agreement:
    """What all processes know, exchanged on the CPU so that no GPU is waited for."""

    def __init__(self) -> None:
        self._group = distributed.new_group(backend="gloo")
        self._pending: tuple[Any, torch.Tensor] | None = None

    def highest(self, value: int) -> int:
        """The highest value of all processes at the last call: known by now, nobody waits."""
        before, result = self._pending, 0
        if before is not None:
            before[0].wait()
            result = int(before[1])
        shared = torch.tensor([value], dtype=torch.int32)
        work = distributed.all_reduce(
            shared, distributed.ReduceOp.MAX, group=self._group, async_op=True
        )
        self._pending = (work, shared)
        return result

    def least(self, value: int) -> int:
        """The least value of all processes."""
        shared = torch.tensor([value], dtype=torch.int32)
        distributed.all_reduce(shared, distributed.ReduceOp.MIN, group=self._group)
        return int(shared)


def _nothing() -> None:
    """Stand in for what is not to be done."""
