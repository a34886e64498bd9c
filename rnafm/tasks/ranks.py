"""When one of several processes fails, all of them end, and say why."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
import threading
import time
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import distributed

logger = logging.getLogger(__name__)

_KEY = "rnafm failed first"
_INTERVAL = 1.0  # seconds between two looks at whether the parent is alive


class EndTogether(pl.Callback):
    """End all processes of a run when one fails; nothing to do where there is only one.

    By itself a process that fails would try to save a checkpoint, which takes all processes, while
    the others wait for it in the middle of a step: all would hang until a timeout, and the reason
    would never be printed. So the reason is printed first and the connection to the others closed,
    which ends their waiting. On the CPU each process then knows that it is alone, and the first one
    can still save ``last.ckpt`` (not where parameters are sharded). On GPUs nothing is saved any
    more, since what they wait for cannot be called back; the launcher ends the processes that wait.
    """

    def __init__(self) -> None:
        self._failed = self._prepared = False
        self._kept: Any = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Prepare for the end."""
        if trainer.world_size == 1 or self._prepared:
            return
        self._prepared = True
        atexit.register(self._leave)
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if isinstance(environment, LightningEnvironment) and trainer.local_rank:
            # Started by the first process. Where that is killed, nobody else would end this one.
            threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Say what has happened, and leave the others."""
        if trainer.world_size == 1 or isinstance(exception, SystemExit):
            return  # all processes have agreed to stop, and save together
        self._failed = True
        # What still sends gradients waits for the others when it is deleted, as teardown would do.
        self._kept = trainer.strategy.model
        rank, first = trainer.global_rank, _first_to_fail(trainer.global_rank)
        if first == rank:
            what = f"{type(exception).__name__}: {exception}"
            logger.error("Process %d of %d has failed: %s", rank, trainer.world_size, what)
        else:
            logger.error("Process %d ends, because process %d has failed", rank, first)
            sys.excepthook = _say_nothing  # of the lost connection, after the reason
        sharded = pl_module.device_mesh is not None
        if distributed.is_initialized() and distributed.get_backend() == "gloo":
            distributed.destroy_process_group()
            alone = not sharded
        else:
            alone = False
        for each in trainer.checkpoint_callbacks:
            if isinstance(each, ModelCheckpoint) and not alone:
                each.save_on_exception = False

    def _leave(self) -> None:
        """At the exit of a failed process, when all is said: wait for no other one."""
        if self._failed:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)


def _first_to_fail(rank: int) -> int:
    """Number of the process that failed first, as far as the others can still be asked."""
    with contextlib.suppress(Exception):  # the process that keeps the store may be gone
        store = distributed.distributed_c10d._get_default_store()  # noqa: SLF001
        return int(store.compare_set(_KEY, "", str(rank)))
    return rank


def _say_nothing(*_: object) -> None:
    """Print no traceback."""


def _end_with(parent: int) -> None:
    """End this process when its parent has ended."""
    while os.getppid() == parent:
        time.sleep(_INTERVAL)
    os.write(2, b"rnafm: the process that started this one has ended, and so does this one\n")
    os._exit(1)
