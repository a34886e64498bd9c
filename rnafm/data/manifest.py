"""``store.json``: what a token store was made of, and whether that is still so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import xxhash

from rnafm.files import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rnafm.data.fasta import FastaFile

FORMAT = 2
NAME = "store.json"
_SHOWN = 4  # differences that are listed
_LARGEST = 512 << 20  # bytes: what is read at once
_HEAD = b'{\n "digest": "'
_BLANK = b"0" * 32
AGAIN = "delete the store and build it again with: rnafm prepare"


def write_manifest(path: Path, contents: Mapping[str, Any]) -> None:
    """Write plain values with a digest of the file itself, wholly or not at all."""
    values = {"digest": _BLANK.decode(), **{k: v for k, v in contents.items() if k != "digest"}}
    text = json.dumps(values, indent=1).encode() + b"\n"
    digest = xxhash.xxh3_128_hexdigest(text).encode()
    with atomic(path) as temporary:
        temporary.write_bytes(text.replace(_BLANK, digest, 1))


def read_manifest(path: Path) -> dict[str, Any]:
    """Read what :func:`write_manifest` has written.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a single bit of it is another, or it is of another version.
    """
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path}: has more than {_LARGEST:,} bytes; {AGAIN}")
    text = path.read_bytes()
    start, end = len(_HEAD), len(_HEAD) + len(_BLANK)
    blank = text[:start] + _BLANK + text[end:]
    whole = text.startswith(_HEAD) and (
        text[start:end] == xxhash.xxh3_128_hexdigest(blank).encode()
    )
    try:
        contents = json.loads(text)
        version = contents["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); {AGAIN}") from error
    if version != FORMAT:
        raise ValueError(
            f"{path}: has format {str(version)[:20]}, this version of rnafm reads {FORMAT}; build "
            "the store again with: rnafm prepare"
        )
    if not whole:
        raise ValueError(f"{path}: is damaged (its digest is another); {AGAIN}")
    return dict(contents)


def fingerprint(contents: Mapping[str, Any]) -> str:
    """XXH3 of what a store holds, whatever files it was made from and when."""
    values = {k: v for k, v in contents.items() if k not in ("digest", "sources")}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return str(xxhash.xxh3_128_hexdigest(text.encode()))


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
    if not folder.exists():
        return "it is not there"
    if not (folder / NAME).exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise ValueError(
                f"{folder}: is there and is no token store; delete it or choose another folder"
            )
        return "the folder is empty"
    try:
        found = read_manifest(folder / NAME)
    except ValueError as error:
        return str(error)
    for key in ("vocabulary", "settings"):
        if found[key] != wanted[key]:
            return f"its {key} are others: {_changes(found[key], wanted[key])}"
    return changed_files(found["sources"], files)


def changed_files(sources: Sequence[Any], files: Sequence[FastaFile]) -> str | None:
    """Which files are not those that were read, in words; None if all are."""
    names = [source["name"] for source in sources]
    if names != [file.path.name for file in files]:
        return f"it was made from other files: {', '.join(names)}"
    changed = [
        str(file.path) for file, source in zip(files, sources, strict=True) if not file.is_(source)
    ]
    return f"{', '.join(changed)} has changed" if changed else None


def _changes(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The differences of two sets of plain values."""
    changes = []
    for key in sorted({*found, *wanted}):
        before, now = found.get(key), wanted.get(key)
        if isinstance(before, dict) and isinstance(now, dict) and before != now:
            changes.append(_changes(before, now))
        elif before != now:
            changes.append(f"{key} was {_short(before)} and is {_short(now)}")
    more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return ", ".join(changes[:_SHOWN]) + more


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 50 else f"{text[:47]}..."  # noqa: PLR2004
