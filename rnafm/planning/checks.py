"""What would stop a run, found before it starts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnafm.continuing import NAMES
from rnafm.data.room import existing, free_bytes
from rnafm.planning.recipe import is_sharded
from rnafm.tasks.agreement import COUNTED, misfits, uneven

if TYPE_CHECKING:
    from rnafm.data.datamodule import RNADataModule
    from rnafm.planning.devices import Device
    from rnafm.planning.recipe import Findings
    from rnafm.tasks import Task

_SHARDED_PRECISIONS = ("32-true", "32", "bf16-mixed", "bf16-true", "16-true")


def check_agreement(task: Task, data: RNADataModule, findings: Findings) -> None:
    """Task and data have to speak of the same tokens and lengths."""
    findings.errors.extend(misfits(task.encoder, data))
    limit = task.encoder.config.max_length
    if 0 < data.max_length < limit:
        findings.notes.append(
            f"data.max_length ({data.max_length}) is below the encoder's ({limit}): positions "
            "above it are not trained"
        )


def check_precision(
    settings: dict[str, Any], task: Task, device: Device | None, findings: Findings
) -> None:
    """Precision, strategy, optimizer and device have to go together."""
    trainer = settings["trainer"]
    precision = str(trainer.get("precision") or "32-true")
    if device is not None and precision.startswith("bf16") and not device.bfloat16:
        findings.errors.append(
            f"trainer.precision is {precision}, and a {device.title} has no bfloat16; use 16-mixed "
            "or 32-true"
        )
    if is_sharded(settings) and precision not in _SHARDED_PRECISIONS:
        findings.errors.append(
            f"trainer.precision {precision} does not go with FSDP2; use bf16-mixed or 32-true"
        )
    if precision in ("bf16-true", "16-true"):
        findings.notes.append(
            f"trainer.precision {precision} keeps no weights in 32 bits: small updates are lost; "
            "train in bf16-mixed"
        )
    cpu = trainer.get("accelerator") == "cpu"
    if cpu and "16" in precision:
        findings.notes.append(
            f"trainer.precision {precision} is slower than 32-true on most processors"
        )
    if cpu and task.compile_blocks is True:
        findings.notes.append("model.compile gains nothing on a processor")
    clips, fused = (
        trainer.get("gradient_clip_val"),
        task.optimizer([_probe()]).defaults.get("fused", False),
    )
    if not cpu and precision == "16-mixed" and clips and fused is not False:
        findings.errors.append(
            "gradients cannot be clipped in 16-mixed with a fused optimizer; use precision "
            "bf16-mixed, or the optimizer's fused: false"
        )


def check_intervals(
    settings: dict[str, Any], accumulate: int, batches: int | None, findings: Findings
) -> None:
    """Validation has to come, and between two steps.

    Args:
        settings: Of the run.
        accumulate: Batches of a step.
        batches: Of one device in an epoch, if known.
        findings: Where errors go.
    """
    trainer = settings["trainer"]
    interval = trainer.get("val_check_interval")
    whole = isinstance(interval, int) and not isinstance(interval, bool)
    divided = settings["data"].get("init_args", {}).get("tokens_per_step")
    for name in COUNTED if not divided else COUNTED[1:]:  # the first is rounded up
        findings.errors.extend(uneven(name, trainer.get(name), accumulate))
    within = trainer.get("check_val_every_n_epoch", 1) is not None
    if whole and within and batches is not None and interval > batches:
        findings.errors.append(
            f"trainer.val_check_interval ({interval}) is above the {batches:,} batches of an "
            "epoch; lower it, or set check_val_every_n_epoch: null to count over epochs"
        )
    if (
        (trainer.get("max_steps") or -1) < 0
        and (trainer.get("max_epochs") or -1) < 0
        and not trainer.get("max_time")
    ):
        findings.notes.append(
            "the run has no end of its own: set trainer.max_steps, max_epochs or max_time"
        )


def check_checkpoint(settings: dict[str, Any], findings: Findings) -> None:
    """What the run continues from has to be there."""
    path = settings.get("ckpt_path")
    if path in (None, *NAMES) or "://" in path:
        return
    if not Path(path).exists():
        findings.errors.append(f"{path}: there is no such checkpoint; correct --ckpt_path")


def check_room(folder: Path, needed: float, number: int, findings: Findings) -> None:
    """Checkpoints have to fit on the disk that they go to.

    Args:
        folder: Where the run's files go.
        needed: Bytes of all checkpoints.
        number: How many there are at most.
        findings: Where errors go.
    """
    if not os.access(existing(folder), os.W_OK):
        findings.errors.append(
            f"{folder}: cannot be written to; make it writable, or set "
            "trainer.logger.init_args.save_dir"
        )
    free = free_bytes(folder)
    if needed > free:
        findings.errors.append(
            f"{folder}: {number} checkpoints need {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} "
            "GB are free; make room, or lower save_top_k"
        )


def check_memory(total: float, device: Device, findings: Findings, *, checkpointing: bool) -> None:
    """A batch has to fit into a device. The estimate is no promise: this is a note."""
    if total <= device.memory:
        return
    remedy = (
        "lower data.tokens_per_batch"
        if checkpointing
        else ("lower data.tokens_per_batch, or set model.activation_checkpointing: true")
    )
    findings.notes.append(
        f"a batch will hardly fit: about {total / 2**30:,.1f} GiB, of "
        f"{device.memory / 2**30:,.0f} on {device.title}; {remedy}"
    )


def _probe() -> dict[str, Any]:
    """A group of parameters to ask an optimizer with."""
    import torch

    return {"params": [torch.nn.Parameter(torch.zeros(1))], "lr_scale": 1.0}
