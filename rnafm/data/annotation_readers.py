"""What is kept of each table for the sequences of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.annotation_tables import Fields, fields_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from rnafm.data.annotation_tables import Table

    Column = tuple[NDArray[np.int32], list[str]]

_EXACT, _OTHER_SPECIES = 2, 1
_LONGEST_NAME = 100  # letters; what is longer is no category
_MOST_NAMES = 10_000


class Index:
    """Finds the sequences of an identifier: sorted numbers, and the row of each."""

    def __init__(self, names: Iterable[Sequence[str]]) -> None:
        numbers, taxids = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
        for batch in names:
            found = fields_of([name.encode() for name in batch]).identifiers()
            numbers.append(found[0])
            taxids.append(found[1].astype(np.int32))
        self.taxids = np.concatenate(taxids)
        self._numbers = np.concatenate(numbers)
        self.size = len(self._numbers)
        self.num_others = int((self._numbers < 0).sum())
        self._rows = np.argsort(self._numbers, kind="stable")
        self._numbers = self._numbers[self._rows]

    def find(
        self, column: Fields, table: Table
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
        """The sequences that rows of a table are about.

        Returns:
            Rows of the table, rising, and the sequence of each: a row comes once for every sequence
            that it is about. And how many rows are about none.

        Raises:
            ValueError: If something is no identifier.
        """
        wanted, _ = column.identifiers()
        if (wanted < 0).any():
            row = int((wanted < 0).argmax())
            name = column.text_at(row)
            raise table.bad_row(row, f"{name[:40]!r} is no identifier such as URS00008314B2")
        low = np.searchsorted(self._numbers, wanted)
        inside = np.minimum(low, self.size - 1)
        known = np.flatnonzero(self._numbers[inside] == wanted) if self.size else low[:0]
        low = low[known]
        counts = np.searchsorted(self._numbers, wanted[known], "right") - low
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        rows = np.repeat(known, counts)
        return rows, self._rows[np.repeat(low, counts) + within], len(wanted) - len(known)


class Mapping:
    """RNAcentral's ``id_mapping``: the first row of each sequence, of its own species if any."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._level = np.zeros(index.size, np.uint8)
        self._types: dict[str, int] = {"": 0}
        self._databases: dict[str, int] = {"": 0}
        self._type = np.zeros(index.size, np.int32)
        self._database = np.zeros(index.size, np.int32)
        self._taxid = np.full(index.size, -1, np.int32)
        self.several = np.zeros(index.size, np.bool_)

    def add(self, columns: list[Fields], table: Table) -> int:
        """Take some rows; how many are about no sequence."""
        taxids = columns[3].numbers()
        if (taxids < 0).any():
            row = int((taxids < 0).argmax())
            text = columns[3].text_at(row)
            raise table.bad_row(row, f"{text[:40]!r} is no taxid")
        rows, sequences, unknown = self._index.find(columns[0], table)
        types = self._codes(columns[4], rows, self._types, table)
        databases = self._codes(columns[1], rows, self._databases, table)
        levels = np.where(taxids[rows] == self._index.taxids[sequences], _EXACT, _OTHER_SPECIES)
        for level in (_EXACT, _OTHER_SPECIES):
            better = np.flatnonzero((levels == level) & (self._level[sequences] < level))
            found, first = np.unique(sequences[better], return_index=True)
            chosen = better[first]
            self.several[found] |= (self._level[found] > 0) & (
                self._database[found] != databases[chosen]
            )
            self._level[found] = level
            self._type[found], self._database[found] = types[chosen], databases[chosen]
            self._taxid[found] = taxids[rows[chosen]]
        self.several[sequences[databases != self._database[sequences]]] = True
        return unknown

    def _codes(
        self, column: Fields, rows: NDArray[np.int64], categories: dict[str, int], table: Table
    ) -> NDArray[np.int32]:
        wanted = column.take(rows)
        long = wanted.ends - wanted.starts > _LONGEST_NAME
        if long.any() or len(categories) > _MOST_NAMES:
            row = int(rows[long.argmax()])
            raise table.bad_row(
                row, f"{column.text_at(row)[:40]!r}... is no name of a type or database"
            )
        return wanted.codes(categories)

    def columns(self) -> dict[str, Column]:
        """The columns, with the categories in the order in which they first appear."""
        return {
            "rna_type": (self._type, list(self._types)),
            "database": (self._database, list(self._databases)),
            "taxid": _numbered(self._taxid, str),
        }


class Matches:
    """Rfam's matches: the family with the best score for each sequence, the first of equals."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._score = np.full(index.size, -np.inf)
        self._family = np.full(index.size, -1, np.int32)

    def add(self, columns: list[Fields], table: Table) -> int:
        """Take some rows; how many are about no sequence."""
        rows, sequences, unknown = self._index.find(columns[0], table)
        families = _accessions(columns[1], "RF", table)[rows]
        texts = columns[2].take(rows).strings()
        try:
            scores = np.array(texts, np.float64) if texts else np.zeros(0)
        except ValueError as error:
            row = next(i for i, text in enumerate(texts) if not _is_number(text))
            raise table.bad_row(int(rows[row]), f"{texts[row][:40]!r} is no score") from error
        order = np.lexsort((rows, -scores, sequences))
        found, first = np.unique(sequences[order], return_index=True)
        chosen = order[first]
        better = scores[chosen] > self._score[found]
        found, chosen = found[better], chosen[better]
        self._score[found], self._family[found] = scores[chosen], families[chosen]
        return unknown

    def column(self, name: Callable[[int], str]) -> Column:
        """The families."""
        return _numbered(self._family, name)


class Clans:
    """Rfam's ``clan_membership``: the clan of a family."""

    def __init__(self, index: Index) -> None:
        self._clans: dict[str, str] = {}

    def add(self, columns: list[Fields], table: Table) -> int:
        """Take some rows."""
        clans = _accessions(columns[0], "CL", table).tolist()
        families = _accessions(columns[1], "RF", table).tolist()
        for row, (clan, family) in enumerate(zip(clans, families, strict=True)):
            known = self._clans.setdefault(f"RF{family:05d}", f"CL{clan:05d}")
            if known != f"CL{clan:05d}":
                raise table.bad_row(
                    row, f"family RF{family:05d} is in clan {known} and in CL{clan:05d}"
                )
        return 0

    def column(self, families: Column) -> Column:
        """The clans of families; a family without one is its own."""
        codes, names = families
        categories: dict[str, int] = {"": 0}
        of_family = [
            categories.setdefault(self._clans.get(name, name), len(categories)) for name in names
        ]
        return np.array(of_family, np.int32)[codes], list(categories)


READERS: dict[str, Callable[[Index], Mapping | Matches | Clans]] = {
    "id_mapping": Mapping,
    "rfam_annotations": Matches,
    "clan_membership": Clans,
}


def _accessions(column: Fields, prefix: str, table: Table) -> NDArray[np.int64]:
    """Numbers of accessions such as RF00005."""
    numbers = Fields(column.text, column.starts + len(prefix), column.ends).numbers()
    letters = column.text[column.starts[:, None] + np.arange(len(prefix))]
    wrong = (letters != np.frombuffer(prefix.encode(), np.uint8)).any(1) | (numbers < 0)
    wrong |= column.ends - column.starts != len(prefix) + 5
    if wrong.any():
        row = int(wrong.argmax())
        text = column.text_at(row)
        raise table.bad_row(row, f"{text[:40]!r} is no accession such as {prefix}00005")
    return numbers


def _numbered(values: NDArray[np.int32], name: Callable[[int], str]) -> Column:
    """Codes and categories of numbers, rising; -1 is the empty text."""
    found, codes = np.unique(np.append(values, np.int32(-1)), return_inverse=True)
    return codes[:-1].astype(np.int32), ["", *map(name, found[1:].tolist())]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
