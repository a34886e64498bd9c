"""``store.json``: what a token store was made of, and whether that is still so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rnafm.data.fasta import FastaFile

FORMAT = 1
_NAME = "store.json"


def write_manifest(folder: Path, contents: Mapping[str, Any]) -> None:
    """Say what the store in a folder was made of."""
    (folder / _NAME).write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the store in a folder was made of.

    Raises:
        FileNotFoundError: If there is no store.
        ValueError: If the file is damaged, or of another version.
    """
    path = folder / _NAME
    if not path.exists():
        raise FileNotFoundError(f"{folder}: holds no token store; make one with: rnafm prepare")
    try:
        contents: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = contents["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}); delete the store and build it again with: rnafm "
            "prepare"
        ) from error
    if version != FORMAT:
        raise ValueError(
            f"{path}: has format {version}, this version of rnafm reads {FORMAT}; build the store "
            "again with: rnafm prepare"
        )
    return contents


def difference(folder: Path, wanted: Mapping[str, Any], files: Sequence[FastaFile]) -> str | None:
    """Why a store has to be built.

    Args:
        folder: Where it is, or will be.
        wanted: Format, vocabulary and settings.
        files: What it is built from. A file is the same if its name, size and time are, or, where
            the time differs, its content.

    Returns:
        The reason, or None if the store is up to date.

    Raises:
        ValueError: If the folder holds something else than a store.
    """
    if folder.exists() and not (folder / _NAME).exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise ValueError(
                f"{folder}: is there and is no token store; delete it or choose another folder"
            )
        return "the folder is empty"
    try:
        found = read_manifest(folder)
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    for key in ("vocabulary", "settings"):
        if found[key] != wanted[key]:
            return f"its {key} are others: {_changes(found[key], wanted[key])}"
    sources = found["sources"]
    names = [source["name"] for source in sources]
    if names != [file.path.name for file in files]:
        return f"it was made from other files: {', '.join(names)}"
    changed = [
        str(file.path) for file, source in zip(files, sources, strict=True) if not file.is_(source)
    ]
    return f"{', '.join(changed)} has changed" if changed else None


def _changes(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first difference of two sets of plain values."""
    for key in sorted({*found, *wanted}):
        before, now = found.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict) and before != now:
            return _changes(before, now)
        if before != now:
            return f"{key} was {_short(before)} and is {_short(now)}"
    return "nothing"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 50 else f"{text[:47]}..."  # noqa: PLR2004
