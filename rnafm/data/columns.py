"""Categories in FASTA headers, such as families or types."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MOST_CATEGORIES = 1_000_000
MOST_LETTERS = 64 << 20  # of all categories of a column: they are in memory
MOST_COLUMNS = 100
PRESETS = {
    # "URS0000000001 rRNA from 13 species", and for what one species has
    # "URS000000000A Homo sapiens (human) microRNA 21": type or species, whichever is there.
    "rnacentral": (
        r"^\S+\s+(?:(?P<rna_type>\S.*?) from (?P<num_species>\d+) species\s*$"
        r"|(?P<species>(?:Candidatus )?[A-Z][\w-]+ (?:sp\. \S+|[a-z][\w-]+)"
        r"|(?:uncultured|unidentified) [\w-]+(?: sp\.| bacterium)?))"
    ),
}
"""Expressions for headers that are known, by name."""


class Categories:
    """Numbers the values of columns in the order in which they appear.

    Value 0 of every column is the empty text: the header says nothing.

    Args:
        columns: Columns that are known, with their values.
    """

    def __init__(self, columns: dict[str, list[str]] | None = None) -> None:
        self._values = {
            name: {value: code for code, value in enumerate(values)}
            for name, values in (columns or {}).items()
        }
        self._letters = {name: sum(map(len, values)) for name, values in self._values.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self._values)

    def to_dict(self) -> dict[str, list[str]]:
        """The values of each column in the order of their codes."""
        return {name: list(values) for name, values in self._values.items()}

    def code(self, name: str, value: str) -> int:
        """The number of a value.

        Raises:
            ValueError: If a column has more values than categories can have, or there are too many.
        """
        values = self._values.get(name)
        if values is None:
            values = self.add(name)
        code = values.get(value)
        if code is None:
            code = values[value] = len(values)
            self._letters[name] += len(value)
            if code >= MOST_CATEGORIES or self._letters[name] > MOST_LETTERS:
                most = (
                    f"{MOST_CATEGORIES:,} values"
                    if code >= MOST_CATEGORIES
                    else f"{MOST_LETTERS:,} letters in its values"
                )
                raise ValueError(
                    f"columns: {name!r} has more than {most}, so it names no categories; give an "
                    "expression for 'columns' that leaves it out"
                )
        return code

    def codes(self, name: str, values: Sequence[str]) -> NDArray[np.int32]:
        """The numbers of many values; see :meth:`code`."""
        table = self.add(name)
        for value in dict.fromkeys(values):
            if value not in table:
                self.code(name, value)
        return np.fromiter(map(table.__getitem__, values), np.int32, len(values))

    def add(self, name: str) -> dict[str, int]:
        """A column without values; as it is if it is known."""
        if name not in self._values and len(self._values) >= MOST_COLUMNS:
            raise ValueError(
                f"columns: the headers name more than {MOST_COLUMNS} columns, {name!r} among them; "
                "give an expression for 'columns' that names those you want"
            )
        self._letters.setdefault(name, 0)
        return self._values.setdefault(name, {"": 0})

    def merge(self, columns: dict[str, list[str]]) -> dict[str, NDArray[np.int32]]:
        """Add what other categories have.

        Returns:
            For each of their columns, what each of their codes is here.
        """
        return {name: self.codes(name, values) for name, values in columns.items()}


class HeaderColumns:
    r"""Reads columns from headers.

    Args:
        pattern: A regular expression with named groups, each a column, searched in the whole header
            (``(?P<source>\w+):\S+ (?P<type>\S+)``), or the name of one of :data:`PRESETS`. Without
            one, each word ``key=value`` after the name is a column.

    Attributes:
        categories: The values that were found.

    Raises:
        ValueError: If the expression has no named groups or is wrong.
    """

    def __init__(self, pattern: str | None = None) -> None:
        self.pattern = None
        self.categories = Categories()
        self._words = re.compile(r"(?<!\S)([^\s=]+)=(\S+)")
        if pattern is None:
            return
        try:
            self.pattern = re.compile(PRESETS.get(pattern, pattern))
        except re.error as error:
            raise ValueError(
                f"columns: {pattern!r} is no regular expression ({error}); correct it"
            ) from error
        if not self.pattern.groupindex:
            raise ValueError(
                f"columns: {pattern!r} has no named group; name one, as in '(?P<type>\\S+)', or "
                f"take one of {', '.join(PRESETS)}"
            )
        self.categories = Categories({name: [""] for name in self.pattern.groupindex})

    def read(
        self, names: Sequence[str], descriptions: Sequence[str]
    ) -> dict[str, NDArray[np.int32]]:
        """Codes of some records: for every column known so far, int32 of shape (B,).

        Raises:
            ValueError: If a column has more values than categories can have.
        """
        rows: dict[str, tuple[list[int] | None, Sequence[str]]]
        if self.pattern is not None:
            rows = {name: (None, values) for name, values in self._searched(names, descriptions)}
        elif "=" in "".join(descriptions):
            rows = self._words_of(descriptions)
        else:
            rows = {}
        found = {name: np.zeros(len(names), np.int32) for name in self.categories.names}
        for name, (places, values) in rows.items():
            codes = self.categories.codes(name, values)
            found.setdefault(name, np.zeros(len(names), np.int32))[places or slice(None)] = codes
        return found

    def _searched(
        self, names: Sequence[str], descriptions: Sequence[str]
    ) -> Iterator[tuple[str, Sequence[str]]]:
        """For each group of the expression, what it matches in each header."""
        if self.pattern is None or not names:
            return
        nothing, search = ("",) * self.pattern.groups, self.pattern.search
        headers = map(" ".join, zip(names, descriptions, strict=True))
        found = [match.groups("") if (match := search(header)) else nothing for header in headers]
        columns = list(zip(*found, strict=True))
        for name, number in self.pattern.groupindex.items():
            yield name, columns[number - 1]

    def _words_of(
        self, descriptions: Sequence[str]
    ) -> dict[str, tuple[list[int] | None, Sequence[str]]]:
        """For each key, the records that have it and what they have."""
        found: dict[str, tuple[list[int], list[str]]] = {}
        for i, description in enumerate(descriptions):
            for name, value in self._words.findall(description):
                places, values = found.setdefault(name, ([], []))
                places.append(i)
                values.append(value)
        return dict(found.items())
