"""Data and checkpoints as artifacts of W&B, with the lineage from the ones to the others."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rnafm.callbacks.saving import model_checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import lightning.pytorch as pl

_PLACE = "WANDB_DATA_DIR"


def use_data(
    run: Any, name: str, facts: Mapping[str, Any], manifests: Mapping[str, Mapping[str, Any]]
) -> None:
    """Name the data as what a run was made from; of the data themselves nothing is uploaded.

    Args:
        run: Of wandb.
        name: Of the artifact. The same data are the same version of it, whoever names them.
        facts: The fingerprint, which becomes its content and its metadata.
        manifests: Of the stores, by name.
    """
    import wandb

    with staged_beside(run):
        artifact = wandb.Artifact(name, type="dataset", metadata=dict(facts))
        with artifact.new_file("data.json") as file:
            json.dump(facts, file, indent=1)
        for store, manifest in manifests.items():
            with artifact.new_file(f"{store}/store.json") as file:
                json.dump(manifest, file, indent=1)
        _use(run, artifact, [f"digest-{facts['digest']}", "latest"])


def use_checkpoint(run: Any, path: Path, origin: str) -> None:
    """Name a checkpoint as what is tested; it is uploaded only if its own run has not done so.

    Args:
        run: Of wandb.
        path: The checkpoint.
        origin: Id of the run that has written it.
    """
    import wandb

    with staged_beside(run):
        artifact = wandb.Artifact(_model_name(origin), type="model", metadata=_about(path))
        artifact.add_file(str(path), policy="immutable")
        _use(run, artifact, ["tested"])


def checkpoint_files(trainer: pl.Trainer) -> dict[Path, tuple[list[str], dict[str, Any]]]:
    """The checkpoints of a run that are kept: file -> (aliases, metadata)."""
    files: dict[Path, tuple[list[str], dict[str, Any]]] = {}
    for keeper in model_checkpoints(trainer):
        paths = {"best": keeper.best_model_path} if keeper.monitor is not None else {}
        paths["last"] = keeper.last_model_path  # after the best one, so that it is the latest
        for alias, found in paths.items():
            if not found or not Path(found).is_file():
                continue
            aliases, metadata = files.setdefault(Path(found), ([], {}))
            if any(alias in others for others, _ in files.values()):
                alias = f"{alias}-{keeper.monitor or keeper.filename}"  # noqa: PLW2901  # of several
            aliases.append(alias.replace("/", "-"))
            if alias.startswith("best") and keeper.best_model_score is not None:
                metadata[str(keeper.monitor)] = float(keeper.best_model_score)
    return files


class CheckpointUploads:
    """Checkpoints of a run as versions of its model.

    Attributes:
        facts: What the metadata of all of them say; plain values.
    """

    def __init__(self) -> None:
        self.facts: dict[str, Any] = {}
        self._seen: set[str] = set()

    def log_all(self, run: Any, trainer: pl.Trainer) -> None:
        """Upload those that are kept, from where they lie."""
        for path, (aliases, scores) in checkpoint_files(trainer).items():
            log_checkpoint(run, path, aliases, {**scores, **self.facts}, copy=False)

    def log_improvement(self, run: Any, trainer: pl.Trainer) -> None:
        """Upload a copy of the best one, if it is new: the next one may replace it."""
        paths = {each.best_model_path for each in model_checkpoints(trainer) if each.monitor}
        new = paths - self._seen - {""}
        if not new:  # at nearly every step, so no file is looked at
            return
        self._seen |= new
        for path, (aliases, scores) in checkpoint_files(trainer).items():
            if str(path) in new:
                log_checkpoint(run, path, aliases, {**scores, **self.facts}, copy=True)


def log_checkpoint(
    run: Any, path: Path, aliases: list[str], metadata: Mapping[str, Any], *, copy: bool
) -> None:
    """Upload a checkpoint as a version of the model of this run.

    Args:
        run: Of wandb.
        path: The file.
        aliases: Names of this version, which earlier ones lose.
        metadata: Plain values.
        copy: Whether it is copied first, because it may be replaced before it is uploaded.
    """
    import wandb

    with staged_beside(run):
        about = {**metadata, **_about(path)}
        artifact = wandb.Artifact(_model_name(run.id), type="model", metadata=about)
        artifact.add_file(str(path), policy="mutable" if copy else "immutable")
        run.log_artifact(artifact, aliases=[*aliases, "latest"])


def _about(path: Path) -> dict[str, Any]:
    """Name and size of a checkpoint, and where in the run it was written; its weights stay."""
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    facts = {"step": content.get("global_step"), "epoch": content.get("epoch")}
    return {"file": path.name, "bytes": path.stat().st_size, **facts}


@contextlib.contextmanager
def staged_beside(run: Any) -> Iterator[None]:
    """Keep copies in the folder of the run: an offline run is uploaded from there, as a whole.

    By itself wandb puts them into the home directory, which has a quota on clusters.
    """
    if _PLACE in os.environ:  # chosen by the user
        yield
        return
    os.environ[_PLACE] = str(Path(run.dir).parent)
    try:
        yield
    finally:
        del os.environ[_PLACE]


def _model_name(run_id: str) -> str:
    return f"model-{run_id}"


def _use(run: Any, artifact: Any, aliases: list[str]) -> None:
    """Declare an input of a run.

    ``run.use_artifact`` refuses to do it offline, and online waits for the server. What it does
    inside works in both: the record is written, and the input noted when it is uploaded.
    """
    log = getattr(run, "_log_artifact", None)
    if log is None:
        run.log_artifact(artifact, aliases=aliases)
        return
    log(artifact, aliases=aliases, is_user_created=True, use_after_commit=True)
