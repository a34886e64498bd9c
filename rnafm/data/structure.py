"""Base pairs as text: dot-bracket and WUSS to pairs and back, CT and BPSEQ.

Pairs are int64 (P, 2), ``i < j``, sorted, nucleotides counted from 0. Messages count from 1, as the
files do. Nothing here opens a file: for that see ``structure_files``. What is known about pairs
without their text, in ``pairs`` and ``crossing``, can be had from here as well.
"""

from __future__ import annotations

from collections import defaultdict
from string import ascii_uppercase
from typing import TYPE_CHECKING, cast

import numpy as np

from rnafm.data.crossing import crossing, is_nested, largest_nested, loop_types
from rnafm.data.pairs import (
    StructureError,
    contact_map,
    multiplets,
    pairs_from_contact_map,
    valid_pairs,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

__all__ = [
    "BRACKETS",
    "StructureError",
    "contact_map",
    "crossing",
    "dot_bracket",
    "format_bpseq",
    "format_ct",
    "format_dbn",
    "is_nested",
    "largest_nested",
    "loop_types",
    "multiplets",
    "pairs_from_contact_map",
    "pairs_from_dot_bracket",
    "pairs_from_wuss",
    "valid_pairs",
]

BRACKETS = ("()", "[]", "{}", "<>", *(f"{letter}{letter.lower()}" for letter in ascii_uppercase))
"""Kinds of brackets in the order in which :func:`dot_bracket` takes them."""

_PARTS = {sign: (kind, sign == kind[0]) for kind in BRACKETS for sign in kind}


def pairs_from_dot_bracket(text: str, place: str = "") -> NDArray[np.int64]:
    """Read dot-bracket text with ``()``, ``[]``, ``{}``, ``<>`` and letters, of which ``A`` opens.

    Each kind of bracket is nested in itself and may cross the others; which kind a pair is written
    in says nothing. ``.``, ``:``, ``-`` and ``_`` are unpaired.

    Args:
        text: One sign for each nucleotide.
        place: What a message starts with, such as ``file:line``.

    Returns:
        The pairs, int64 (P, 2).

    Raises:
        StructureError: If a bracket has no partner or a sign has no meaning.
    """
    return _match(text, ".:-_", place)


def pairs_from_wuss(text: str, place: str = "") -> NDArray[np.int64]:
    """Read WUSS, the notation of Stockholm alignments (``#=GC SS_cons`` of Rfam).

    ``<>``, ``()``, ``[]`` and ``{}`` say in which kind of loop a stem lies, letters are
    pseudoknots, and ``_``, ``-``, ``,``, ``:``, ``.`` and ``~`` are unpaired.

    Args:
        text: One sign for each column.
        place: What a message starts with.

    Returns:
        Pairs of columns, int64 (P, 2).

    Raises:
        StructureError: If a bracket has no partner or a sign has no meaning.
    """
    return _match(text, "._-,:~", place)


def dot_bracket(pairs: NDArray[np.integer], length: int) -> str:
    """Write pairs as dot-bracket text.

    ``()`` gets the largest set of pairs that do not cross, ``[]`` the largest set of those that are
    left, and so on through :data:`BRACKETS`.

    Args:
        pairs: The pairs, (P, 2).
        length: Number of nucleotides.

    Returns:
        Text of that length.

    Raises:
        StructureError: If a nucleotide has several partners or does not exist, or if the pairs
            cross so often that 30 kinds of brackets do not suffice.
    """
    rest = valid_pairs(pairs, length)
    signs = ["."] * length
    for kind in BRACKETS:
        if not len(rest):
            break
        page = largest_nested(rest)
        for i, j in rest[page].tolist():
            signs[i], signs[j] = kind[0], kind[1]
        rest = rest[~page]
    if len(rest):
        raise StructureError(
            f"structure ({len(pairs):,} pairs): crosses so often that {len(BRACKETS)} kinds of "
            "brackets do not suffice; write CT or BPSEQ",
            "too many pages",
        )
    return "".join(signs)


def format_ct(name: str, sequence: str, pairs: NDArray[np.integer]) -> str:
    """One structure as a connectivity table (CT), with the line end of its last line."""
    length = len(sequence)
    rows = [f"{length} {name}"]
    for number, (base, partner) in enumerate(_partners(sequence, pairs), 1):
        rows.append(
            f"{number} {base} {number - 1} {(number + 1) % (length + 1)} {partner} {number}"
        )
    return "\n".join(rows) + "\n"


def format_bpseq(name: str, sequence: str, pairs: NDArray[np.integer]) -> str:
    """One structure as BPSEQ, with the line end of its last line."""
    rows = [f"#Name: {name}"]
    for number, (base, partner) in enumerate(_partners(sequence, pairs), 1):
        rows.append(f"{number} {base} {partner}")
    return "\n".join(rows) + "\n"


def format_dbn(name: str, sequence: str, pairs: NDArray[np.integer]) -> str:
    """One structure as FASTA with dot-bracket, with the line end of its last line."""
    return f">{name}\n{sequence}\n{dot_bracket(pairs, len(sequence))}\n"


def _partners(sequence: str, pairs: NDArray[np.integer]) -> list[tuple[str, int]]:
    """Each letter with the number of its partner, counted from 1; 0 = unpaired."""
    numbers = [0] * len(sequence)
    for i, j in valid_pairs(pairs, len(sequence)).tolist():
        numbers[i], numbers[j] = j + 1, i + 1
    return list(zip(sequence, numbers, strict=True))


def _match(text: str, unpaired: Collection[str], place: str) -> NDArray[np.int64]:
    """Match brackets with one stack for each kind."""
    stacks: defaultdict[str, list[int]] = defaultdict(list)
    pairs: list[tuple[int, int]] = []
    at = f"{place}: " if place else ""
    for position, sign in enumerate(text):
        if sign in unpaired:
            continue
        if sign not in _PARTS:
            raise StructureError(
                f"{at}structure sign ({sign!r} at position {position + 1}): has no meaning here; "
                f"use brackets, letters and {' '.join(unpaired)} for unpaired",
                "unknown sign",
            )
        kind, opens = _PARTS[sign]
        if opens:
            stacks[kind].append(position)
        elif stacks[kind]:
            pairs.append((stacks[kind].pop(), position))
        else:
            raise StructureError(
                f"{at}structure sign ({sign!r} at position {position + 1}): closes nothing; give "
                f"it a {kind[0]!r} before it, or remove it",
                "unmatched bracket",
            )
    left = [(stack[-1], kind) for kind, stack in stacks.items() if stack]
    if left:
        position, kind = min(left)
        raise StructureError(
            f"{at}structure sign ({kind[0]!r} at position {position + 1}): is never closed; give "
            f"it a {kind[1]!r} after it, or remove it",
            "unmatched bracket",
        )
    return cast("NDArray[np.int64]", np.array(sorted(pairs), np.int64).reshape(-1, 2))
