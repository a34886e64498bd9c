"""Whether an encoder, its data and a trainer go together; asked by plans and by runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from rnafm.modules.attention import slow_in_half_precision

if TYPE_CHECKING:
    from rnafm.modules.encoder import Encoder

COUNTED = ("val_check_interval", "limit_train_batches")
"""Options of a trainer that count batches."""


def misfits(encoder: Encoder, data: Any) -> list[str]:
    """Why an encoder would misread the data; empty if it would not.

    Args:
        encoder: Of the task.
        data: The data module; None is fine.
    """
    found = []
    ours, theirs = encoder.vocabulary, getattr(data, "vocabulary", None)
    if theirs not in (None, ours) and not getattr(data, "follows_task", False):
        found.append(
            f"the encoder reads the vocabulary {ours.name!r} ({len(ours)} tokens), the data are in "
            f"{theirs.name!r} ({len(theirs)} tokens); set data.vocabulary and model.vocabulary to "
            "the same name (a checkpoint brings its own)"
        )
    limit = encoder.config.max_length
    if (length := getattr(data, "max_length", 0)) > limit:
        found.append(
            f"data.max_length ({length}) is above the encoder's max_length ({limit}); lower it"
        )
    return found


def uneven(name: str, number: Any, accumulate: int) -> list[str]:
    """Why an interval of a trainer lies between two steps; empty if it does not.

    Args:
        name: Of the option.
        number: Its value; shares of an epoch are all right.
        accumulate: Batches of a step.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not number % accumulate:
        return []
    text = (
        f"{name} ({number}) counts batches and must be a multiple of accumulate_grad_batches "
        f"({accumulate}): between two steps a run cannot be saved, for the gradients accumulated "
        "so far would be lost"
    )
    return [text]


def slow(device: str, precision: str) -> str | None:
    """Why a device computes slowly in a precision, since it emulates it; None if it does not.

    Args:
        device: ``cpu``, ``cuda`` or another kind.
        precision: The trainer's.
    """
    if "16" in precision and slow_in_half_precision(device):
        return (
            f"trainer.precision {precision} is slower than 32-true on this processor, which has no "
            "AMX and emulates it"
        )
    if (
        device == "cuda"
        and "bf16" in precision
        and not torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        return (
            f"trainer.precision {precision} is emulated by this GPU (before compute capability "
            "8.0), which is slow and takes much memory; set it to 16-mixed"
        )
    return None
