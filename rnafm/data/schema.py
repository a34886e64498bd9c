"""What ``store.json`` may say: checked before any file that it names is opened."""

from __future__ import annotations

import re
import stat
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.checksums import SPAN
from rnafm.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

CORE = ("tokens.bin", "offsets.bin", "hashes.bin", "names.bin", "name_offsets.bin")
_COLUMN = re.compile(r"column_\d{1,6}\.bin")
_SUM = re.compile(r"[0-9a-f]{16}")
_AGAIN = "get the store from where it was made, or build it again with: rnafm prepare"


def check_store(folder: Path, info: dict[str, Any]) -> None:
    """Refuse a description that does not fit the files, whoever wrote it.

    A store may come from anybody: nothing is read but files of the expected names in its own
    folder, and these have the sizes that the numbers of sequences and tokens ask for.

    Raises:
        ValueError: With file and reason.
    """
    try:
        kept, tokens = _number(info["counts"]["kept"]), _number(info["tokens"])
        files, columns = _mapping(info["files"]), _mapping(info["columns"])
        _mapping(info["vocabulary"]), _mapping(info["settings"]), _mapping(info.get("added", {}))
        Vocabulary.from_dict(info["vocabulary"])
        sizes = {
            "tokens.bin": tokens,
            "offsets.bin": 8 * (kept + 1),
            "hashes.bin": 8 * kept,
            "names.bin": files["names.bin"]["size"],
            "name_offsets.bin": 8 * (kept + 1),
        }
        for name, column in columns.items():
            file = _checked_column(name, column)
            sizes[file] = kept * np.dtype(column["dtype"]).itemsize
        _check_files(files, sizes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(
            f"{folder}/store.json: describes no store that could be read ({what}); {_AGAIN}"
        ) from error
    for name, size in sizes.items():
        _check_file(folder / name, size)


def _check_file(path: Path, size: int) -> None:
    """Refuse what is no plain file of its own, or of another size."""
    try:
        found = path.lstat()
    except FileNotFoundError as error:
        raise ValueError(f"{path}: is missing; {_AGAIN}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path}: is no plain file, perhaps a link; copy the store with: cp -rL")
    if found.st_size != size:
        raise ValueError(
            f"{path}: has {found.st_size:,} bytes, not {size:,}, so the files of the store do not "
            f"fit together; {_AGAIN}"
        )


def _checked_column(name: str, column: Any) -> str:
    """The file of a column."""
    file, categories = _mapping(column)["file"], column["categories"]
    if not isinstance(file, str) or not _COLUMN.fullmatch(file):
        raise ValueError(f"the file of column {name!r} is {str(file)[:60]!r}, not column_<n>.bin")
    if column["dtype"] not in ("<i4", "<i8"):
        raise ValueError(f"column {name!r} has type {str(column['dtype'])[:60]!r}, not <i4 or <i8")
    if categories is not None and not (
        isinstance(categories, list) and all(isinstance(value, str) for value in categories)
    ):
        raise ValueError(f"the categories of column {name!r} are no list of texts")
    return file


def _check_files(files: dict[str, Any], sizes: dict[str, int]) -> None:
    if set(files) != set(sizes):
        raise ValueError(f"it lists {sorted(files)}, not {sorted(sizes)}")
    for name, sums in files.items():
        _check_sums(name, sums, sizes[name])


def _check_sums(name: str, sums: Any, size: int) -> None:
    if _mapping(sums)["size"] != size:
        raise ValueError(f"{name} would have {sums['size']} bytes, not {size}")
    listed = sums["xxh3"]
    if (
        not isinstance(listed, list)
        or len(listed) != -(-size // SPAN)
        or not all(isinstance(one, str) and _SUM.fullmatch(one) for one in listed)
    ):
        raise ValueError(f"the checksums of {name} are not one for each 64 MiB")


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 53:
        raise ValueError(f"{str(value)[:60]!r} is no number of sequences or tokens")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"{str(value)[:60]!r} stands where names and values should")
    return value
