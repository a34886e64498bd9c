"""Categories in FASTA headers, such as families or types."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_CATEGORIES = 1_000_000


class HeaderColumns:
    r"""Reads columns from headers and numbers their values in the order in which they appear.

    Value 0 of every column is the empty text: the header says nothing.

    Args:
        pattern: A regular expression with named groups, each a column, searched in the whole header
            (``(?P<source>\w+):\S+ (?P<type>\S+)``). Without one, each word ``key=value`` after the
            name is a column.

    Raises:
        ValueError: If the expression has no named groups or is wrong.
    """

    def __init__(self, pattern: str | None = None) -> None:
        self.pattern = None
        self._values: dict[str, dict[str, int]] = {}
        self._words = re.compile(r"(?<!\S)([^\s=]+)=(\S+)")
        if pattern is None:
            return
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"columns: {pattern!r} is no regular expression ({error}); correct it"
            ) from error
        if not self.pattern.groupindex:
            raise ValueError(
                f"columns: {pattern!r} has no named group; name one, as in '(?P<type>\\S+)'"
            )
        self._values = {name: {"": 0} for name in self.pattern.groupindex}

    def categories(self, name: str) -> list[str]:
        """The values of a column in the order of their codes."""
        return list(self._values[name])

    def read(
        self, names: Sequence[str], descriptions: Sequence[str]
    ) -> dict[str, NDArray[np.int32]]:
        """Codes of some records: for every column known so far, int32 of shape (B,).

        Raises:
            ValueError: If a column has more values than categories can have.
        """
        found: defaultdict[str, NDArray[np.int32]] = defaultdict(
            lambda: np.zeros(len(names), np.int32)
        )
        if self.pattern is not None:
            for i, header in enumerate(map(" ".join, zip(names, descriptions, strict=True))):
                if match := self.pattern.search(header):
                    for name, value in match.groupdict(default="").items():
                        found[name][i] = self._code(name, value)
        elif "=" in "".join(descriptions):
            for i, description in enumerate(descriptions):
                for name, value in self._words.findall(description):
                    found[name][i] = self._code(name, value)
        return {name: found[name] for name in self._values}

    def _code(self, name: str, value: str) -> int:
        values = self._values.setdefault(name, {"": 0})
        code = values.setdefault(value, len(values))
        if code >= MOST_CATEGORIES:
            raise ValueError(
                f"columns: {name!r} has more than {MOST_CATEGORIES:,} values, so it names no "
                "categories; give an expression for 'columns' that leaves it out"
            )
        return code
