"""Lightning's command line for rnafm's tasks and data: fit, validate, test."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins.io import CheckpointIO
from lightning.pytorch.callbacks import ModelSummary, ProgressBar
from lightning.pytorch.cli import LightningCLI

import rnafm.data.labelled  # so that these classes can be named without a path
import rnafm.data.rnacentral
import rnafm.data.structures  # noqa: F401
from rnafm import __version__
from rnafm.callbacks import (
    KeepRunId,
    LossCurve,
    LossGuard,
    ModelTable,
    OutliveFullDisk,
    Preempted,
    Preemption,
    RunPage,
    RunProgress,
    SaveLast,
    SealedCheckpointIO,
    TestReport,
    Throughput,
)
from rnafm.callbacks.slurm import requeue_job
from rnafm.continuing import (
    NAMES,
    check_task,
    find_checkpoint,
    read_facts,
    remove_empty_run,
    say_done,
    say_stopped,
)
from rnafm.data.datamodule import RNADataModule
from rnafm.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lightning.pytorch import Trainer


logger = logging.getLogger(__name__)

_ALWAYS = (
    OutliveFullDisk,
    RunProgress,
    ModelTable,
    Throughput,
    LossCurve,
    KeepRunId,
    LossGuard,
    SaveLast,
    Preemption,
    TestReport,
    RunPage,  # it shows what the others have written
)
_PACKAGE = Path(__file__).parent


class TrainingCLI(LightningCLI):
    """Lightning's own, with its traps closed and rnafm's callbacks added."""

    def before_instantiate_classes(self) -> None:
        """Save the configuration as ``fit.yaml``, ``test.yaml``: no verb replaces another's."""
        self.save_config_kwargs = {
            "config_filename": f"{self.subcommand}.yaml",
            "overwrite": True,
        }
        config = self.config[self.subcommand]
        config.weights_only = True  # whatever a file asks for, nothing in it is executed
        self._facts = read_facts(config.ckpt_path) if config.get("ckpt_path") else {}
        options = getattr(config.trainer.logger, "init_args", {})
        if self.subcommand == "fit" and "id" in options and options["id"] is None:
            options["id"] = self._facts.get("wandb_id")
        run = _run_of(config.get("ckpt_path"))
        if self.subcommand == "test" and run is not None and _writes_files(config.trainer.logger):
            # Beside what it is a test of, rather than in a folder of its own.
            config.trainer.logger.init_args.save_dir = str(run.parent)
            config.trainer.logger.init_args.name = run.name
            config.trainer.logger.init_args.version = "test"

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add rnafm's own callbacks to those of the configuration."""
        config = self.config_init[self.subcommand].trainer
        callbacks = list(config.callbacks or [])
        last = {type(each): each for each in callbacks}
        callbacks = [  # of several, as of a recipe and of a script, the last one counts
            each for each in callbacks if type(each) not in _ALWAYS or last[type(each)] is each
        ]
        options = {
            RunProgress: (ProgressBar, config.enable_progress_bar),
            ModelTable: (ModelSummary, config.enable_model_summary),
        }
        for kind in _ALWAYS:
            base, wanted = options.get(kind, (kind, None))
            if wanted is not False and not any(isinstance(each, base) for each in callbacks):
                callbacks.append(kind())
        callbacks.sort(key=lambda each: isinstance(each, RunPage))  # it shows what others write
        plugins = config.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        inside = getattr(config.strategy, "_checkpoint_io", None)
        if inside is None and not any(isinstance(each, CheckpointIO) for each in plugins):
            plugins = [*plugins, SealedCheckpointIO()]
        return super().instantiate_trainer(
            callbacks=callbacks,
            plugins=plugins,
            enable_model_summary=False,  # Lightning's
            **kwargs,
        )

    def after_fit(self) -> None:
        """Say where the run is and what comes next; an error if it is not all on the disk."""
        folder = self.trainer.log_dir  # asked of the first process by all of them
        failed = getattr(self.trainer.strategy.checkpoint_io, "failed", {})
        if failed:
            listed = "; ".join(f"{path}: {reason}" for path, reason in failed.items())
            sys.exit(
                f"rnafm fit: training is done, but not all of it could be saved ({listed}); what "
                "was saved before is still there. Put the disk right and continue with "
                "--ckpt_path last"
            )
        say_done(self.trainer, folder)

    def _run_subcommand(self, subcommand: str) -> None:
        """Leave nothing behind of a run that did not begin, such as a number of its own."""
        folder = Path(self.trainer.log_dir) if self.trainer.log_dir else None
        is_new = folder is not None and not folder.exists()
        try:
            super()._run_subcommand(subcommand)
        except BaseException:
            if folder is not None and is_new and self.trainer.is_global_zero:
                remove_empty_run(folder)
            raise

    def before_fit(self) -> None:
        """Refuse the checkpoint of another task."""
        self._check_task()

    def before_validate(self) -> None:
        """Refuse the checkpoint of another task."""
        self._check_task()

    def before_test(self) -> None:
        """Refuse the checkpoint of another task."""
        self._check_task()

    def _check_task(self) -> None:
        path = self.config_init[self.subcommand].ckpt_path
        if path is not None:
            check_task(self.model, self._facts, path)
        elif self.subcommand != "fit":
            brought = "random"
            if self.model.source is not None:
                brought = "those of model.checkpoint, and random where it has none"
            logger.warning(
                "rnafm %s without --ckpt_path scores the weights that a run begins with (%s); for "
                "those that were trained add --ckpt_path best",
                self.subcommand,
                brought,
            )

    def _parse_ckpt_path(self) -> None:
        """Keep the configuration as given; Lightning would let the checkpoint's replace it.

        ``--ckpt_path last`` is the newest ``last.ckpt`` of all runs of this name: Lightning would
        look into the folder of the new run, find nothing and start again from the beginning.
        ``best`` is the newest ``best.ckpt``, and ``auto`` is ``last`` or, if there is none, a new
        run. With the ``fit.yaml`` of a run they are that run's.
        """
        config = self.config[self.config.subcommand]
        if config.get("ckpt_path") in NAMES:
            config.ckpt_path = find_checkpoint(config.ckpt_path, config)
            if config.ckpt_path is not None:
                does = "Continuing" if self.config.subcommand == "fit" else "Using"
                logger.info("%s %s", does, config.ckpt_path)


def _run_of(ckpt_path: str | None) -> Path | None:
    """The folder of the run that a checkpoint is of."""
    folder = None if ckpt_path is None else Path(ckpt_path).parent
    return folder.parent if folder is not None and folder.name == "checkpoints" else None


def _writes_files(logger: Any) -> bool:
    return str(getattr(logger, "class_path", "")).endswith("CSVLogger")


def run(args: Sequence[str] | None = None) -> TrainingCLI:
    """Run one of Lightning's verbs.

    Args:
        args: Verb and options; those of the process if not given.
    """
    words = [_shipped(word) for word in (sys.argv[1:] if args is None else args)]
    if args is None:  # Lightning warns if it gets words while the process has others
        sys.argv[1:] = words
    _show_messages()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_no_advertisement)
    # Nothing that a user could change: a tool has started this, or Lightning uses torch so.
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")
    warnings.filterwarnings("ignore", ".*treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", "The dirpath has changed")  # continued and tested runs
    warnings.filterwarnings("ignore", "You're using the WeightAveraging callback with a model that")
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs that have it; nothing elsewhere
    try:
        return TrainingCLI(
            Task,
            RNADataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            parser_kwargs={"prog": "rnafm", "version": __version__},
            args=None if args is None else words,
        )
    except ValueError as error:
        cause = error.__cause__  # in what jsonargparse says is what a class has said
        if isinstance(cause, ValueError | OSError) and "of the Union subtypes" in str(error):
            raise cause from None
        raise
    except Preempted as stop:
        say_stopped(stop)
        if stop.requeue:  # last of all: it ends the job
            requeue_job()
        raise


def _show_messages() -> None:
    """Print what the package has to say, once and not on every device."""
    package = logging.getLogger("rnafm")
    first = os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"
    package.setLevel(logging.INFO if first else logging.ERROR)
    package.handlers = [_StandardError()]


class _StandardError(logging.StreamHandler[Any]):
    """Writes to what standard error is at the time, which tests and notebooks change."""

    @property
    def stream(self) -> Any:
        """The stream of this moment."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Not kept."""


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    """Lightning recommends products of its makers at every start."""
    return "Tip: For seamless" not in record.getMessage()


def _shipped(word: str) -> str:
    """The path of a shipped configuration given by name, such as ``pretrain/small.yaml``."""
    option, equals, value = word.rpartition("=")
    path = Path(value)
    if path.suffix != ".yaml" or path.exists() or (equals and option != "--config"):
        return word
    name = path.relative_to("configs") if path.parts[0] == "configs" else path
    for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs"):  # installed; in a clone
        if (folder / name).is_file():
            return f"{option}{equals}{folder / name}"
    return word
