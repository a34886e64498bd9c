"""What users know about single structures: constraints, and reactivities measured by SHAPE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rnafm.tools.inputs import is_table

if TYPE_CHECKING:
    from pathlib import Path

    from rnafm.modules.constraints import Constraints

_FREE, _UNPAIRED, _BRACKETS = ".", "x", "()[]{}"


@dataclass
class Known:
    """What is known about one structure, and where it says so."""

    constraints: Constraints
    place: str
    length: int


def read_reactivities(path: Path) -> dict[str, Known]:
    """SHAPE reactivities by name, where the sequences are in a table that has them.

    Raises:
        ValueError: If a cell is no list of numbers as long as the sequence, or rows have the same
            name.
    """
    from rnafm.data.labels import LabelSpec, encode_labels
    from rnafm.data.table import read_table, require, unique_ids
    from rnafm.modules.constraints import Constraints

    if not is_table(path):
        return {}
    table = read_table(path)
    if "reactivity" not in table.columns:
        return {}
    lengths = [len(str(cell).strip()) for cell in require(table, "sequence", "sequences")]
    labels = encode_labels(
        [[cell] for cell in table.columns["reactivity"]],
        LabelSpec("value", "token", 1),
        lengths,
        table.places,
        columns=["reactivity"],
    )
    names = unique_ids(table, "id")
    rows = zip(names, labels, table.places, lengths, strict=True)
    return {
        name: Known(Constraints(reactivities=values[:, 0]), place, length)
        for name, values, place, length in rows
        if not np.isnan(values).all()
    }


def read_constraints(path: Path) -> dict[str, Known]:
    """What is known about some structures, by name of the sequence.

    Raises:
        ValueError: If a line is not made of dots, x and brackets, or not one for each name.
    """
    from rnafm.data.structure_formats import lines

    known: dict[str, Known] = {}
    name = heading = ""
    for number, line in lines(path):
        place = f"{path}:{number}"
        if line.startswith(">"):
            if name and name not in known:
                raise ValueError(f"{heading}: {name!r} has no line of constraints; add or remove")
            name, heading = (line[1:].split() or [""])[0], place
            if name in known or not name:
                what = f"{name!r} appears twice" if name else "there is no name behind '>'"
                raise ValueError(f"{place}: {what}; give each sequence one record")
        elif not name:
            raise ValueError(f"{place}: there is no '>name' line before this one; add it")
        elif not line.isalpha() or set(line) == {_UNPAIRED}:  # a sequence may stand between
            if name in known:
                raise ValueError(
                    f"{place}: is a second line of constraints on {name!r}; write one line"
                )
            known[name] = _read_line(line, place)
    if name not in known:
        raise ValueError(f"{heading or path}: {name!r} has no line of constraints; add or remove")
    return known


def _read_line(line: str, place: str) -> Known:
    from rnafm.data.structure import pairs_from_dot_bracket
    from rnafm.modules.constraints import Constraints

    if strange := sorted(set(line) - set(_FREE + _UNPAIRED + _BRACKETS)):
        raise ValueError(
            f"{place}: {' '.join(strange)} means nothing in a constraint; use . for free, x for "
            f"unpaired and the brackets {_BRACKETS} for pairs"
        )
    pairs = pairs_from_dot_bracket(line.replace(_UNPAIRED, _FREE), place).tolist()
    unpaired = [number for number, sign in enumerate(line) if sign == _UNPAIRED]
    return Known(Constraints([(i, j) for i, j in pairs], unpaired), place, len(line))
