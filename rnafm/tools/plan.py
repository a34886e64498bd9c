"""``rnafm plan``: what a run will need, without starting it."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  # the command line reads the signature


def plan(
    *options: str,
    device: str | None = None,
    devices: int | None = None,
    mfu: float = 0.3,
    measured: Path | None = None,
    json: bool = False,
) -> None:
    """Check a recipe and say what it needs: memory, hours, room on the disk. Nothing is started.

    All other options are those of rnafm fit: --config RECIPE and whatever changes it. Everything
    that would stop the run is listed at once; then the command ends with 1.

    Args:
        *options: Of ``rnafm fit``.
        device: Must hold a batch: such as a100, a100-40, h100, h200, b200, l40s, rtx4090 or v100;
            an unknown one lists them all. Without it, hours are given for several.
        devices: How many devices there are in all, instead of what the recipe says.
        mfu: Share of a device's peak that training reaches; 0.3 is what to expect of this encoder
            on an H100, compiled.
        measured: The metrics.csv of a run on the devices in question: hours at its speed.
        json: Print JSON instead of tables.
    """
    from rnafm.planning.plan import make_plan

    found = make_plan(options, device=device, devices=devices, mfu=mfu, measured=measured)
    if json:
        import json as writer
        from dataclasses import asdict

        print(writer.dumps(asdict(found), indent=2))
    else:
        from rnafm.planning.printing import show

        show(found)
    if found.errors:
        sys.exit(1)
