"""Sequences to predict for, from FASTA files and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rnafm.data.fasta import Record

_TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its name; else it is FASTA."""
    return path.name.lower().removesuffix(".gz").endswith(_TABLES)


class Inputs:
    """The sequences of a FASTA file or a table: upper case, U for T, their place as description.

    Args:
        path: The file. FASTA is read anew in each pass, a table once.
        sequence_column: Column of a table with the sequences.
        id_column: Column of a table with the names. If there is no column ``id``, they are
            ``row_1``, ``row_2`` and so on.

    Raises:
        ValueError: If a table lacks a column, or a row its sequence or name.
    """

    def __init__(
        self, path: Path, sequence_column: str = "sequence", id_column: str = "id"
    ) -> None:
        self.path = path
        self._rows = _rows(path, sequence_column, id_column) if is_table(path) else None

    def __iter__(self) -> Iterator[Record]:
        """Stream the records."""
        from rnafm.data.fasta import FastaFile, Record

        if self._rows is not None:
            yield from self._rows
            return
        for name, sequence, _ in FastaFile(self.path):
            yield Record(name, sequence.upper().replace("T", "U"), f"{self.path}:{name}")


def _rows(path: Path, sequence_column: str, id_column: str) -> list[Record]:
    from rnafm.data.fasta import Record
    from rnafm.data.table import read_table, require

    table = read_table(path)
    sequences = require(table, sequence_column, "sequences")
    if id_column == "id" and id_column not in table.columns:
        names: list[Any] = [f"row_{number}" for number in range(1, len(table) + 1)]
    else:
        names = require(table, id_column, "names")
    rows = []
    for name, sequence, place in zip(names, sequences, table.places, strict=True):
        text = sequence.strip() if isinstance(sequence, str) else ""
        if not text:
            raise ValueError(f"{place}: column {sequence_column!r}: there is no sequence; add it")
        if name is None or not str(name).strip():
            raise ValueError(f"{place}: column {id_column!r}: is empty; every row needs a name")
        rows.append(Record(str(name), text.upper().replace("T", "U"), place))
    return rows
