"""Columns that a finished store gets later, without reading its FASTA files again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.checksums import Spans
from rnafm.data.manifest import NAME, write_manifest
from rnafm.data.publish import locked, writing
from rnafm.data.room import require_room
from rnafm.data.store import SequenceStore
from rnafm.files import atomic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_FILE = re.compile(r"column_(\d+)\.bin")


def add_columns(
    store_path: Path | str,
    columns: Mapping[str, tuple[NDArray[np.integer[Any]], Sequence[str] | None]],
    settings: Mapping[str, Any],
) -> SequenceStore:
    """Add columns to a store, or replace those of the same names.

    The files are written first, then ``store.json`` is replaced: whenever the process ends, the
    store is the old or the new one. Processes that have the old one open go on with it, but for
    columns that are replaced and that they have not used before.

    Args:
        store_path: Folder of the store.
        columns: By name the code of each sequence, (B,), and the values that the codes number, or
            None if the codes are the values.
        settings: What the columns were made with, plain values by a name of their own; kept as
            ``added`` in ``store.json``, where the same names are replaced.

    Returns:
        The store with the columns.

    Raises:
        FileNotFoundError: If there is no store.
        OSError: If the columns cannot be written, or there is no room for them.
        ValueError: If a column does not fit the store.
    """
    path = Path(store_path)
    with locked(path):
        store = SequenceStore(path)
        arrays = {
            name: _checked(path, name, codes, categories, len(store))
            for name, (codes, categories) in columns.items()
        }
        info, first = dict(store.info), 1 + max(map(_number, store.info["files"]), default=-1)
        info["files"], info["columns"] = dict(info["files"]), dict(info["columns"])
        require_room(path, sum(array.nbytes for array in arrays.values()), "new columns")
        with writing(path):
            for number, (name, array) in enumerate(arrays.items(), first):
                file, spans, categories = f"column_{number}.bin", Spans(), columns[name][1]
                if len(array):
                    spans.update(array)
                with atomic(path / file) as temporary:
                    array.tofile(temporary)
                old = info["columns"].get(name)
                if old is not None:
                    del info["files"][old["file"]]
                info["files"][file] = spans.sums()
                info["columns"][name] = {
                    "file": file,
                    "dtype": array.dtype.str,
                    "categories": None if categories is None else list(categories),
                }
            info["added"] = {**info.get("added", {}), **settings}
            write_manifest(path / NAME, info)
            for there in path.glob("column_*.bin"):
                if there.name not in info["files"]:  # replaced, or left by a killed process
                    there.unlink()
        return SequenceStore(path)


def _number(file: str) -> int:
    """The number of a column's file; -1 for other files."""
    match = _FILE.fullmatch(file)
    return int(match[1]) if match else -1


def _checked(
    path: Path,
    name: str,
    codes: NDArray[np.integer[Any]],
    categories: Sequence[str] | None,
    length: int,
) -> NDArray[np.integer[Any]]:
    """Codes as they are stored, int32 if they fit."""
    if codes.shape != (length,):
        raise ValueError(
            f"{path}: column {name!r} has shape {codes.shape}, not a code for each of "
            f"{length:,} sequences; make it from the names of this store"
        )
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    if categories is not None and (low < 0 or high >= len(categories)):
        raise ValueError(
            f"{path}: column {name!r} has codes from {low:,} to {high:,} for "
            f"{len(categories):,} categories; number them from 0"
        )
    small = low >= -(2**31) and high < 2**31
    return np.ascontiguousarray(codes, "<i4" if small else "<i8")
