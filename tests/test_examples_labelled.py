"""The shipped labelled sets are what examples/README.md says."""

import csv
import gzip
import io
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from rnafm.data.structure import is_nested, loop_types, pairs_from_dot_bracket, pairs_from_wuss
from rnafm.data.structure_files import read_structures
from rnafm.data.table import read_table

EXAMPLES = Path(__file__).parents[1] / "examples"
LABELLED = EXAMPLES / "labelled"
README = (EXAMPLES / "README.md").read_text().split("\n## Labelled sets\n")[1]
FILES = (
    "structures.sto.gz",
    "structures.dbn.gz",
    "pdb.dbn.gz",
    "families.csv.gz",
    "loops.csv.gz",
    "stability.csv.gz",
    "reactivity.jsonl.gz",
    "guides.csv.gz",
)
COMPUTED = {"stability.csv.gz", "reactivity.jsonl.gz"}
CANONICAL = {"AU", "UA", "CG", "GC", "GU", "UG"}


def read(file):
    """The rows of a file as dictionaries; every row has id and sequence."""
    text = gzip.decompress((LABELLED / file).read_bytes()).decode()
    if ".csv" in file:
        return list(csv.DictReader(io.StringIO(text)))
    if ".jsonl" in file:
        return [json.loads(line) for line in text.splitlines()]
    return list(read_dbn(text) if ".dbn" in file else read_alignments(text))


def read_dbn(text):
    lines = text.splitlines()
    for header, sequence, dots in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        name, *words = header.removeprefix(">").split(" ")
        words = dict(word.split("=") for word in words)
        yield {"id": name, "sequence": sequence, "structure": dots, **words}


def read_alignments(text):
    for block in text.split("//\n")[:-1]:
        about = dict(re.findall(r"^#=GF (\w\w) +(.+)$", block, re.MULTILINE))
        (consensus,) = re.findall(r"^#=GC SS_cons +(\S+)$", block, re.MULTILINE)
        rows = re.findall(r"^([^#\s]\S*) +(\S+)$", block, re.MULTILINE)
        assert block.startswith("# STOCKHOLM 1.0\n")
        assert len(rows) == int(about["SQ"])
        for name, row in rows:
            sequence = re.sub(r"[-._~]", "", row)
            yield {
                "id": name,
                "sequence": sequence,
                "family": about["AC"],
                "type": about["TP"],
                "source": about["CC"],
                "row": row,
                "consensus": consensus,
            }


@pytest.fixture(scope="module")
def files():
    return {file: read(file) for file in FILES}


def group(row):
    return row.get("gene") or row.get("family")


def test_nothing_else_lies_there():
    found = {path.name: path.stat().st_size for path in LABELLED.iterdir()}
    assert set(found) == {*FILES, "APACHE-2.0.txt"}
    assert sum(found.values()) < 400_000


@pytest.mark.parametrize("file", FILES)
def test_readme_counts(files, file):
    rows = files[file]
    lengths = [len(row["sequence"]) for row in rows]
    groups = len({group(row) for row in rows} - {None}) or "-"
    cells = (len(rows), groups, sum(lengths), min(lengths), max(lengths))
    expected = " | ".join(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells)
    size = round((LABELLED / file).stat().st_size / 1000)
    (line,) = (line for line in README.splitlines() if line.startswith(f"| `{file}`"))
    assert line.endswith(f" | {expected} | {size} kB |")


@pytest.mark.parametrize("file", FILES)
def test_rows_are_plain_and_unique(files, file):
    rows = files[file]
    for column in ("id", "sequence"):
        assert max(Counter(row[column] for row in rows).values()) == 1
    assert set("".join(row["sequence"] for row in rows)) == set("ACGU")
    assert not any(re.search(r"\s", row["id"]) for row in rows)


@pytest.mark.parametrize("file", FILES)
def test_the_package_reads_them(files, file):
    rows = files[file]
    if ".csv" in file or ".jsonl" in file:
        columns = read_table(LABELLED / file).columns
        assert columns == {name: [row[name] for row in rows] for name in rows[0]}
        return
    records, dropped = read_structures(LABELLED / file)
    assert not dropped
    found = [(record.name, record.sequence, record.columns.get("family")) for record in records]
    assert found == [(row["id"], row["sequence"], row.get("family")) for row in rows]


@pytest.mark.parametrize("file", FILES)
def test_source_and_licence_are_named(files, file):
    sources = {row["source"] for row in files[file]}
    assert all(sources)
    assert {source.startswith("computed by ViennaRNA") for source in sources} == {file in COMPUTED}
    items = (" ".join(item.split()) for item in README.split("\n- ")[1:])
    (item,) = (item for item in items if item.startswith(f"`{file}`"))
    assert re.search(r"BSD-3-Clause|Apache-2\.0|licences of the sample|computed", item)
    gzip_date = (LABELLED / file).read_bytes()[4:8]
    assert gzip_date == bytes(4)


@pytest.mark.parametrize(
    ("file", "column"),
    [
        ("structures.sto.gz", "family"),
        ("structures.dbn.gz", "family"),
        ("families.csv.gz", "type"),
        ("guides.csv.gz", "gene"),
    ],
)
def test_readme_groups(files, file, column):
    table = README.split(f"\n| {column} in `{file}` | rows |\n")[1].split("\n\n")[0]
    found = Counter(row[column] for row in files[file])
    assert table.splitlines()[1:] == [f"| {name} | {n} |" for name, n in found.most_common()]


def test_alignments_share_a_structure_per_family(files):
    rows = files["structures.sto.gz"]
    assert len({row["family"] for row in rows}) >= 8
    assert {len(row["sequence"]) for row in rows} <= set(range(30, 401))
    knotted = set()
    for row in rows:
        assert len(row["row"]) == len(row["consensus"])
        present = np.array([sign not in "-._~" for sign in row["row"]])
        pairs = pairs_from_wuss(row["consensus"])
        pairs = pairs[present[pairs].all(1)]
        canonical = [row["row"][i] + row["row"][j] in CANONICAL for i, j in pairs]
        assert np.mean(canonical) >= 0.75, row["id"]
        if not is_nested(pairs):
            knotted.add(row["id"])
    assert f"{len(knotted)} of them have pseudoknots" in README


def test_structures_are_those_of_the_alignments(files):
    aligned = {row["id"]: row for row in files["structures.sto.gz"]}
    for row in files["structures.dbn.gz"]:
        source = aligned[row["id"]]
        assert row["sequence"] == source["sequence"]
        assert (row["family"], row["type"]) == (source["family"], source["type"])
        assert len(row["sequence"]) <= 200
        number = np.cumsum([sign not in "-._~" for sign in source["row"]]) - 1
        consensus = {tuple(pair) for pair in number[pairs_from_wuss(source["consensus"])].tolist()}
        pairs = pairs_from_dot_bracket(row["structure"])
        assert len(row["structure"]) == len(row["sequence"])
        assert {tuple(pair) for pair in pairs.tolist()} <= consensus
        assert all(row["sequence"][i] + row["sequence"][j] in CANONICAL for i, j in pairs)
        assert (np.diff(pairs) > 3).all()
        assert len(pairs) >= 10


def test_known_structures_have_pseudoknots(files):
    rows = files["pdb.dbn.gz"]
    pairs = [pairs_from_dot_bracket(row["structure"]) for row in rows]
    assert all(len(row["structure"]) == len(row["sequence"]) for row in rows)
    assert all(len(found) for found in pairs)
    knotted = sum(not is_nested(found) for found in pairs)
    assert f"{knotted} with pseudoknots" in README


def test_loops_are_those_of_the_structures(files):
    structures = {row["id"]: row["structure"] for row in files["structures.dbn.gz"]}
    rows = files["loops.csv.gz"]
    assert {row["id"] for row in rows} == set(structures)
    for row in rows:
        pairs = pairs_from_dot_bracket(structures[row["id"]])
        assert row["loop_type"] == loop_types(pairs, len(row["sequence"]))
    assert set("".join(row["loop_type"] for row in rows)) == set("SHBIMXE")


def test_families_are_those_of_the_sample(files):
    text = gzip.decompress((EXAMPLES / "ncrna_sample.fa.gz").read_bytes()).decode()
    rows = files["families.csv.gz"]
    families = {}
    for row in rows:
        words = f"family={row['family']} type={row['type']} source={row['source']}"
        assert f">{row['id']} {words}\n{row['sequence']}\n" in text
        families.setdefault(row["type"], set()).add(row["family"])
    single = sorted(kind for kind, found in families.items() if len(found) == 1)
    assert f"one family each: {', '.join(single)}" in " ".join(README.split())


def test_numbers_are_in_range(files):
    families = {row["id"]: row["sequence"] for row in files["families.csv.gz"]}
    stability = files["stability.csv.gz"]
    assert {row["id"]: row["sequence"] for row in stability} == families
    energies = np.array([float(row["mfe_per_nt"]) for row in stability])
    diversities = np.array([float(row["ensemble_diversity"]) for row in stability])
    assert -1 < energies.min() < energies.max() <= 0
    assert 0 <= diversities.min() < diversities.max() < 200
    for row in files["reactivity.jsonl.gz"]:
        assert len(row["unpaired"]) == len(row["sequence"])
        assert 0 <= min(row["unpaired"]) < max(row["unpaired"]) <= 1
    for row in files["guides.csv.gz"]:
        assert len(row["sequence"]) == 20
        assert row["sequence"].replace("U", "T") == row["context"][4:24]
        assert 0 <= float(row["rank"]) <= 1
        assert -10 < float(row["activity"]) < 10


def test_unpaired_probability_agrees_with_the_structures(files):
    structures = {row["id"]: row["structure"] for row in files["structures.dbn.gz"]}
    free, paired = [], []
    for row in files["reactivity.jsonl.gz"]:
        for sign, value in zip(structures[row["id"]], row["unpaired"], strict=True):
            (free if sign == "." else paired).append(value)
    assert np.mean(free) > np.mean(paired) + 0.25
