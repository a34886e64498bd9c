"""CT and BPSEQ: files that give the partner of every nucleotide."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.structure import StructureError
from rnafm.data.structure_formats import (
    NAME_LINE,
    Lines,
    StructureRecord,
    clean_sequence,
    header_words,
    lines,
    numbered_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_ENERGY = re.compile(r"\b(?:energy|dg)\s*=\s*([-+]?[\d.]+)(?:\s*kcal/mol)?", re.IGNORECASE)
_FIRST_CT_ROW = re.compile(r"1\s+\S+\s+\d+\s+\d+\s+\d+(\s|$)")


def read_ct(path: Path) -> Iterator[Callable[[], StructureRecord]]:
    """Connectivity tables: a header that starts with the length, then one line per nucleotide."""
    chunk: Lines = []
    count = 1
    for number, text in lines(path):
        if text.startswith("#"):
            continue
        if len(chunk) > 1 and _FIRST_CT_ROW.match(text):
            header = chunk.pop()
            yield partial(_ct_record, path, chunk, count)
            chunk, count = [header], count + 1
        chunk.append((number, text))
    if chunk:
        yield partial(_ct_record, path, chunk, count)


def _ct_record(path: Path, chunk: Lines, count: int) -> StructureRecord:
    (number, header), *rows = chunk
    place = f"{path}:{number}"
    length, _, title = header.replace("\t", " ").partition(" ")
    if not length.isdecimal():
        raise StructureError(
            f"{place}: header ({header[:40]!r}): starts with no length; correct it, and remove "
            "what stands above the first structure",
            "bad header",
        )
    if len(rows) != int(length):
        raise StructureError(
            f"{place}: the header says {int(length):,} nucleotides, but {len(rows):,} lines "
            "follow; correct the header, or add what is missing",
            "length",
        )
    energy = _ENERGY.search(title)
    name, columns = header_words(_ENERGY.sub(" ", title))
    if energy:
        columns["energy"] = energy[1]
    sequence, pairs = _read_partners(path, rows, 4, "i base i-1 i+1 partner")
    sequence = clean_sequence(sequence, place)
    return StructureRecord(name or numbered_name(path, count), sequence, pairs, place, columns)


def read_bpseq(path: Path) -> Iterator[Callable[[], StructureRecord]]:
    """BPSEQ: lines of ``index base partner``; others, with or without ``#``, are its header."""
    header: Lines = []
    rows: Lines = []
    between: Lines = []  # the header of the next structure, if one follows
    count = 1
    for number, text in lines(path):
        index = text.split(maxsplit=1)[0]
        if not index.isdecimal():
            between.append((number, text))
            continue
        if rows and index == "1":
            yield partial(_bpseq_record, path, header, rows, count)
            header, rows, count = between, [], count + 1
        elif rows:
            rows += _without_comments(between)
        else:
            header = between
        rows.append((number, text))
        between = []
    if rows:
        rows += _without_comments(between)
        yield partial(_bpseq_record, path, header, rows, count)


def _without_comments(numbered: Lines) -> Lines:
    return [line for line in numbered if not line[1].startswith("#")]


def _bpseq_record(path: Path, header: Lines, rows: Lines, count: int) -> StructureRecord:
    place = f"{path}:{(header + rows)[0][0]}"
    names = [named[1] for _, text in header if (named := NAME_LINE.match(text))]
    name, columns = header_words(names[0] if names else "")
    sequence, pairs = _read_partners(path, rows, 2, "index base partner")
    sequence = clean_sequence(sequence, place)
    return StructureRecord(name or numbered_name(path, count), sequence, pairs, place, columns)


def _read_partners(
    path: Path, rows: Lines, column: int, form: str
) -> tuple[str, NDArray[np.int64]]:
    """Letters and pairs of a table with the partner of every nucleotide in a column."""
    letters, partners = [], []
    for expected, (number, text) in enumerate(rows, 1):
        fields = text.split()
        if len(fields) <= column or not (fields[0].isdecimal() and fields[column].isdecimal()):
            raise StructureError(
                f"{path}:{number}: line ({text[:40]!r}): is not of the form `{form}` with numbers "
                "from 0; correct it",
                "bad line",
            )
        index, partner = int(fields[0]), int(fields[column])
        if index != expected:
            raise StructureError(
                f"{path}:{number}: index ({index}): {expected} is expected; number the nucleotides "
                "1, 2, 3 and so on without a gap",
                "index",
            )
        if partner > len(rows):
            raise StructureError(
                f"{path}:{number}: partner ({partner}): lies outside of 1 to {len(rows)}; correct "
                "it, or write 0 if the nucleotide is unpaired",
                "out of range",
            )
        if partner == index:
            raise StructureError(
                f"{path}:{number}: base {index}: pairs with itself; write 0 if it is unpaired",
                "self pair",
            )
        letters.append(fields[1])
        partners.append(partner)
    _refuse_conflicts(path, rows, partners)
    pairs = [(i, j - 1) for i, j in enumerate(partners) if i < j - 1]
    return "".join(letters), np.array(pairs, np.int64).reshape(-1, 2)


def _refuse_conflicts(path: Path, rows: Lines, partners: list[int]) -> None:
    for index, ((number, _), partner) in enumerate(zip(rows, partners, strict=True), 1):
        if partner and (back := partners[partner - 1]) != index:
            other = f"with {back}" if back else "with none"
            raise StructureError(
                f"{path}:{number}: base {index} pairs with {partner}, but base {partner} {other}; "
                "correct one of the two lines",
                "conflicting pairs",
            )
