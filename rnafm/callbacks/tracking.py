"""Weights & Biases, offline first, and never the end of a run."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import lightning.pytorch as pl
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger, WandbLogger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

logger = logging.getLogger(__name__)

_STEP = "trainer/global_step"
_WAIT = "1800"  # seconds that a run that is done waits for its uploads
# Scores by the last word of their names: what a table of runs shows of them beside the last value.
_SMALL_IS_GOOD = {"loss", "perplexity", "mse", "rmse", "mae"}
_LARGE_IS_GOOD = {
    *("accuracy", "f1", "macro_f1", "precision", "recall", "mcc", "auroc", "auprc"),
    *("spearman", "pearson", "r2"),
}


class OutliveFullDisk(pl.Callback):
    """Go on when ``metrics.csv`` cannot be written: what is measured is kept for the next time."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Stand between the loggers and the disk."""
        for each in trainer.loggers:
            if isinstance(each, CSVLogger) and trainer.is_global_zero:
                # Once for each object, though a trainer may be set up several times.
                each.__dict__.setdefault("save", _tolerant(each.save))


def _tolerant(save: Callable[[], None]) -> Callable[[], None]:
    """The same, with errors of the disk logged."""

    def attempt() -> None:
        try:
            save()
        except OSError as error:
            logger.warning("metrics.csv could not be written (%s); tried again later", error)

    return attempt


class Forgiving:
    """Turns errors of W&B into warnings, one for each thing that does not work."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    @contextlib.contextmanager
    def __call__(self, what: str) -> Iterator[None]:
        """Go on after the block, whatever happens in it.

        Args:
            what: Is missing on the page if the block fails.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001  # of a network, a disk, a server, a new version
            if what not in self._said:
                self._said.add(what)
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                logger.warning("W&B: %s could not be logged (%s); the run goes on", what, reason)


class _CsvWithoutWandb:
    """Becomes a CSVLogger if there is no wandb that works.

    A class of its own, so that the parameters of the command line stay those of ``__init__``.
    """

    def __new__(cls, save_dir: str = "runs", project: str = "rnafm", **_: Any) -> Self:
        try:
            import wandb  # noqa: F401
        except Exception as error:  # noqa: BLE001  # also of what it needs, such as protobuf
            logger.warning("W&B cannot be used (%s): metrics go to metrics.csv instead", error)
            return CSVLogger(save_dir, project)  # type: ignore[return-value]
        return super().__new__(cls)


class OfflineFirstWandbLogger(_CsvWithoutWandb, WandbLogger):
    """Log to W&B; without an API key or a network, to a folder that ``wandb sync`` uploads later.

    Each run has a folder of its own, ``save_dir/project/version_<n>``, as CSVLogger gives it.
    Whatever W&B cannot do is a warning. Where it is switched off (``WANDB_MODE=disabled``), not
    installed or cannot start, metrics go to ``metrics.csv`` in that folder instead.

    Args:
        save_dir: Where the runs lie.
        project: Name of the project.
        **kwargs: See Lightning's ``WandbLogger``.
    """

    def __init__(self, save_dir: str = "runs", project: str = "rnafm", **kwargs: Any) -> None:
        folder = Path(save_dir) / project
        taken = [path.name.removeprefix("version_") for path in folder.glob("version_*")]
        number = max([int(name) for name in taken if name.isdigit()], default=-1) + 1
        folder /= f"version_{number}"
        os.environ.setdefault("WANDB_FINISH_TIMEOUT", _WAIT)  # before wandb reads the environment
        mode = kwargs.pop("mode", None) or os.environ.get("WANDB_MODE")
        if not mode and not kwargs.get("offline") and (reason := _why_offline()):
            mode = "offline"
            logger.warning(
                "%s: this run is logged offline. To upload it later: wandb login, then "
                "wandb sync %s/wandb/offline-run-*",
                reason,
                folder,
            )
        # As an argument of wandb.init the mode wins over whatever wandb has read before.
        super().__init__(save_dir=str(folder), project=project, mode=mode, **kwargs)
        if self._wandb_init.get("anonymous") is None:  # even None makes wandb warn
            self._wandb_init.pop("anonymous", None)
        self._forgiving, self._defined = Forgiving(), set[str]()
        self._instead: CSVLogger | None = None

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of wandb, begun when it is first asked for; offline if there is no server."""
        last = "disabled"  # which needs no server, no process and no disk
        for mode in (self._wandb_init["mode"], "offline", last):
            if self._experiment is not None:
                break
            self._wandb_init["mode"] = mode
            if mode == last and self._instead is None:
                self._instead = CSVLogger(str(self._save_dir), name="", version="")
            try:
                if mode != last:  # or wandb says that the folder is not there yet
                    Path(str(self._save_dir)).mkdir(parents=True, exist_ok=True)
                super().experiment  # noqa: B018  # it keeps the run
            except Exception as error:
                if mode == last:
                    raise
                logger.warning(
                    "W&B could not begin a run (%s): %s", str(error).splitlines()[0], _next(mode)
                )
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers; a table of runs shows the best value of a score beside the last one."""
        with self._forgiving("metrics"):
            for name in metrics.keys() - self._defined:
                self._defined.add(name)
                if summary := _summary(name):
                    self.experiment.define_metric(
                        name, step_metric=_STEP, step_sync=True, summary=summary
                    )
            super().log_metrics(metrics, step)
        if self._instead is not None:
            with self._forgiving("metrics.csv"):
                numbers: dict[str, Any] = {
                    key: value for key, value in metrics.items() if _is_number(value)
                }
                self._instead.log_metrics(numbers, step)
                self._instead.save()

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log parameters."""
        with self._forgiving("hyperparameters"):
            super().log_hyperparams(params)

    @rank_zero_only
    def log_image(
        self, key: str, images: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """Log pictures."""
        with self._forgiving("pictures"):
            super().log_image(key, images, step, **kwargs)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Log what Lightning logs at the end, if ``log_model`` asks for it."""
        with self._forgiving("checkpoints"):
            super().finalize(status)


class KeepRunId(pl.Callback):
    """Put the id of the W&B run into checkpoints, so that a continued run is the same run there.

    It is kept through parts of the run that are not logged there.
    """

    def __init__(self) -> None:
        self._id: str | None = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add it, where there is one: the first process has it, and writes."""
        found = self._id
        for each in trainer.loggers:
            if isinstance(each, WandbLogger):
                found = each.version or found
        if found is not None:
            checkpoint["wandb_id"] = found

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember it."""
        self._id = checkpoint.get("wandb_id")


def _why_offline() -> str | None:
    """Why W&B cannot be reached; None if it can, or if that is not this process's business."""
    if getattr(rank_zero_only, "rank", 0):
        return None
    import wandb

    try:
        return None if wandb.login(prompt=False) else "No W&B key"
    except Exception as error:  # noqa: BLE001  # a key without a network, or one that is refused
        return f"W&B refuses the key or cannot be reached ({str(error).splitlines()[0]})"


def _next(mode: str | None) -> str:
    if mode == "offline":
        return "nothing of this run goes there, metrics go to metrics.csv instead"
    return "it is logged offline, for wandb sync"


def _summary(name: str) -> str | None:
    """What a table of runs shows of a metric; None for its last value."""
    group, _, rest = name.partition("/")
    word = rest.rpartition("/")[2]
    if group == "throughput" and word != "tokens":  # these are counted from the start
        return "max" if word.startswith("peak") else "mean,last"
    if group not in ("train", "val", "test") or word.startswith("baseline"):
        return None
    if word in _SMALL_IS_GOOD:
        return "min,last"
    return "max,last" if word in _LARGE_IS_GOOD else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or hasattr(value, "item")
