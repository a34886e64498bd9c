"""Rows of a table on their sides: training, validation and test, and what was done to get there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from rnafm.data.clusters import ClusterMethod  # noqa: TC001  # jsonargparse reads the type
from rnafm.data.units import cluster_units, fold_of_rows, group_units, hold_out, sequence_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

By = Literal["hash", "column", "group", "cluster"]
SIDES = ("train", "val", "test")
_LEFT_OUT, _VAL, _TEST = -1, 1, 2
_USUAL = {
    "train": ["train", "training"],
    "val": ["val", "valid", "validation", "dev"],
    "test": ["test"],
}
_SHOWN = 12  # names in a message


@dataclass(frozen=True)
class Partition:
    """Which rows are for training, validation and test.

    Every way but ``column`` keeps units together, and equal sequences (case does not matter, T is
    U) are one unit of ``hash`` and in one cluster. How honest the test numbers are goes up from
    ``hash`` (relatives of test sequences are in training) over ``cluster`` to ``group`` by family.

    Args:
        by: ``hash`` of the sequence: a row keeps its side when others come or go. ``column``: a
            column says it. ``group``: whole groups of a column, such as families; rows without one
            are for training. ``cluster``: whole clusters of similar sequences.
        column: The column that is read by ``column`` and ``group``.
        val: Share of the rows for validation, 0 for none; with ``folds`` or ``hold_out``, or a
            column without validation rows, of those that are not for test. Whole groups and
            clusters meet it as nearly as their sizes allow.
        test: Share of the rows for test, 0 for none; ``folds``, ``hold_out`` and ``column`` decide
            it without this.
        names: For ``column``: its values for ``train``, ``val`` and ``test``, for example ``{train:
            [TR0], val: [VL0], test: [TS0]}``. Rows with other values are left out. Without it:
            train or training; val, valid, validation or dev; test, in any case.
        hold_out: For ``group``: the groups that are the test set, such as one family.
        folds: Cross-validation: number of folds, of about the same size; 0 for none.
        fold: Which of them is the test set, from 0.
        identity: For ``cluster``: least share of equal nucleotides within clusters.
        method: For ``cluster``: ``mmseqs``, ``cd-hit``, ``k-mers`` (built in), or ``auto``, the
            first that is installed. Each gives other clusters.
        seed: Another number gives another split.

    Raises:
        ValueError: If fields contradict each other or are out of range.
    """

    by: By = "hash"
    column: str | None = None
    val: float = 0.1
    test: float = 0.1
    names: dict[str, list[str]] = field(default_factory=dict)
    hold_out: list[str] = field(default_factory=list)
    folds: int = 0
    fold: int = 0
    identity: float = 0.8
    method: ClusterMethod = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        self._check_fields_together()
        for name, share in (("val", self.val), ("test", self.test)):
            if not 0 <= share < 1:
                raise ValueError(f"split.{name} ({share}) must be a share from 0 to below 1")
        if not self.sets_test and self.val + self.test >= 1:
            raise ValueError(
                f"split.val ({self.val}) and split.test ({self.test}) leave nothing for training"
            )
        if (self.folds or self.fold) and not (self.folds > 1 and 0 <= self.fold < self.folds):
            raise ValueError(
                f"split.fold ({self.fold}) of split.folds ({self.folds}): there must be at least 2 "
                "folds, and they count from 0"
            )
        unknown = sorted(set(self.names) - set(SIDES))
        if unknown:
            raise ValueError(
                f"split.names has {', '.join(unknown)}; it can have {', '.join(SIDES)}"
            )

    @property
    def sets_test(self) -> bool:
        """Whether something else than the share decides which rows are for test."""
        return bool(self.folds or self.hold_out or self.by == "column")

    def _check_fields_together(self) -> None:
        if self.by not in get_args(By):
            raise ValueError(f"split.by ({self.by}) must be one of {', '.join(get_args(By))}")
        reads = self.by in ("column", "group")
        if reads and not self.column:
            raise ValueError(f"split.by ({self.by}) needs split.column: the column to read")
        if self.column and not reads:
            raise ValueError(
                f"split.column ({self.column}) is not read with split.by {self.by}; set split.by: "
                "group (whole groups on one side) or column (it names the side)"
            )
        for name, wanted in (("names", "column"), ("hold_out", "group")):
            if getattr(self, name) and self.by != wanted:
                raise ValueError(f"split.{name} goes with split.by {wanted}, not {self.by}")
        if self.folds and (self.by == "column" or self.hold_out):
            what = "split.hold_out" if self.hold_out else "split.by column"
            raise ValueError(
                f"split.folds ({self.folds}) and {what} both say which rows are for test; use one"
            )


class PartitionResult(NamedTuple):
    """Rows of every side, and how they got there."""

    rows: dict[str, NDArray[np.int64]]
    """Row numbers of ``train``, ``val`` and ``test``, ascending; empty where nothing was wanted."""
    notes: list[str]
    """What a reader of the numbers has to know: rows left out, groups and clusters."""
    how: str
    """The method that was really used."""


def partition(
    split: Partition, sequences: Sequence[str], columns: Mapping[str, Sequence[str]]
) -> PartitionResult:
    """Give every row its side. The result for a row does not depend on the order of the rows.

    Args:
        split: What is wanted.
        sequences: RNA sequence of every row.
        columns: The columns of the table.

    Raises:
        ValueError: If there is no such column or group, if there are too few units, or if a side
            that is wanted would be empty.
    """
    if not sequences:
        raise ValueError("there are no rows to split; look at the table and its filters")
    if split.column is not None and split.column not in columns:
        known = _listed(list(columns)) or "none"
        raise ValueError(f"split.column ({split.column}): no such column; there are: {known}")
    notes: list[str] = []
    if split.by == "column":
        sides, how = _by_column(split, columns, sequences, notes)
    else:
        sides, how = _by_units(split, columns, sequences, notes)
    rows = {name: np.flatnonzero(sides == i) for i, name in enumerate(SIDES)}
    if not len(rows["train"]):
        raise ValueError(
            f"split ({how}): no rows are for training; lower the shares, or look at split.names"
        )
    return PartitionResult(rows, notes, how)


def _by_column(
    split: Partition,
    columns: Mapping[str, Sequence[str]],
    sequences: Sequence[str],
    notes: list[str],
) -> tuple[NDArray[np.int64], str]:
    """Sides that a column names."""
    values = columns[split.column or ""]
    side_of = _sides_of_values(split, sorted(set(values)))
    sides = np.array([side_of.get(value, _LEFT_OUT) for value in values], np.int64)
    others = sorted(set(values) - set(side_of))
    if not (sides == 0).any():
        raise ValueError(
            f"split.column ({split.column}): no rows are for training; say which values are meant "
            f"with split.names: {{train: [...], ...}}; it has: {_listed(sorted(set(values)))}"
        )
    if others:
        num = int(np.count_nonzero(sides == _LEFT_OUT))
        notes.append(f"{num:,} rows left out: {split.column} is {_listed(others)}")
    how = f"by column {split.column}: " + "; ".join(
        f"{side} {_listed([value for value, of in sorted(side_of.items()) if of == i])}"
        for i, side in enumerate(SIDES)
        if i in side_of.values()
    )
    if _TEST not in side_of.values():
        notes.append(f"no test rows: {split.column} names none")
    if split.val and _VAL not in side_of.values():
        chosen = hold_out(sequence_units(sequences), sides == 0, split.val, "val", split.seed)
        sides[chosen] = _VAL
        how += f"; val {_percent(split.val)} of train by hash of the sequence, seed {split.seed}"
        notes.append(f"{split.column} names no validation rows: they were taken from train by hash")
    return sides, how


def _sides_of_values(split: Partition, there: list[str]) -> dict[str, int]:
    """Which side a value of the column means."""
    if not split.names:
        usual = {name: i for i, side in enumerate(SIDES) for name in _USUAL[side]}
        words = {value: value.strip().lower() for value in there}
        return {value: usual[word] for value, word in words.items() if word in usual}
    side_of: dict[str, int] = {}
    for i, side in enumerate(SIDES):
        for name in split.names.get(side, ()):
            if name not in there:
                raise ValueError(
                    f"split.names.{side} ({name}): column {split.column} has no such value; it "
                    f"has: {_listed(there)}"
                )
            if side_of.setdefault(name, i) != i:
                raise ValueError(
                    f"split.names gives {name} to {SIDES[side_of[name]]} and to {side}; choose one"
                )
    return side_of


def _by_units(
    split: Partition,
    columns: Mapping[str, Sequence[str]],
    sequences: Sequence[str],
    notes: list[str],
) -> tuple[NDArray[np.int64], str]:
    """Sides of sequences, groups or clusters."""
    values = columns[split.column] if split.column else []
    if split.by == "hash":
        units, how = sequence_units(sequences), "by hash of the sequence"
    elif split.by == "group":
        units, how = group_units(values), f"by group ({split.column})"
        num_without = int(np.count_nonzero(units.codes < 0))
        if num_without:
            notes.append(f"{num_without:,} rows without {split.column} are for training")
    else:
        units, method = cluster_units(sequences, split.identity, split.method)
        how = f"by cluster at {_percent(split.identity)} identity ({method})"
        sizes = np.bincount(units.codes)
        notes.append(
            f"{len(sizes):,} clusters of {len(sequences):,} rows, the largest of {sizes.max():,}"
        )
    everything = np.ones(len(sequences), np.bool_)
    if split.folds:
        is_test = fold_of_rows(units, split.folds, split.seed) == split.fold
        how += f": test fold {split.fold} of 0 to {split.folds - 1}"
    elif split.hold_out:
        is_test = _held_out_groups(split, values)
        how += f": test {_listed(split.hold_out)}"
    else:
        is_test = hold_out(units, everything, split.test, "test", split.seed)
        how += f": test {_percent(split.test)}"
    share = split.val if split.sets_test else split.val / (1 - split.test)
    is_val = hold_out(units, ~is_test, share, "val", split.seed)
    sides = np.select([is_test, is_val], [_TEST, _VAL], 0)
    if split.by == "group":
        for name, chosen in (("test", is_test), ("val", is_val)):
            groups = sorted(set(np.array(values, np.str_)[chosen].tolist()))
            if groups:
                notes.append(f"{name}: {split.column} {_listed(groups)}")
    of_the_rest = " of the rest" if split.sets_test else ""
    return sides, f"{how}, val {_percent(split.val)}{of_the_rest}, seed {split.seed}"


def _held_out_groups(split: Partition, values: Sequence[str]) -> NDArray[np.bool_]:
    there = sorted(set(values) - {""})
    for name in split.hold_out:
        if name not in there:
            raise ValueError(
                f"split.hold_out ({name}): column {split.column} has no such group; it has: "
                f"{_listed(there)}"
            )
    return np.isin(np.array(values, np.str_), split.hold_out)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(name or "(empty)" for name in names[:_SHOWN]) + more


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
