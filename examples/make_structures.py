"""The structures of `labelled/`: rows of published alignments, and RNAs of the PDB.

`make_labelled.py` fetches what this reads and writes what this returns.
"""

import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from make_sample import SEEDS, TYPES, digest, read_stockholm, unpack_deb
from numpy.typing import NDArray

from rnafm.data.structure import pairs_from_dot_bracket, pairs_from_wuss

INFERNAL = (  # of `SEEDS`; the others repeat these, or share RNAs with them, or are too long
    "testsuite/3.4.12.rf.stk",
    "testsuite/4.sto",
    "testsuite/PK-HAV.sto",
    "testsuite/rnaseP-eubact.sto",
    "tutorial/5S_rRNA.sto",
    "tutorial/Cobalamin.sto",
)
SPAN = re.compile(  # header of SQUARNA: 1MJI [34],1.C.G.26.:1.C.C.59.
    r">(\w{4}) \[\d+\],\d+\.(\w+)\.\w+\.(\d+)\.:\d+\.\w+\.\w+\.(\d+)\."
)
CANONICAL = frozenset({"AU", "UA", "CG", "GC", "GU", "UG"})
LENGTHS = range(30, 401)
ROWS = 60  # of an alignment
IDENTITY = 0.9  # no two rows of an alignment are more alike
FITTING = 0.75  # of a row's pairs are canonical; with fewer it is misaligned
LOOP = 3  # nucleotides in a hairpin, or more


class Alignment(NamedTuple):
    """The rows of a family, with the structure that they share in WUSS."""

    family: str
    type: str
    source: str
    name: str
    rows: dict[str, str]
    consensus: str


class Structure(NamedTuple):
    """One RNA, its base pairs, and the words of its header."""

    name: str
    sequence: str
    pairs: NDArray[np.int64]
    words: dict[str, str]


def alignments(infernal: Path, biopython: Path) -> Iterator[Alignment]:
    """The alignments of two packages, each with its chosen rows."""
    with tarfile.open(infernal) as tar:
        for name in INFERNAL:
            member = tar.extractfile(f"infernal-1.1.4/{name}")
            if member is None:
                raise ValueError(f"{name}: is no file in {infernal.name}")
            yield from parse(member.read().decode(), *SEEDS[name], "infernal")
    folder = unpack_deb(biopython) / "usr/share/doc/python-biopython-doc/Tests/Stockholm"
    for file in sorted(folder.glob("rfam*.seed.txt")):
        yield from parse(file.read_text(), "", "misc_RNA", "biopython")


def parse(text: str, family: str, kind: str, source: str) -> Iterator[Alignment]:
    """The alignments of a Stockholm file that have a structure and a row that fits it."""
    for block in text.split("\n//"):
        consensus = "".join(re.findall(r"^#=GC SS_cons +(\S+)", block, re.MULTILINE))
        identifier = re.search(r"^#=GF ID +(\S+)", block, re.MULTILINE)
        accession, rows = next(read_stockholm(block))
        accession = family or accession
        if not re.search(r"[<(\[{]", consensus):
            continue
        name = identifier[1] if identifier else accession
        rows = {name: row.upper().replace("T", "U") for name, row in rows.items()}
        rows = dict(choose(rows, pairs_from_wuss(consensus)))
        if rows:
            kind = TYPES.get(accession, kind)
            yield Alignment(accession, kind, source, name, *compact(rows, consensus))


def choose(rows: dict[str, str], pairs: NDArray[np.int64]) -> Iterator[tuple[str, str]]:
    """Draw rows by hash: whole letters, a fair length, a structure that fits, no near copies."""
    kept: list[NDArray[np.uint8]] = []
    usual = np.median([len(fold(row, pairs, strict=False)) for row in rows.values()])
    for name, row in sorted(rows.items(), key=lambda item: digest(ungapped(item[1]))):
        sequence, found = ungapped(row), fold(row, pairs, strict=False)
        good = len(fold(row, pairs))
        if (
            len(kept) < ROWS
            and len(sequence) in LENGTHS
            and set(sequence) <= set("ACGU")
            and good >= FITTING * max(len(found), usual)
        ):
            columns = np.frombuffer(re.sub(r"[-._~]", "-", row).encode(), np.uint8)
            if all(identity(columns, other) <= IDENTITY for other in kept):
                kept.append(columns)
                yield name, row


def identity(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Share of the columns with a nucleotide in either row that are the same in both."""
    used = (first != ord("-")) | (second != ord("-"))
    return float((first[used] == second[used]).mean())


def ungapped(row: str) -> str:
    """The nucleotides of a row."""
    return re.sub(r"[-._~]", "", row)


def fold(row: str, pairs: NDArray[np.int64], *, strict: bool = True) -> NDArray[np.int64]:
    """The pairs of columns as pairs of a row's nucleotides, where it has both.

    Strict: those that are canonical and enclose `LOOP` nucleotides or more.
    """
    present = np.array([sign not in "-._~" for sign in row])
    number = np.cumsum(present) - 1
    pairs = pairs[present[pairs].all(1)]
    if strict:
        canonical = [row[i] + row[j] in CANONICAL for i, j in pairs]
        pairs = pairs[np.array(canonical, bool) & (np.diff(number[pairs])[:, 0] > LOOP)]
    return number[pairs]


def compact(rows: dict[str, str], consensus: str) -> tuple[dict[str, str], str]:
    """Leave out columns that no row fills; what paired with them is unpaired."""
    filled = [any(row[i] not in "-._~" for row in rows.values()) for i in range(len(consensus))]
    signs = list(consensus)
    for i, j in pairs_from_wuss(consensus):
        if not (filled[i] and filled[j]):
            signs[i] = signs[j] = "."
    keep = [column for column, full in enumerate(filled) if full]
    rows = {name: "".join(row[column] for column in keep) for name, row in rows.items()}
    return rows, "".join(signs[column] for column in keep)


def format_alignment(alignment: Alignment, credit: str) -> str:
    """One alignment in Stockholm format."""
    width = max(map(len, [*alignment.rows, "#=GC SS_cons"]))
    lines = [
        "# STOCKHOLM 1.0",
        f"#=GF AC   {alignment.family}",
        f"#=GF ID   {alignment.name}",
        f"#=GF TP   {alignment.type}",
        f"#=GF CC   {credit}",
        f"#=GF SQ   {len(alignment.rows)}",
        *(f"{name:{width}} {row}" for name, row in alignment.rows.items()),
        f"{'#=GC SS_cons':{width}} {alignment.consensus}",
        "//",
    ]
    return "\n".join(lines) + "\n"


def project(alignment: Alignment) -> Iterator[Structure]:
    """The structure of each row."""
    pairs = pairs_from_wuss(alignment.consensus)
    words = {"family": alignment.family, "type": alignment.type, "source": alignment.source}
    for name, row in alignment.rows.items():
        yield Structure(name, ungapped(row), fold(row, pairs), words)


def known_structures(wheel: Path) -> Iterator[Structure]:
    """RNAs of the PDB with the pairs seen in 3D, of both sets of SQUARNA; chains without a gap."""
    with zipfile.ZipFile(wheel) as archive:
        texts = [archive.read(f"SQUARNA/datasets/SR{part}150.fas") for part in ("train", "test")]
    lines = b"\n".join(texts).decode().split("\n")
    lines = [line for line in lines if line]
    for header, sequence, dots in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        span = SPAN.fullmatch(header)
        if span and set(sequence) <= set("ACGU") and len(sequence) in LENGTHS:
            entry, chain, first, last = span.groups()
            if int(last) - int(first) + 1 == len(sequence):
                name = f"{entry}_{chain}/{first}-{last}"
                yield Structure(name, sequence, pairs_from_dot_bracket(dots), {"source": "squarna"})


def unique(structures: Iterable[Structure]) -> list[Structure]:
    """In the order of the hashes, without sequences that were there."""
    found: dict[str, Structure] = {}
    for structure in structures:
        found.setdefault(structure.sequence, structure)
    return sorted(found.values(), key=lambda structure: digest(structure.sequence))
