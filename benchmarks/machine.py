"""What every result says about itself: command, machine, versions, date, commit."""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rnafm.files import atomic

_ROOT = Path(__file__).resolve().parents[1]


def describe() -> dict[str, Any]:
    """Where and with what this is measured."""
    commit = ""
    if git := shutil.which("git"):
        command = [git, "rev-parse", "--short", "HEAD"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        commit = found.stdout.strip()
    cpu = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "command": " ".join(["python", *map(_relative, sys.argv)]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{len(cpu)} cores, {cpu[0] if cpu else platform.processor()}",
        "versions": {name: version(name) for name in ("torch", "lightning", "torchmetrics")},
        "python": platform.python_version(),
        "commit": commit,
    }


def write(path: Path, results: dict[str, Any]) -> None:
    """Replace a file of results as a whole."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n")


def _relative(word: str) -> str:
    """Paths as they are in the clone, and of others the name: where they lie concerns nobody."""
    path = Path(word)
    whole = path.absolute().resolve()
    if not (path.is_absolute() or ".." in path.parts):
        return word
    return str(whole.relative_to(_ROOT)) if whole.is_relative_to(_ROOT) else path.name
