"""What is known of every test sequence, and the groups that they fall into."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from rnafm.files import atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_FIRST = ("id", "length")


@dataclass(frozen=True)
class Records:
    """One entry for each sequence, in the same order everywhere.

    Args:
        names: Names of the sequences, n.
        lengths: Nucleotides of each, int (n,).
        columns: Columns of the input that sequences may be grouped by, such as ``family``; texts.
        values: Numbers of each sequence, such as its F1; float (n,), NaN where there is none.
        texts: What is worth writing down besides, such as label and prediction.

    Raises:
        ValueError: If one of them does not have n entries.
    """

    names: Sequence[str]
    lengths: NDArray[np.integer]
    columns: dict[str, Sequence[str]] = field(default_factory=dict)
    values: dict[str, NDArray[np.floating]] = field(default_factory=dict)
    texts: dict[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, entries in [("length", self.lengths), *self._rest()]:
            if len(entries) != len(self.names):
                raise ValueError(
                    f"{name} ({len(entries)} entries): there are {len(self.names)} sequences; "
                    "give one entry for each"
                )

    def __len__(self) -> int:
        return len(self.names)

    def write(self, path: Path) -> None:
        """Write a CSV file with a row for each sequence; NaN becomes an empty cell.

        A column called like an earlier one is written as ``name (2)``.
        """
        header = list(_FIRST)
        for name, _ in self._rest():
            numbered = (f"{name} ({number})" for number in count(2))
            header.append(
                name if name not in header else next(n for n in numbered if n not in header)
            )
        entries = [map(_cell, entries) for _, entries in self._rest()]
        with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows(zip(self.names, self.lengths.tolist(), *entries, strict=True))

    def _rest(self) -> list[tuple[str, Sequence[str] | NDArray[np.floating]]]:
        return [*self.columns.items(), *self.texts.items(), *self.values.items()]


def read_values(path: Path, column: str) -> dict[str, float]:
    """A number of each sequence from a file that `Records.write` wrote, by name.

    Raises:
        ValueError: If the column is missing or a name occurs twice.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if column not in (rows.fieldnames or []):
            raise ValueError(
                f"{path}: no column {column!r}; there are {', '.join(rows.fieldnames or [])}"
            )
        values: dict[str, float] = {}
        for row in rows:
            if row["id"] in values:
                raise ValueError(
                    f"{path}:{rows.line_num}: {row['id']!r} occurs twice; sequences are matched "
                    "by name, so names must differ"
                )
            values[row["id"]] = float(row[column] or "nan")
    return values


def group_rows(entries: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Numbers of the rows with each entry, the largest group first."""
    names, numbers = np.unique(np.asarray(entries, str), return_inverse=True)
    sizes = np.bincount(numbers, minlength=len(names))
    order = np.argsort(-sizes, kind="stable")
    return {str(names[group]): np.flatnonzero(numbers == group) for group in order}


def length_bins(
    lengths: NDArray[np.integer], num_bins: int = 5, min_size: int = 10
) -> dict[str, NDArray[np.int64]]:
    """Numbers of the rows in bins of similar size, by the lengths that occur in them.

    Equal lengths stay together, and bins of fewer than ``min_size`` are joined with the next, so
    there may be fewer than ``num_bins``.

    >>> length_bins(np.array([20, 20, 35, 40, 90]), num_bins=2, min_size=2)
    {'20-35 nt': array([0, 1, 2]), '40-90 nt': array([3, 4])}
    """
    order = np.argsort(lengths, kind="stable")
    target = max(min_size, int(np.ceil(len(lengths) / num_bins)))
    bins: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for length in np.unique(lengths):
        rows = order[np.searchsorted(lengths[order], length) :][: int((lengths == length).sum())]
        if len(bins[-1]) >= min_size and len(bins[-1]) + len(rows) / 2 > target:
            bins.append(rows)
        else:
            bins[-1] = np.concatenate([bins[-1], rows])
    if len(bins) > 1 and len(bins[-1]) < min_size:
        bins[-2:] = [np.concatenate(bins[-2:])]
    return {
        f"{lengths[rows].min():,}-{lengths[rows].max():,} nt": np.sort(rows)
        for rows in bins
        if len(rows)
    }


def _cell(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "" if np.isnan(value) else f"{value:.7g}"
