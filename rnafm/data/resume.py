"""Lets a run go on exactly where its data stand, whatever Lightning thinks of its epochs.

What was trained is known from the state of the loader: a place in the order of an epoch. Lightning
counts batches, which mean something else when the number of processes or the size of batches has
changed; takes an epoch that ``max_steps`` ends early as complete; begins a complete epoch's
successor with the number of batches of the former; and takes a batch in which an error came up as
done. These functions, called by the hooks of a task, put that right.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from rnafm.data.loader import PackLoader

if TYPE_CHECKING:
    import lightning.pytorch as pl

logger = logging.getLogger(__name__)

_COUNTS = ("ready", "started", "processed", "completed")


def forget_open_step(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Keep the state of the data at the last optimizer step in a checkpoint.

    What was handed out since, to be accumulated or when an error came up, has left no trace in the
    weights, and is trained again.

    Args:
        trainer: The trainer whose checkpoint it is.
        checkpoint: What is about to be saved; changed.
    """
    loop = checkpoint["loops"]["fit_loop"]
    states = loop["state_dict"].get("combined_loader", [])
    loaders = _pack_loaders(trainer)
    if not loaders or len(states) != len(loaders):
        return
    batches = loop["epoch_loop.batch_progress"]
    opened = batches["current"]["processed"] % trainer.accumulate_grad_batches
    if opened:
        for part in (batches["current"], batches["total"]):
            part.update(dict.fromkeys(part, part["processed"] - opened))
    for i, loader in enumerate(loaders):
        states[i] = loader.state_at(batches["current"]["processed"])


def resume_inside_epoch(checkpoint: dict[str, Any]) -> None:
    """Say in a checkpoint whether its epoch is complete.

    Args:
        checkpoint: What was loaded; changed.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    states = loop.get("state_dict", {}).get("combined_loader", [])
    states = [state for state in states if "position" in state]  # those of ours
    if not states:
        return
    inside = any(state["position"] < state["draws"] for state in states)
    for progress in (loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]):
        progress["processed"] = progress["completed"] = progress["ready"] - inside
    if not inside:  # the next epoch begins with its first batch
        batches = loop["epoch_loop.batch_progress"]
        batches["current"].update(dict.fromkeys(batches["current"], 0))
        batches["is_last_batch"] = False


def count_batches_anew(trainer: pl.Trainer) -> None:
    """Count batches in units of this run, if what is left of the epoch was divided anew.

    Lightning ends an epoch when it has counted as many batches as a whole one has, and validates
    and steps at multiples of its counts.
    """
    for loader in _pack_loaders(trainer):
        if not loader.cut_anew:
            continue
        loader.cut_anew = False
        accumulate = trainer.accumulate_grad_batches
        progress: Any = trainer.fit_loop.epoch_loop.batch_progress
        changes = [(progress.total, trainer.global_step * accumulate - progress.total.processed)]
        if left := loader.sampler.left:
            done = len(loader) - left
            changes.append((progress.current, done - progress.current.processed))
        for part, change in changes:
            for name in _COUNTS:
                setattr(part, name, getattr(part, name) + change)
        logger.info(
            "What is left of epoch %d is divided anew: %s batches for each of %d processes, %d to "
            "a step",
            loader.sampler.epoch,
            f"{left:,}",
            trainer.world_size,
            accumulate,
        )


def _pack_loaders(trainer: pl.Trainer) -> list[PackLoader]:
    """The training loaders that know where they stand."""
    combined = trainer.fit_loop._combined_loader  # noqa: SLF001  # there is no public name
    loaders = [] if combined is None else combined.flattened
    return [loader for loader in loaders if isinstance(loader, PackLoader)]
