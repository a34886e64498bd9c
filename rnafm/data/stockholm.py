"""Stockholm alignments with a consensus structure, as Rfam publishes them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.structure import StructureError, pairs_from_wuss
from rnafm.data.structure_formats import StructureRecord, clean_sequence, lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_GAPS = np.frombuffer(b"-._~", np.uint8)


@dataclass
class _Alignment:
    """What one alignment says, its blocks joined."""

    path: Path
    features: dict[str, str] = field(default_factory=dict)  # of #=GF, the first of each
    consensus: str = ""
    consensus_line: int = 0
    rows: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    places: dict[str, str] = field(default_factory=dict)

    @cached_property
    def pairs(self) -> NDArray[np.int64]:
        """Pairs of columns."""
        return pairs_from_wuss(self.consensus, f"{self.path}:{self.consensus_line}")

    @cached_property
    def columns(self) -> dict[str, str]:
        """Family and its name."""
        accession, name = self.features.get("AC", ""), self.features.get("ID", "")
        columns = {"family": accession or name, "family_name": name}
        return {key: value for key, value in columns.items() if value}

    def add(self, number: int, text: str) -> None:
        """Take one line."""
        words = text.split(maxsplit=2)
        if text.startswith("#=GF"):
            if len(words) > 2:  # noqa: PLR2004 - mark, feature, text
                self.features.setdefault(words[1], words[2])
        elif text.startswith("#=GC"):
            if words[1:2] == ["SS_cons"]:
                self.consensus += "".join(words[2:])
                self.consensus_line = self.consensus_line or number
        elif not text.startswith("#"):
            if len(words) != 2:  # noqa: PLR2004 - name, row
                raise StructureError(
                    f"{self.path}:{number}: line ({text[:40]!r}): is no name and one row of an "
                    "alignment; correct it",
                    "bad line",
                )
            self.rows[words[0]].append(words[1])
            self.places.setdefault(words[0], f"{self.path}:{number}")

    def tasks(self) -> Iterator[Callable[[], StructureRecord]]:
        """One task for each sequence."""
        for name in self.rows:
            yield partial(self.record, name)

    def record(self, name: str) -> StructureRecord:
        """A sequence with the pairs of the consensus of which it has both nucleotides."""
        place, row = self.places[name], "".join(self.rows[name])
        if not self.consensus:
            raise StructureError(
                f"{place}: the alignment of {name!r} has no line #=GC SS_cons; add it, or leave "
                "the alignment out",
                "no structure",
            )
        if len(row) != len(self.consensus):
            raise StructureError(
                f"{place}: {name!r} has {len(row):,} columns, but #=GC SS_cons "
                f"{len(self.consensus):,}; is a block missing, or a name there twice?",
                "length",
            )
        kept = ~np.isin(np.frombuffer(row.encode("latin-1"), np.uint8), _GAPS)
        letters = "".join(sign for sign, keep in zip(row, kept.tolist(), strict=True) if keep)
        position = np.cumsum(kept) - 1
        pairs = position[self.pairs[kept[self.pairs].all(1)]].astype(np.int64)
        return StructureRecord(name, clean_sequence(letters, place), pairs, place, self.columns)


def read_stockholm(path: Path) -> Iterator[Callable[[], StructureRecord]]:
    """The sequences of all alignments of a file, each with the consensus mapped onto it.

    Columns in which a sequence has a gap are left out, and with them the pairs of which it lacks
    an end. ``#=GF AC`` (or else ``ID``) is the column ``family``, ``ID`` is ``family_name``.
    Structures of single sequences (``#=GR``) and further lines such as ``SS_cons_2`` are not read.
    """
    alignment = _Alignment(path)
    started = False
    for number, text in lines(path, "latin-1"):  # names of authors in Rfam
        if not started and not text.startswith("# STOCKHOLM"):
            raise StructureError(
                f"{path}:{number}: line ({text[:40]!r}): a Stockholm file starts with "
                "`# STOCKHOLM 1.0`; is this one?",
                "bad header",
            )
        started = True
        if text == "//":
            yield from alignment.tasks()
            alignment = _Alignment(path)
        else:
            alignment.add(number, text)
    if alignment.rows:
        raise StructureError(
            f"{path}: the last alignment does not end with //; the file seems cut: fetch it again, "
            "or add the line",
            "cut",
        )
