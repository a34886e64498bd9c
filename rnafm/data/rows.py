"""Labelled RNAs as they were read, and which of them are for training, validation and test."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.partition import SIDES, Partition, PartitionResult, partition

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Rows:
    """Labelled RNAs as they were read.

    Attributes:
        names: Of each RNA.
        sequences: Upper case, U for T.
        places: File and line of each, for messages.
        columns: All other columns, as text.
        sides: ``train``, ``val`` or ``test`` of each, where the files say it; else empty.
        notes: Sentences about what was left out or changed.
    """

    names: list[str]
    sequences: list[str]
    places: list[str]
    columns: dict[str, list[str]] = field(default_factory=dict)
    sides: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def number_names(names: Sequence[str], notes: list[str]) -> list[str]:
    """The names; one that occurs again gets a number, and a note says so.

    Args:
        names: Of all rows.
        notes: To which the sentence is added.

    Examples:
        >>> number_names(["a", "b", "a"], notes := [])
        ['a', 'b', 'a#2']
        >>> notes
        ["1 name occurs in several rows, such as 'a'; the later ones are called a#2, ..."]
    """
    counts = Counter(names)
    taken, seen = set(counts), Counter[str]()
    result = []
    for name in names:
        seen[name] += 1
        own = name
        while seen[name] > 1 and own in taken:
            own = f"{name}#{seen[name]}"
            seen[name] += own in taken  # somebody called a row so
        taken.add(own)
        result.append(own)
    again = [name for name, count in counts.items() if count > 1]
    if again:
        found = "1 name occurs" if len(again) == 1 else f"{len(again):,} names occur"
        notes.append(
            f"{found} in several rows, such as {again[0]!r}; the later ones are called "
            f"{again[0]}#2, ..."
        )
    return result


def divide(rows: Rows, split: Partition) -> PartitionResult:
    """Give every row its side: that of its file where there are several, else as ``split`` says.

    Files may leave out validation: then it is taken from the training files, as ``split`` says.
    They may leave out training, for a test alone.

    Raises:
        ValueError: If files and ``split`` contradict each other, or see :func:`partition`.
    """
    if not rows.sides:
        return partition(split, rows.sequences, rows.columns)
    of_file = {side: np.flatnonzero(np.array(rows.sides) == side) for side in SIDES}
    if split.sets_test:
        what = "by column" if split.by == "column" else "folds" if split.folds else "hold_out"
        raise ValueError(
            f"split ({what}) and val_files or test_files both say which rows are for test; use one"
        )
    if len(of_file["val"]) and split.by != "hash":
        raise ValueError(
            f"split.by ({split.by}): val_files has the rows for validation; leave one of them out"
        )
    train = of_file["train"]
    if len(of_file["val"]) or not len(train) or not split.val:
        return PartitionResult(of_file, [], "by file")
    inner = partition(
        replace(split, test=0.0),
        [rows.sequences[row] for row in train],
        {name: [cells[row] for row in train] for name, cells in rows.columns.items()},
    )
    of_file |= {side: train[inner.rows[side]] for side in ("train", "val")}
    way = inner.how.partition(":")[0]
    how = f"by file; val {100 * split.val:.4g} % of the training files {way}, seed {split.seed}"
    return PartitionResult(of_file, inner.notes, how)
