"""Tables with one structure per row, as dot-bracket or as a list of base pairs."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from rnafm.data.structure import StructureError, valid_pairs
from rnafm.data.structure_formats import (
    StructureRecord,
    clean_sequence,
    dot_bracket_pairs,
    numbered_name,
)
from rnafm.data.table import Table, read_table, require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_STRUCTURE_COLUMNS = ("structure", "base_pairs")


class TableOptions(NamedTuple):
    """How structures stand in a table; see :func:`~rnafm.data.structure_files.read_structures`."""

    structure_column: str | None = None
    index_base: int = 1
    allow_multiplets: bool = False


def read_structure_table(
    path: Path, options: TableOptions
) -> Iterator[Callable[[], StructureRecord]]:
    """Rows of a table with the columns ``sequence`` and ``structure`` or ``base_pairs``."""
    table = read_table(path)
    require(table, "sequence", "the sequences")
    column = options.structure_column or _structure_column(path, table)
    require(table, column, "the structures")
    for row in range(len(table)):
        yield partial(_table_record, path, table, row, column, options)


def _structure_column(path: Path, table: Table) -> str:
    present = [name for name in _STRUCTURE_COLUMNS if name in table.columns]
    if len(present) != 1:
        what = "both columns" if present else "neither of the columns"
        raise ValueError(
            f"{path}: has {what} {' and '.join(map(repr, _STRUCTURE_COLUMNS))}; name the one to "
            f"read as structure_column; it has: {', '.join(table.columns)}"
        )
    return present[0]


def _table_record(
    path: Path, table: Table, row: int, column: str, options: TableOptions
) -> StructureRecord:
    place = table.places[row]
    cells = {name: cells[row] for name, cells in table.columns.items()}
    texts = {name: "" if cell is None else str(cell) for name, cell in cells.items()}
    sequence = clean_sequence(texts["sequence"].strip(), place)
    if not texts[column]:
        raise StructureError(
            f"{place}: column {column!r} is empty; a structure without pairs is ... or []",
            "no structure",
        )
    if column.endswith("pairs"):
        pairs = valid_pairs(
            _pair_list(cells[column], place),
            len(sequence),
            place,
            index_base=options.index_base,
            allow_multiplets=options.allow_multiplets,
        )
    else:
        pairs = dot_bracket_pairs(sequence, texts[column].strip(), place)
    name = texts.get("id") or texts.get("name") or numbered_name(path, row + 1)
    others = {key: text for key, text in texts.items() if key not in {"sequence", column}}
    return StructureRecord(name, sequence, pairs, place, others)


def _pair_list(cell: Any, place: str) -> list[list[int]]:
    """Pairs from JSON text, or a list as JSON lines and Parquet have it."""
    try:
        values = json.loads(cell) if isinstance(cell, str) else cell
        pairs = [[i, j] for i, j in values]
    except (TypeError, ValueError):
        pairs = [[None, None]]
    if any(type(index) is not int for pair in pairs for index in pair):
        raise StructureError(
            f"{place}: base pairs ({str(cell)[:40]}): are no list of pairs of whole numbers such "
            "as [[1, 71], [2, 70]]; correct it",
            "bad base pairs",
        )
    return pairs
