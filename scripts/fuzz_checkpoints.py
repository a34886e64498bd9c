"""Feeds broken checkpoints of every layout to the readers.

pip install atheris
python scripts/fuzz_checkpoints.py official -max_total_time=600 FOLDER_OF_CASES

The first word chooses what is broken; what follows goes to libFuzzer. Check sums and digests are
put right again, so that what lies behind them is reached: a stranger's file has good ones. A
checkpoint, or a ValueError or OSError that names the file, is fine; anything else, memory and
hangs included, is a finding, written to a file ``crash-...``.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import atheris
import torch

with atheris.instrument_imports(include=["rnafm.checkpoints"]):
    from rnafm.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import Encoder, EncoderConfig, MaskedLMHead

if TYPE_CHECKING:
    from collections.abc import Callable

_CONFIG = EncoderConfig(num_layers=1, embed_dim=4, num_heads=2, ffn_dim=4, max_length=4)
TARGETS = (
    "official",
    "lightning",
    "legacy",
    "raw",
    "safetensors",
    "native",
    "config",
    "vocabulary",
)


def main() -> None:
    """Fuzz until libFuzzer's limits."""
    target = sys.argv.pop(1)
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
    seed, write = prepare(target, folder)

    def once(data: bytes) -> None:
        try_reading(write(data))

    once(seed)
    cases = [Path(word) for word in sys.argv[1:] if not word.startswith("-")]
    if cases:
        cases[0].mkdir(parents=True, exist_ok=True)
        (cases[0] / "seed").write_bytes(seed)
    atheris.Setup(sys.argv, once)
    atheris.Fuzz()


def try_reading(path: Path) -> None:
    """Read a file as a user would, and refuse all that is no message for that user."""
    try:
        load_checkpoint(path, num_heads=2)
    except (ValueError, OSError) as error:
        assert path.name in str(error) or str(path.parent) in str(error), error  # noqa: PT017, S101
    if path.suffix == ".ckpt":
        from rnafm.tasks.loading import load_task

        try:
            load_task(path)
        except (ValueError, OSError) as error:
            assert path.name in str(error), error  # noqa: PT017, S101


def prepare(target: str, folder: Path) -> tuple[bytes, Callable[[bytes], Path]]:
    """The sound content of what is to be broken, and what makes a file of the broken one."""
    name = "rna" if target in ("safetensors", "config", "vocabulary", "native") else "official-rna"
    vocabulary = Vocabulary.named(name)
    encoder = Encoder(_CONFIG, vocabulary)
    checkpoint = Checkpoint(encoder, MaskedLMHead(_CONFIG.embed_dim, len(vocabulary)))
    if target in ("safetensors", "config", "vocabulary"):
        whole = folder / "sound"
        save_checkpoint(checkpoint, whole, "multimolecule")
        part = {"safetensors": "model.safetensors", "config": "config.json"}.get(
            target, "vocab.txt"
        )
        return (whole / part).read_bytes(), _in_directory(whole, folder / "broken", part)
    if target == "native":
        path = folder / "x.safetensors"
        save_checkpoint(checkpoint, path)
        return _header(path.read_bytes()), _with_header(path)
    path = folder / "RNA-FM.pth"
    save_checkpoint(checkpoint, path, "official")
    content = torch.load(path, weights_only=False)
    if target == "lightning":
        path = folder / "x.ckpt"
        torch.save(_lightning(checkpoint), path)
    elif target == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    if target in ("legacy", "raw"):
        return path.read_bytes(), _as_it_is(path)
    return _member(path), _in_archive(path)


def _lightning(checkpoint: Checkpoint) -> dict[str, object]:
    from dataclasses import asdict

    from rnafm.tasks import Multiclass, SequencePrediction

    task = SequencePrediction(
        objective=Multiclass(["a", "b"]),
        encoder=checkpoint.config,
        vocabulary=checkpoint.vocabulary.to_dict(),
    )
    values = dict(task.hparams) | {"encoder": asdict(checkpoint.config)}
    return {
        "state_dict": task.state_dict(),
        "hyper_parameters": values,
        "task": "rnafm.tasks.sequence.SequencePrediction",
        "trained_ids": [1, 2],
    }


def _as_it_is(path: Path) -> Callable[[bytes], Path]:
    def write(data: bytes) -> Path:
        path.write_bytes(data)
        return path

    return write


def _in_directory(sound: Path, broken: Path, part: str) -> Callable[[bytes], Path]:
    shutil.copytree(sound, broken)

    def write(data: bytes) -> Path:
        (broken / part).write_bytes(data)
        return broken

    return write


def _member(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))


def _in_archive(path: Path) -> Callable[[bytes], Path]:
    """Another pickle in the same archive, with good check sums."""
    with zipfile.ZipFile(path) as archive:
        others = {each: archive.read(each) for each in archive.namelist()}

    def write(data: bytes) -> Path:
        memory = io.BytesIO()
        with zipfile.ZipFile(memory, "w") as archive:
            for name, content in others.items():
                archive.writestr(name, data if name.endswith("data.pkl") else content)
        path.write_bytes(memory.getvalue())
        return path

    return write


def _header(content: bytes) -> bytes:
    values = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    del values["__metadata__"]["xxh3_128"]
    return json.dumps(values["__metadata__"]).encode()


def _with_header(path: Path) -> Callable[[bytes], Path]:
    """Other metadata in the same file of ours, without a digest."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    values = json.loads(content[8:end])

    def write(data: bytes) -> Path:
        try:
            values["__metadata__"] = json.loads(data)
        except (ValueError, RecursionError):
            values["__metadata__"] = {"rnafm_format": "1", "encoder": data.decode("latin-1")}
        header = json.dumps(values).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + content[end:])
        return path

    return write


if __name__ == "__main__":
    main()
