"""Records of sequence and structure, and the reader of FASTA with dot-bracket.

A reader yields one task for each record, which parses it when it is called: so that a record that
is wrong does not end the file.
"""

from __future__ import annotations

import gzip
import re
import zlib
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rnafm.data.structure import StructureError, pairs_from_dot_bracket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray


Lines = list[tuple[int, str]]
"""Lines of a file with their numbers."""


class StructureRecord(NamedTuple):
    """A sequence and its base pairs.

    Attributes:
        name: As the file has it; without one, the name of the file, from the second record on
            with its number.
        sequence: Upper case, U for T.
        pairs: int64 (P, 2), ``i < j``, sorted, nucleotides counted from 0.
        place: Where the record starts, as ``file:line``.
        columns: What else the file says about it.
    """

    name: str
    sequence: str
    pairs: NDArray[np.int64]
    place: str
    columns: dict[str, str]


NAME_LINE = re.compile(r"#\s*name\s*:\s*(.*)", re.IGNORECASE)


def lines(path: Path, encoding: str = "utf-8-sig") -> Iterator[tuple[int, str]]:
    """The lines of a text file, plain or gzip, with their numbers; blank ones are left out."""
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rt", encoding=encoding) as file:
            for number, line in enumerate(file, 1):
                if text := line.strip():
                    yield number, text
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path}: the gzip data are damaged or end too early ({error}); fetch or compress the "
            "file again"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: is no UTF-8 text ({error}); convert it, or add .gz to its name if it is "
            "compressed"
        ) from error


def clean_sequence(text: str, place: str) -> str:
    """Upper case, U for T; refuses what is not a letter."""
    if not text:
        raise StructureError(f"{place}: the sequence is empty; remove the record", "no sequence")
    if not (text.isascii() and text.isalpha()):
        position = next(i for i, sign in enumerate(text) if not (sign.isascii() and sign.isalpha()))
        raise StructureError(
            f"{place}: sequence sign ({text[position]!r} at position {position + 1}): is no "
            "letter; take out gaps, and give each strand its own record",
            "no letter",
        )
    return text.upper().replace("T", "U")


def numbered_name(path: Path, number: int) -> str:
    """A name for a record without one."""
    stem = Path(path.name.removesuffix(".gz")).stem
    return stem if number == 1 else f"{stem}_{number}"


def dot_bracket_pairs(sequence: str, structure: str, place: str) -> NDArray[np.int64]:
    """Pairs of a structure that belongs to a sequence."""
    if len(structure) != len(sequence):
        raise StructureError(
            f"{place}: the structure has {len(structure):,} signs, the sequence {len(sequence):,} "
            "letters; write each structure on one line, as long as its sequence",
            "length",
        )
    return pairs_from_dot_bracket(structure, place)


def read_dot_bracket(path: Path) -> Iterator[Callable[[], StructureRecord]]:
    """Records of ``>name key=value``, sequence (also wrapped) and structure with or without energy.

    Names may also come from bpRNA's ``#Name:`` lines, or be absent.
    """
    chunk: Lines = []
    num_records, closed, started = 0, False, False
    for number, text in lines(path):
        names = text.startswith(">") or NAME_LINE.match(text) is not None
        if text.startswith("#") and not names:
            continue
        letters = not names and (not started or text.isalpha())
        again = names and (started or (chunk and chunk[-1][1][0] == text[0]))
        if again or (letters and closed):
            num_records += 1
            yield partial(_dot_bracket_record, path, chunk, num_records)
            chunk, closed, started = [], False, False
        chunk.append((number, text))
        started |= letters
        closed |= not (names or letters)
    if chunk:
        yield partial(_dot_bracket_record, path, chunk, num_records + 1)


def _dot_bracket_record(path: Path, chunk: Lines, count: int) -> StructureRecord:
    name, columns = numbered_name(path, count), dict[str, str]()
    place = f"{path}:{chunk[0][0]}"
    headers = list(takewhile(lambda line: line[1][0] in ">#", chunk))
    for _, header in headers:
        named = NAME_LINE.match(header)
        given, words = header_words(named[1] if named else header[1:])
        name = given or name
        columns |= words
    chunk = chunk[len(headers) :]
    at = f"{path}:{chunk[0][0]}" if chunk else place
    # The first line is the sequence whatever is in it: clean_sequence says what is wrong with it.
    num_lines = 1 + sum(1 for _ in takewhile(lambda line: line[1].isalpha(), chunk[1:]))
    sequence = clean_sequence("".join(text for _, text in chunk[:num_lines]), at)
    if len(chunk) == num_lines:
        raise StructureError(
            f"{place}: {name!r} has no structure; is this a FASTA file of sequences only?",
            "no structure",
        )
    number, text = chunk[num_lines]
    if len(chunk) > num_lines + 1:
        raise StructureError(
            f"{path}:{chunk[num_lines + 1][0]}: is a second line after the sequence of {name!r}; "
            "write each structure on one line, and keep one for each sequence",
            "several structures",
        )
    structure, *energy = text.split(maxsplit=1)
    if energy:
        columns["energy"] = energy[0].strip("()[]{} ")
    pairs = dot_bracket_pairs(sequence, structure, f"{path}:{number}")
    return StructureRecord(name, sequence, pairs, place, columns)


def header_words(text: str) -> tuple[str, dict[str, str]]:
    """Name, and ``key=value`` words; what is neither is the description."""
    name, *words = text.split() or [""]
    columns, others = {}, []
    for word in words:
        key, equals, value = word.partition("=")
        if key and equals:
            columns[key] = value
        else:
            others.append(word)
    if others:
        columns["description"] = " ".join(others)
    return name, columns
