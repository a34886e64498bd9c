"""Which run a command goes on from, and what that run says about itself."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnafm.callbacks import Preempted
    from rnafm.tasks import Task

logger = logging.getLogger(__name__)

_BEGUN = ("fit.yaml", "validate.yaml", "test.yaml", "hparams.yaml")
NAMES = ("last", "best", "auto")


def find_checkpoint(name: str, config: Any) -> str | None:
    """The path behind ``--ckpt_path last``, ``best`` or ``auto``.

    Args:
        name: ``auto`` is ``last`` if there is one, and a new run otherwise.
        config: Of the verb, with the trainer's logger and the files of the command line.

    Returns:
        None for a new run.
    """
    wanted = "last" if name == "auto" else name
    options = getattr(config.trainer.logger, "init_args", {})
    # W&B has names for people and projects for folders.
    parent = options.get("project") or options.get("name") or ""
    folder = Path(options.get("save_dir") or ".", parent)
    # The configuration of a run means that run, whatever others there are.
    own = [Path(path.absolute).parent / "checkpoints" for path in config.get("config") or []]
    found = [path / f"{wanted}.ckpt" for path in own if (path / f"{wanted}.ckpt").is_file()]
    found = found or list(folder.rglob(f"{wanted}.ckpt"))
    if found:
        return str(max(found, key=lambda path: path.stat().st_mtime_ns))
    if name == "auto":
        logger.info("There is no last.ckpt under %s to continue: a new run begins", folder)
        return None
    sys.exit(f"rnafm: --ckpt_path {name}: there is no {wanted}.ckpt under {folder}; give its path")


def read_facts(path: str) -> dict[str, Any]:
    """What a checkpoint says beside its weights; all of the file is verified on the way.

    Nothing is known of checkpoints elsewhere, such as ``s3://``, until Lightning reads them.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged.
    """
    if "://" in path or Path(path).is_dir():
        return {}
    if not Path(path).is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give the path of a .ckpt file")
    from rnafm.checkpoints.pickles import load_pickle

    content = load_pickle(Path(path))
    return {key: content[key] for key in ("task", "wandb_id", "global_step") if key in content}


def check_task(task: Task, facts: dict[str, Any], path: str) -> None:
    """Refuse the checkpoint of another task, whose weights would not fit.

    Raises:
        ValueError: If it is of another one.
    """
    own = f"{type(task).__module__}.{type(task).__qualname__}"
    other = facts.get("task", own)
    if other != own:
        raise ValueError(
            f"{path} is of {other}, and this recipe is for {own}; use the configuration of that "
            "run (fit.yaml in its folder), or start a new run from its weights with "
            f"--model.checkpoint {path}"
        )


def remove_empty_run(folder: Path) -> None:
    """Remove the folder of a run that has only its configuration."""
    found = [] if not folder.is_dir() else list(folder.iterdir())
    if all(path.name in _BEGUN and path.is_file() for path in found):
        for path in found:
            path.unlink()
        with contextlib.suppress(OSError):  # there is none, or somebody has put something there
            folder.rmdir()


def say_done(trainer: Any, folder: str | None) -> None:
    """Tell a user where the run is and what comes next."""
    keepers = [each for each in trainer.checkpoint_callbacks if hasattr(each, "last_model_path")]
    path = next((each.last_model_path for each in keepers if each.last_model_path), None)
    config = Path(folder or ".", "fit.yaml")
    if path is None or trainer.fast_dev_run:
        return
    logger.info("Done: %s", config.parent)
    if any(getattr(each, "validation_due", False) for each in trainer.callbacks):
        logger.warning(
            "The last validation was interrupted: rnafm validate --config %s --ckpt_path last",
            config,
        )
    if hasattr(trainer.lightning_module, "objective"):
        best = Path(path).with_name("best.ckpt").is_file()
        name = "best" if best else "last"
        logger.info("Next: rnafm test --config %s --ckpt_path %s", config, name)
    else:
        logger.info(
            "Next: rnafm fit --config configs/finetune/... --model.checkpoint %s, or rnafm embed",
            path,
        )


def say_stopped(stop: Preempted) -> None:
    """Tell a user what became of a run that a signal has ended."""
    name = stop.signum.name
    if stop.saved:
        logger.warning(
            "%s: stopped at step %d and saved. To continue: the same command with --ckpt_path %s",
            name,
            stop.step,
            stop.saved[0],
        )
    elif stop.code == 1:
        logger.error(
            "%s: stopped at step %d, and that could not be saved; an earlier one is still there",
            name,
            stop.step,
        )
    else:
        logger.warning("%s: stopped before the first step: there is nothing new to save", name)
