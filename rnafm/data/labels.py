"""Labels of sequences and of nucleotides: cells of a table as arrays, all of them checked."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rnafm.data.label_cells import NO_CLASS, CellError, UnknownClassError, show
from rnafm.data.label_reader import LabelReader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

Kind = Literal["value", "class", "flag", "pairs"]
Level = Literal["sequence", "token", "pairs"]

_SHOWN = 20  # classes in a log or among those known
_PASTED = 200  # more than that are no classes,
_LONG = 60  # and no name has more letters


@dataclass(frozen=True)
class LabelSpec:
    """What an objective asks of the data.

    Args:
        kind: ``value``: numbers; ``class``: one of several; ``flag``: 0 or 1 for each output;
            ``pairs``: base pairs.
        level: What has a label: a sequence, each token of it, or pairs of tokens.
        num_outputs: Numbers, flags or classes.
        names: Of the classes, or of the outputs; of a single flag also the two words for 0 and 1.
            Without names, classes are numbers from 0.

    Raises:
        ValueError: If there is another number of names, or one appears twice.
    """

    kind: Kind
    level: Level
    num_outputs: int
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse names that do not fit."""
        object.__setattr__(self, "names", tuple(self.names))
        if len(self.names) not in (0, self.num_outputs) and not self.is_binary:
            raise ValueError(
                f"names ({', '.join(self.names)}): are {len(self.names)} for {self.num_outputs} "
                "outputs; name each, or none"
            )
        if twice := [name for name, count in Counter(self.names).items() if count > 1]:
            raise ValueError(f"names ({', '.join(twice)}): appear twice; rename one")

    @property
    def is_binary(self) -> bool:
        """Whether the names are the words for 0 and 1 of a single flag."""
        return self.kind == "flag" and self.num_outputs == 1 and len(self.names) == 2  # noqa: PLR2004

    @property
    def output_names(self) -> tuple[str, ...]:
        """A name for each output or class: its number where it has none."""
        if self.is_binary:
            return self.names[1:]
        return self.names or tuple(map(str, range(self.num_outputs)))


def encode_labels(
    cells: Sequence[Sequence[Any]],
    spec: LabelSpec,
    lengths: Sequence[int],
    places: Sequence[str],
    *,
    prefix: bool = False,
    letters_per_token: int = 1,
    outputs: Sequence[int] | None = None,
    columns: Sequence[str] = (),
) -> list[NDArray[Any]]:
    """Labels of all rows as arrays.

    Several outputs stand in several columns, or as lists in a single one. Several flags may also
    be the names that apply, ``a;b`` or a list: an empty list means none of them, an empty cell that
    nothing is known. Labels of tokens are lists, in JSON or separated by blanks, commas or
    semicolons; classes and flags also text with a letter for each token.

    Args:
        cells: For each row the cells of its label columns.
        spec: What they have to be.
        lengths: Tokens of each sequence without special ones: nucleotides, or codons.
        places: File and line of each row, for messages.
        prefix: Whether lists may be shorter than the sequence: the rest is missing.
        letters_per_token: 3 if tokens are codons, for messages.
        outputs: Which numbers of each list are used, counted from 0; all if None.
        columns: Names of the label columns, for messages.

    Returns:
        For each row: of a sequence float32 (C,) or, for classes, int64 (); of tokens float32 (L, C)
        or int64 (L,). Missing are NaN and -100.

    Raises:
        ValueError: If a label is not what ``spec`` asks for; names row, column and value.
    """
    if not cells:
        return []
    columns = columns or [f"label {i}" for i in range(1, len(cells[0]) + 1)]
    _check_columns(spec, columns, outputs)
    reader = LabelReader(
        spec, len(columns), prefix=prefix, letters_per_token=letters_per_token, outputs=outputs
    )
    result = []
    for row, length, place in zip(cells, lengths, places, strict=True):
        parts = []
        for column, cell in zip(columns, row, strict=True):
            try:
                parts.append(reader.read(cell, length))
            except UnknownClassError as error:
                found = {text for row in cells for text in reader.found(row)}
                message = _unknown(str(error), spec, found)
                raise ValueError(f"{place}: column {column!r}: {message}") from None
            except CellError as error:
                raise ValueError(f"{place}: column {column!r}: {error}") from None
        result.append(np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0])
    return result


def describe_labels(labels: Sequence[NDArray[Any]], spec: LabelSpec) -> list[str]:
    """Lines about labels for the log: counts of classes, or mean, spread and range of numbers.

    Args:
        labels: Of :func:`encode_labels`, or the base pairs (P, 2) of each sequence.
        spec: What they are.
    """
    if not labels:
        return ["no labels"]
    if spec.kind == "pairs":
        counts = np.array([len(pairs) for pairs in labels])
        without = np.count_nonzero(counts == 0)
        return [f"{counts.sum():,} base pairs, {without:,} of {len(labels):,} sequences have none"]
    if spec.kind == "class":
        return _describe_classes(np.concatenate([label.reshape(-1) for label in labels]), spec)
    values = np.concatenate([label.reshape(-1, spec.num_outputs) for label in labels])
    return [
        f"{name}: {_describe_output(column.astype(np.float64), spec.kind)}"
        for name, column in zip(spec.output_names, values.T, strict=True)
    ]


def _describe_classes(labels: NDArray[np.int64], spec: LabelSpec) -> list[str]:
    known = labels[labels != NO_CLASS]
    counts = np.bincount(known, minlength=spec.num_outputs)
    shown = np.sort(np.argsort(-counts, kind="stable")[:_SHOWN])
    lines = [
        f"{spec.output_names[i]}: {counts[i]:,} ({counts[i] / max(len(known), 1):.1%})"
        for i in shown
    ]
    if len(counts) > len(shown):
        others = counts.sum() - counts[shown].sum()
        lines.append(f"{len(counts) - len(shown):,} rarer classes: {others:,}")
    if absent := np.flatnonzero(counts == 0).tolist():
        names = ", ".join(spec.output_names[i] for i in absent[:_SHOWN])
        lines.append(f"{len(absent):,} classes without a label: {names}")
    return [*lines, f"missing: {len(labels) - len(known):,}"]


def _describe_output(column: NDArray[np.float64], kind: Kind) -> str:
    known = column[~np.isnan(column)]
    missing = f"{len(column) - len(known):,} missing"
    if not len(known):
        return missing
    if kind == "flag":
        ones = int(known.sum())
        return f"{ones:,} of {len(known):,} are 1 ({ones / len(known):.1%}), {missing}"
    return (
        f"{len(known):,} values, mean {known.mean():.4g}, sd {known.std():.4g}, "
        f"from {known.min():.4g} to {known.max():.4g}, {missing}"
    )


def _check_columns(spec: LabelSpec, columns: Sequence[str], outputs: Sequence[int] | None) -> None:
    named = ", ".join(columns)
    if spec.kind == "pairs":
        raise ValueError(
            f"columns ({named}): base pairs are not read from columns of labels; use "
            "StructureDataModule, or another task"
        )
    if spec.kind == "class" and len(columns) > 1:
        raise ValueError(
            f"columns ({named}): classes are in a single column; name one, or use Multilabel for "
            "several labels that are 0 or 1"
        )
    if outputs is not None and (spec.kind == "class" or len(columns) > 1):
        raise ValueError(
            f"outputs ({list(outputs)}): choose among the numbers of lists in a single column; "
            "leave outputs out, and name the columns to use"
        )
    if outputs is not None and len(outputs) != spec.num_outputs:
        raise ValueError(
            f"outputs ({list(outputs)}): are {len(outputs)} for a task of {spec.num_outputs}; set "
            f"num_outputs to {len(outputs)}"
        )
    if len(columns) > 1 and len(columns) != spec.num_outputs:
        raise ValueError(
            f"columns ({named}): are {len(columns)} for a task of {spec.num_outputs} outputs; set "
            f"num_outputs to {len(columns)}, or name other columns"
        )


def _unknown(text: str, spec: LabelSpec, found: set[str]) -> str:
    """What is wrong with a class, and the classes there are, to be pasted into a recipe."""
    if spec.names:
        more = ", ..." if len(spec.names) > _SHOWN else ""
        what = f"{show(text)} is not among the classes {', '.join(spec.names[:_SHOWN])}{more}"
    else:
        what = (
            f"{show(text)} is no class from 0 to {spec.num_outputs - 1}, and classes have no names"
        )
    if len(found) > _PASTED or any(len(name) > _LONG for name in found):
        return (
            f"{what}; the column has {len(found):,} different values, is it the right one? Numbers "
            "need Regression, labels of nucleotides TokenPrediction"
        )
    try:
        classes = sorted(found, key=int)
    except ValueError:
        classes = sorted(found)
    return (
        f"{what}; correct it, or name all classes that the column has, names: "
        f"{json.dumps(classes, ensure_ascii=False)}"
    )
