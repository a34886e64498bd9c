"""Tables with named columns: CSV, TSV, JSON lines and Parquet, and sequences that FASTA adds."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnafm.data.fasta import FastaFile
from rnafm.data.table_formats import decode, read_bytes, read_delimited, read_json, read_parquet

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHOWN = 5  # names in a message
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_JSON = (".jsonl", ".ndjson", ".json")
_KNOWN = (*_DELIMITERS, *_JSON, ".parquet")


@dataclass
class Table:
    """Rows of named columns.

    Attributes:
        columns: The cells of each column: text in CSV and TSV, elsewhere what the file holds, and
            None where a row lacks the column.
        places: Where each row stands: ``my.csv:12``, the line on which it starts, or
            ``x.parquet: row 12``.
    """

    columns: dict[str, list[Any]]
    places: list[str]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.places)

    @property
    def file(self) -> str:
        """The file that the first row is from."""
        return self.places[0].rpartition(":")[0] if self.places else "the table"


def read_table(path: Path | str) -> Table:
    """Read a table; the end of its name decides on the format.

    Args:
        path: ``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson`` or ``.json`` (one object per line), or
            ``.parquet``; also compressed, with ``.gz`` behind. Blank lines are passed over.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the format is unknown, the file is damaged or empty, names of columns are
            missing or appear twice, or a row does not fit.
    """
    path = Path(path)
    name = path.name.lower()
    packed = name.endswith(".gz")
    suffix = Path(name.removesuffix(".gz")).suffix
    if suffix not in _KNOWN:
        raise ValueError(
            f"{path}: the end of the name says no known format; known are {' '.join(_KNOWN)}, also "
            "with .gz behind; rename the file, or export it (Excel: save as CSV UTF-8)"
        )
    data = read_bytes(path, packed=packed)
    if suffix == ".parquet":
        columns, places = read_parquet(path, data)
    elif suffix in _JSON:
        columns, places = read_json(path, decode(path, data))
    else:
        columns, places = read_delimited(path, decode(path, data), _DELIMITERS[suffix])
    if not places:
        raise ValueError(f"{path}: has no rows; is this the right file?")
    return Table(columns, places)


def require(table: Table, column: str, what: str) -> list[Any]:
    """The cells of a column that has to be there.

    Args:
        table: The table.
        column: Name of the column.
        what: What the column is for, as the message calls it.

    Raises:
        ValueError: If there is no such column; lists those there are.
    """
    if column in table.columns:
        return table.columns[column]
    lower = {name.lower(): name for name in table.columns}
    close = [lower[name] for name in difflib.get_close_matches(column.lower(), lower)]
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise ValueError(
        f"{table.file}: has no column {column!r} for {what}; {hint}"
        f"it has: {', '.join(table.columns)}"
    )


def unique_ids(table: Table, column: str, what: str = "ids") -> list[str]:
    """The cells of a column as text that names each row.

    Args:
        table: The table.
        column: Name of the column.
        what: What the column is for, as a message calls it.

    Raises:
        ValueError: If there is no such column, a row has no id, or two rows have the same one.
    """
    places: dict[str, str] = {}
    for cell, place in zip(require(table, column, what), table.places, strict=True):
        name = "" if cell is None else str(cell)
        if not name:
            raise ValueError(f"{place}: column {column!r}: is empty; every row needs an id")
        if name in places:
            raise ValueError(
                f"{place}: column {column!r}: {name!r} is the id of {places[name]} as well; "
                "rename or remove one of them"
            )
        places[name] = place
    return list(places)


def join_fasta(
    table: Table, fasta_path: Path | str, id_column: str, sequence_column: str = "sequence"
) -> tuple[Table, int]:
    """Give each row the sequence whose name, the first word of the header, is its id.

    Args:
        table: Rows without sequences.
        fasta_path: FASTA, plain or gzip.
        id_column: Column with the names.
        sequence_column: Column that is added.

    Returns:
        The table with sequences, and how many sequences of the file no row asks for.

    Raises:
        ValueError: If a row has no sequence, or a name appears twice in the table or the file.
    """
    if sequence_column in table.columns:
        raise ValueError(
            f"{table.file}: has a column {sequence_column!r}, and sequences are to come from "
            f"{fasta_path} as well; name one source, or give the new column another name"
        )
    wanted = set(ids := unique_ids(table, id_column))
    found: dict[str, tuple[int, str]] = {}
    others: list[str] = []
    number = unused = 0
    for number, record in enumerate(FastaFile(fasta_path), 1):
        if record.name not in wanted:
            unused += 1
            others += [record.name] if len(others) < _SHOWN else []
        elif record.name in found:
            raise ValueError(
                f"{fasta_path}: records {found[record.name][0]:,} and {number:,} have the same "
                f"name {record.name!r}; rename or remove one of them"
            )
        else:
            found[record.name] = (number, record.sequence)
    missing = [i for i, name in enumerate(ids) if name not in found]
    if missing:
        first = ", ".join(f"{ids[i]!r} ({table.places[i]})" for i in missing[:_SHOWN])
        unasked = f", which has for instance {', '.join(map(repr, others))}" if others else ""
        raise ValueError(
            f"{len(missing):,} of {len(ids):,} rows have no sequence in {fasta_path}{unasked}: "
            f"{first}; column {id_column!r} must hold the first word of a header; add the "
            "sequences or remove the rows"
        )
    sequences = [found[name][1] for name in ids]
    return Table({**table.columns, sequence_column: sequences}, table.places), unused


def concatenate(tables: Sequence[Table]) -> Table:
    """The rows of all tables in order.

    A row has None in the columns that its own table lacks: :func:`require` before what each needs.

    Args:
        tables: At least one.
    """
    names = dict.fromkeys(name for table in tables for name in table.columns)
    columns = {
        name: [cell for table in tables for cell in table.columns.get(name, [None] * len(table))]
        for name in names
    }
    return Table(columns, [place for table in tables for place in table.places])
