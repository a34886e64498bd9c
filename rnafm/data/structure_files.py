"""Files with structures of any format -> records; what is wrong with them is said or counted."""

from __future__ import annotations

import glob
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rnafm.data.partner_tables import read_bpseq, read_ct
from rnafm.data.stockholm import read_stockholm
from rnafm.data.structure import StructureError
from rnafm.data.structure_formats import StructureRecord, read_dot_bracket
from rnafm.data.structure_tables import TableOptions, read_structure_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Dropped", "StructureRecord", "find_structure_files", "read_structures"]

_READERS: dict[str, Callable[[Path], Iterator[Callable[[], StructureRecord]]]] = {
    **dict.fromkeys((".dbn", ".db", ".dot", ".vienna", ".fa", ".fasta"), read_dot_bracket),
    ".ct": read_ct,
    ".bpseq": read_bpseq,
    **dict.fromkeys((".sto", ".stk", ".stockholm"), read_stockholm),
}
_TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_KNOWN = (*_READERS, *_TABLES)


class Dropped(Counter[str]):
    """How many records were left out, by reason.

    Attributes:
        examples: The message about the first record of each reason; starts with its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self.examples: dict[str, str] = {}

    def add(self, error: StructureError) -> None:
        """Count one record."""
        self[error.reason] += 1
        self.examples.setdefault(error.reason, str(error))


def read_structures(
    paths: Path | str | Sequence[Path | str],
    *,
    structure_column: str | None = None,
    index_base: Literal[0, 1] = 1,
    allow_multiplets: bool = False,
    on_error: Literal["error", "drop"] = "error",
) -> tuple[list[StructureRecord], Dropped]:
    """Read structures; the end of a file's name decides on the format.

    Dot-bracket (``.dbn``, ``.db``, ``.dot``, ``.vienna``, ``.fa``, ``.fasta``), ``.ct``,
    ``.bpseq``, Stockholm (``.sto``, ``.stk``, ``.stockholm``) and tables (``.csv``, ``.tsv``,
    ``.jsonl``, ``.ndjson``, ``.parquet``), each also with ``.gz`` behind. A table has a column
    ``sequence`` and one with structures, names its rows in a column ``id`` or ``name``, and keeps
    its other columns.

    Args:
        paths: One file or several, read in this order.
        structure_column: Column of the tables; by default ``structure`` (dot-bracket) or
            ``base_pairs``. A column whose name ends in ``pairs`` holds lists such as
            ``[[1, 71], [2, 70]]``, any other dot-bracket.
        index_base: What such lists call the first nucleotide, 0 or 1.
        allow_multiplets: Take nucleotides with several partners from such lists; the other
            formats cannot hold them.
        on_error: ``error`` stops at the first record that is wrong; ``drop`` leaves such records
            out and counts them. A file that cannot be read at all is an error in both.

    Returns:
        The records, and how many were left out and why.

    Raises:
        FileNotFoundError: If a file does not exist.
        ValueError: If a file or, unless dropped, a record is not as it should be.
    """
    records: list[StructureRecord] = []
    dropped = Dropped()
    options = TableOptions(structure_column, index_base, allow_multiplets)
    for path in map(Path, [paths] if isinstance(paths, Path | str) else paths):
        suffix = _suffix(path)
        if suffix not in _KNOWN:
            raise ValueError(
                f"{path}: the end of the name says no known format; known are {' '.join(_KNOWN)}, "
                "also with .gz behind; rename the file"
            )
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file; correct the path")
        read = _READERS.get(suffix) or partial(read_structure_table, options=options)
        before = len(records) + dropped.total()
        for task in read(path):
            try:
                records.append(task())
            except StructureError as error:
                if on_error == "error":
                    raise
                dropped.add(error)
        if len(records) + dropped.total() == before:
            raise ValueError(f"{path}: holds no structures; is this the right file?")
    return records, dropped


def find_structure_files(paths: Iterable[Path | str]) -> list[Path]:
    """The files that are meant by names of files, folders and patterns.

    Args:
        paths: Files are taken as they are; folders give all files below them whose names end as
            :func:`read_structures` knows it, hidden ones left out; patterns such as
            ``data/**/*.ct`` give the files that fit.

    Returns:
        The files, each once; those of one folder or pattern sorted.

    Raises:
        ValueError: If nothing is found for one of the names, or none is given.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = sorted(filter(partial(_is_structure_file, path), path.rglob("*")))
        else:
            files = sorted(filter(Path.is_file, map(Path, _glob(path))))
        if not files:
            raise ValueError(
                f"{path}: no files with structures are found; name files, a folder in which names "
                f"end in {' '.join(_KNOWN)} (also with .gz behind), or a pattern such as 'x/*.ct'"
            )
        found += files
    if not found:
        raise ValueError("structure files: none are named; name files, folders or patterns")
    return list(dict.fromkeys(found))


def _glob(pattern: Path) -> list[str]:
    return glob.glob(str(pattern), recursive=True)  # noqa: PTH207 - Path.glob: no absolute patterns


def _suffix(path: Path) -> str:
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _is_structure_file(folder: Path, path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and _suffix(path) in _KNOWN and path.is_file()
