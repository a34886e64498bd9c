"""A plan: everything that can be said about a run before it starts."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rnafm.planning import checks
from rnafm.planning.corpus import look_at
from rnafm.planning.devices import DEVICES
from rnafm.planning.recipe import (
    Findings,
    build_data,
    build_task,
    read_settings,
    world_size,
)
from rnafm.planning.tables import Run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_TIMED = ("a100", "h100", "h200")


@dataclass
class Plan:
    """Numbers of a run, as plain values by table and row.

    Args:
        errors: Why it would not run.
        notes: What would surprise.
        tables: Title -> row -> value; what could not be found out is left out.
    """

    errors: list[str]
    notes: list[str]
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)


def make_plan(
    words: Sequence[str],
    *,
    device: str | None = None,
    devices: int | None = None,
    mfu: float = 0.3,
    measured: Path | None = None,
) -> Plan:
    """Read a recipe, check it and work out what it needs.

    Args:
        words: Options of ``rnafm fit``.
        device: A key of :data:`DEVICES` that has to hold a batch.
        devices: How many there are in all, instead of what the recipe says.
        mfu: Share of a device's peak that training reaches.
        measured: ``metrics.csv`` of a run whose speed is taken over.

    Raises:
        SystemExit: If the options are not understood.
        ValueError: If there is no such device, or nothing was measured.
    """
    _refuse(device, devices, mfu)
    findings = Findings()
    settings = read_settings(words)
    number = world_size(settings, devices, findings)
    trainer = settings["trainer"]
    package = logging.getLogger("rnafm")
    package.setLevel(logging.ERROR)  # a plan says in its own way what a run would say
    task = findings.attempt(build_task, settings)
    data = findings.attempt(build_data, settings)
    checks.check_checkpoint(settings, findings)
    plan = Plan(findings.errors, findings.notes)
    if task is None or data is None:
        return plan
    chosen = DEVICES[device or "h100"]
    checks.check_agreement(task, data, findings)
    checks.check_precision(settings, task, None if device is None else chosen, findings)
    own = int(trainer.get("accumulate_grad_batches") or 1)
    accumulate = findings.attempt(data.accumulate, number) or own
    corpus = findings.attempt(look_at, data, task, findings, devices=number, accumulate=accumulate)
    batches = None if corpus is None else corpus.packs // number
    checks.check_intervals(settings, accumulate, batches, findings)
    run = Run(settings, task, data, corpus, number, accumulate)
    plan.tables["model"] = run.model()
    plan.tables["data"] = run.data_table()
    plan.tables["steps"] = run.steps_table()
    plan.tables["memory of a device"] = run.memory_table(chosen, findings)
    if corpus is not None and (device is not None or trainer.get("accelerator") != "cpu"):
        names = _TIMED if device is None else (device,)
        plan.tables["hours"] = run.hours(names, mfu)
    if measured is not None:
        plan.tables.setdefault("hours", {}).update(run.measured(measured))
    plan.tables["checkpoints"] = run.checkpoints(findings)
    return plan


def _refuse(device: str | None, devices: int | None, mfu: float) -> None:
    if device is not None and device not in DEVICES:
        raise ValueError(f"there is no device {device!r} (there are: {', '.join(DEVICES)})")
    if devices is not None and devices < 1:
        raise ValueError(f"devices ({devices}) must be at least 1")
    if not 0 < mfu <= 1:
        raise ValueError(f"mfu ({mfu}) must lie between 0 and 1: a share of the device's peak")
