"""What a run was made with: versions, devices, the job, the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import lightning.pytorch as pl

_PACKAGES = ("rnafm", "torch", "lightning", "torchmetrics", "numpy", "jsonargparse", "wandb")
_JOB = {
    "SLURM_JOB_ID": "job",
    "SLURM_ARRAY_JOB_ID": "array",
    "SLURM_ARRAY_TASK_ID": "array_task",
    "SLURM_JOB_PARTITION": "partition",
    "SLURM_RESTART_COUNT": "restarts",
}
_PATIENCE = 5.0  # seconds for git, which may have a slow disk to read


def environment(trainer: pl.Trainer) -> dict[str, Any]:
    """Plain values about software, devices and the job."""
    strategy = type(trainer.strategy).__name__
    facts: dict[str, Any] = {
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu_cores": os.cpu_count(),
        "devices": {
            "world_size": trainer.world_size,
            "nodes": trainer.num_nodes,
            "strategy": strategy,
            "precision": str(trainer.precision),
        },
    }
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        facts["cuda"] = {"version": torch.version.cuda, "cudnn": cudnn, "gpus": names}
    if job := {word: os.environ[name] for name, word in _JOB.items() if name in os.environ}:
        facts["slurm"] = job
    return facts


def commits() -> dict[str, Any]:
    """The git commits that a run was made from.

    Returns:
        ``commit``, ``branch`` and ``dirty`` of the repository of the current folder, and
        ``package_commit`` and ``package_dirty`` where the package lies in another one; nothing
        where there is none.
    """
    own, package = _commit(Path.cwd()), Path(__file__).parent
    # The package may be installed below a repository, in .venv, and be no part of it.
    is_tracked = _git(package, "ls-files", "--error-unmatch", ".") is not None
    other = _commit(package) if is_tracked else {}
    if other.get("root") == own.get("root"):
        other = {}
    facts = {name: value for name, value in own.items() if name != "root"}
    for name in ("commit", "dirty"):
        if name in other:
            facts[f"package_{name}"] = other[name]
    return facts


def saved_config(folder: Path, verb: str) -> dict[str, Any]:
    """The whole configuration as the run has saved it; empty where there is none.

    Args:
        folder: Of the run.
        verb: ``fit``, ``validate`` or ``test``.
    """
    import yaml  # type: ignore[import-untyped]

    path = folder / f"{verb}.yaml"
    if not path.is_file():
        return {}
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _commit(folder: Path) -> dict[str, Any]:
    words = _git(folder, "rev-parse", "--show-toplevel", "HEAD", "--abbrev-ref", "HEAD")
    if words is None or len(lines := words.splitlines()) != 3:  # noqa: PLR2004  # what is asked for
        return {}
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    root, commit, branch = lines
    return {"root": root, "commit": commit, "branch": branch, "dirty": bool(status)}


def _git(folder: Path, *words: str) -> str | None:
    """What git says; None where it is not installed, does not answer, or knows of nothing."""
    try:
        result = subprocess.run(  # noqa: S603
            ["git", "-C", str(folder), *words],  # noqa: S607  # where the system has it
            check=False,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
