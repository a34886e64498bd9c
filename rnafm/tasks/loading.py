"""A trained task from its checkpoint."""

from __future__ import annotations

import contextlib
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnafm.tasks.base import Task
from rnafm.tasks.supervised import SupervisedTask

if TYPE_CHECKING:
    from os import PathLike


def load_task(path: str | PathLike[str]) -> SupervisedTask:
    """The fine-tuned task of a training run, or of published structure weights, ready to predict.

    Args:
        path: A ``.ckpt`` of a fine-tuning run, or weights with a structure head in a published
            layout.

    Returns:
        The task on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
        ValueError: If there is no task to predict with in the file, or it is of a class that was
            not imported or has changed.
    """
    from rnafm.checkpoints import load_checkpoint
    from rnafm.checkpoints.pickles import load_pickle
    from rnafm.tasks.contact import ContactPrediction

    path = Path(path)
    content: dict[str, Any] = {}
    if path.suffix == ".ckpt" and path.is_file():
        content = load_pickle(path)
    if "task" not in content:
        if load_checkpoint(path).structure_head is None:
            raise ValueError(f"{path} {_untrained('holds no fine-tuned task', path)}")
        task: SupervisedTask = ContactPrediction(checkpoint=path)
        return task.eval()
    kind = _find(str(content["task"]), path)
    load_checkpoint(path)  # compares shapes with the configuration before memory is taken for it
    try:
        values = {  # without what the command line adds: _class_path, _instantiator
            name: value
            for name, value in content["hyper_parameters"].items()
            if not name.startswith("_")
        }
        task = kind(**values)
        task.load_state_dict(content["state_dict"])
        task.on_load_checkpoint(content)
    except Exception as error:  # a broken file may lack anything, anywhere
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path} does not fit {content['task']} as it is now ({reason}); use the code that it "
            "was trained with"
        ) from error
    return task.eval()


def _find(name: str, path: Path) -> type[SupervisedTask]:
    """A class by its full name; modules that are not of this package must be imported already."""
    module, _, kind = name.rpartition(".")
    if module.startswith("rnafm."):
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(module)
    found = getattr(sys.modules.get(module), kind, None)
    if found is None:
        raise ValueError(
            f"{path} was made by {name}, which is not imported; name its module with --task-module"
        )
    kinds = found.__mro__ if isinstance(found, type) else ()
    if SupervisedTask not in kinds:
        what = "a pretraining task" if Task in kinds else "no task"
        raise ValueError(f"{path} {_untrained(f'holds {what} ({name})', path)}")
    fine_tuned: type[SupervisedTask] = found
    return fine_tuned


def _untrained(what: str, path: Path) -> str:
    return (
        f"{what}: it can embed and fill masks; fine-tune it first: rnafm fit --config "
        f"configs/finetune/... --model.checkpoint {path}"
    )
