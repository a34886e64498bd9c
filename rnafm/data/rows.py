"""Labelled RNAs as they were read, and which of them are for training, validation and test."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from rnafm.data.partition import SIDES, Partition, PartitionResult, partition

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from rnafm.data.vocabulary import Vocabulary

TooLong = Literal["window", "error", "drop"]


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


def note_unknown(
    tokens: Sequence[NDArray[np.uint8]], vocabulary: Vocabulary, notes: list[str]
) -> None:
    """Say how many tokens are read as ``<unk>``, if there are any."""
    counts = [int(np.count_nonzero(ids == vocabulary.unk_id)) for ids in tokens]
    if any(counts):
        unit = "nucleotides" if vocabulary.letters_per_token == 1 else "codons"
        notes.append(
            f"{sum(counts):,} {unit} in {np.count_nonzero(counts):,} sequences are not in the "
            f"vocabulary and are read as {vocabulary.unk}"
        )


def fitting(
    sides: Mapping[str, NDArray[np.int64]],
    lengths: NDArray[np.int64],
    max_length: int,
    *,
    too_long: TooLong,
    unit: str,
    places: Sequence[str],
) -> tuple[dict[str, NDArray[np.int64]], str]:
    """The rows of each side that can be read, and a sentence about long sequences, if any.

    Args:
        sides: Row numbers of each side.
        lengths: Tokens of each row, without special ones.
        max_length: Tokens that the encoder takes at once.
        too_long: What to do about longer ones.
        unit: What a token stands for.
        places: File and line of each row.

    Raises:
        ValueError: If there are longer ones and that is an error, or a side would lose all rows.
    """
    rows = dict(sides)
    is_longer = lengths > max_length
    counts = {name: int(np.count_nonzero(is_longer[part])) for name, part in rows.items()}
    if not any(counts.values()):
        return rows, ""
    found = (
        f"{sum(counts.values()):,} sequences are longer than the {max_length:,} {unit} that the "
        "encoder takes at once"
    )
    if too_long == "window":
        return rows, f"{found}: they are read in overlapping windows"
    if too_long == "error":
        first = min(int(row) for part in rows.values() for row in part[is_longer[part]])
        raise ValueError(
            f"{places[first]}: the sequence has {lengths[first]:,} {unit}; {found}; set "
            "data.too_long to window or drop"
        )
    shown = ", ".join(f"{count:,} of {name}" for name, count in counts.items() if count)
    note = f"{found} and are left out: {shown}"
    if empty := [name for name, part in rows.items() if counts[name] == len(part) > 0]:
        raise ValueError(
            f"too_long (drop): nothing is left of {', '.join(empty)}; {note}; set data.too_long "
            "to window"
        )
    return {name: part[~is_longer[part]] for name, part in rows.items()}, note
