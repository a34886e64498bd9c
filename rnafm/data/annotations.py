"""What RNAcentral and Rfam say about sequences: type, database, species, family and clan."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.annotation_readers import READERS, Clans, Index, Mapping, Matches
from rnafm.data.annotation_tables import Table
from rnafm.data.progress import ReadingProgress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rnafm.data.annotation_readers import Column

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotations:
    """Columns for the sequences of a store.

    Args:
        columns: For each name the codes of the sequences, int32 (B,), and the categories that they
            number; category 0 is the empty text, for sequences that no table names.
        counts: ``rows`` read, ``rows of unknown sequences``, ``sequences without annotation`` in
            any column, ``sequences of several databases``, whose column has the first one in the
            table, and ``names that are no URS``, which no table can hold.
    """

    columns: dict[str, Column]
    counts: dict[str, int]


def read_annotations(
    names: Iterable[Sequence[str]], files: Sequence[Path | str], *, progress: bool = True
) -> Annotations:
    """Read tables, in blocks and in any order, for the sequences of a store.

    The tables are those that RNAcentral and Rfam publish, plain or gzip, told apart by their first
    line or else their name: ``id_mapping`` gives the columns ``rna_type``, ``database`` and
    ``taxid`` from the first row of a sequence; ``rfam_annotations`` gives ``family`` from the match
    with the best score; and ``clan_membership`` adds ``clan``, where a family without one is its
    own. A sequence named ``URS00008314B2_9606`` has the first row of species 9606, if there is one,
    else the first row.

    Identifiers are compared as numbers, all digits of them, so none is taken for another one. Takes
    about 60 bytes per sequence while reading, and some hundred MB for a block.

    Args:
        names: Names of the sequences, in lists, as :meth:`SequenceStore.names` gives them.
        files: The tables.
        progress: Whether to show progress on standard error.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is none of these tables, damaged, or has a bad row; the message names
            file and line. Or if there are clans without families.
    """
    tables = [Table(Path(file)) for file in files]
    kinds = {table.kind.name for table in tables}
    if "clan_membership" in kinds and "rfam_annotations" not in kinds:
        clans = next(table.path for table in tables if table.kind.name == "clan_membership")
        raise ValueError(
            f"{clans}: clans are of families, and no table of these is given; name Rfam's matches "
            "as well: rfam_annotations.tsv.gz"
        )
    index = Index(names)
    readers: dict[str, Mapping | Matches | Clans] = {}
    total, done, unknown = sum(table.path.stat().st_size for table in tables), 0, 0
    with ReadingProgress("read annotations", total, enabled=progress) as shown:
        for table in tables:
            name = table.kind.name
            reader = readers.setdefault(name, READERS[name](index))
            for columns in table:
                unknown += reader.add(columns, table)
                shown.update(done + table.position, len(columns[0].starts), 0)
            done += table.path.stat().st_size
    return _annotations(index, readers, sum(table.num_rows for table in tables), unknown)


def _annotations(
    index: Index, readers: dict[str, Mapping | Matches | Clans], num_rows: int, unknown: int
) -> Annotations:
    """All columns, in a fixed order, and the counts."""
    columns: dict[str, Column] = {}
    several = 0
    mapping, matches = readers.get("id_mapping"), readers.get("rfam_annotations")
    if isinstance(mapping, Mapping):
        columns |= mapping.columns()
        several = int(mapping.several.sum())
    if isinstance(matches, Matches):
        columns["family"] = matches.column(lambda number: f"RF{number:05d}")
        clans = readers.get("clan_membership")
        if isinstance(clans, Clans):
            columns["clan"] = clans.column(columns["family"])
    without = np.ones(index.size, np.bool_)
    for codes, _ in columns.values():
        without &= codes == 0
    counts = {
        "rows": num_rows,
        "rows of unknown sequences": unknown,
        "sequences without annotation": int(without.sum()),
        "sequences of several databases": several,
        "names that are no URS": index.num_others,
    }
    logger.info(
        "annotations: %s", ", ".join(f"{number:,} {name}" for name, number in counts.items())
    )
    return Annotations(columns, counts)
