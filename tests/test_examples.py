"""The shipped samples are what examples/README.md says."""

import gzip
import re
from collections import defaultdict
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
README = (EXAMPLES / "README.md").read_text()
NCRNA, CDS = "ncrna_sample.fa.gz", "cds_sample.fa.gz"
LIMITS = {NCRNA: 900_000, CDS: 200_000}
STOPS = {"UAA", "UAG", "UGA"}


def read(file):
    """(name, words, sequence) of each record."""
    lines = gzip.decompress((EXAMPLES / file).read_bytes()).decode().splitlines()
    for header, sequence in zip(lines[::2], lines[1::2], strict=True):
        name, *words = header.removeprefix(">").split(" ")
        assert header.startswith(">")
        yield name, dict(word.split("=") for word in words), sequence


@pytest.fixture(scope="module")
def records():
    return {file: list(read(file)) for file in LIMITS}


def row(label, lengths):
    """A row of the tables in README.md."""
    cells = (len(lengths), sum(lengths), min(lengths), max(lengths))
    return f"| {label} | {' | '.join(f'{cell:,}' for cell in cells)} |"


def readme_rows(word):
    table = README.split(f"\n| {word} | records | nt |")[1:]
    return [line for part in table for line in part.split("\n\n")[0].splitlines()[2:]]


@pytest.mark.parametrize("file", LIMITS)
def test_file(records, file):
    names, _, sequences = zip(*records[file], strict=True)
    assert (EXAMPLES / file).stat().st_size < LIMITS[file]
    assert len(set(names)) == len(names)
    assert len(set(sequences)) == len(sequences)
    entry = next(line for line in README.splitlines() if line.startswith(f"| `{file}`"))
    expected = row("", [len(sequence) for sequence in sequences]).removeprefix("|  ")
    assert expected.rstrip("|") in entry


@pytest.mark.parametrize(
    ("file", "word"),
    [(NCRNA, "type"), (NCRNA, "family"), (CDS, "organism")],
)
def test_readme_counts(records, file, word):
    groups = defaultdict(list)
    for _, words, sequence in records[file]:
        label = re.sub(r"^(mir-\d+|let-7)$", "mir-*, let-7", words[word])
        groups[label].append(len(sequence))
    assert sorted(readme_rows(word)) == sorted(row(*group) for group in groups.items())


def test_readme_sources(records):
    groups = defaultdict(list)
    for file in LIMITS:
        for _, words, sequence in records[file]:
            groups[file, words["source"]].append(len(sequence))
    expected = [row(source, lengths) for (_, source), lengths in groups.items()]
    assert sorted(readme_rows("source")) == sorted(expected)


def test_ncrna(records):
    _, words, sequences = zip(*records[NCRNA], strict=True)
    lengths = [len(sequence) for sequence in sequences]
    assert set("".join(sequences)) <= set("ACGURYSWKMBDHVN")
    assert 16 <= min(lengths) <= 25
    assert sum(length > 1022 for length in lengths) >= 500  # longer than the published models take
    families = {word["family"] for word in words}
    assert f"of {len(families)} families" in README
    mirnas = sum(family.startswith(("mir-", "let-")) for family in families)
    assert f"The {mirnas} miRNA families" in README


def test_cds_are_whole_open_reading_frames(records):
    for name, _, sequence in records[CDS]:
        codons = [sequence[start : start + 3] for start in range(0, len(sequence), 3)]
        assert len(sequence) % 3 == 0, name
        assert set(sequence) <= set("ACGU"), name
        assert codons[0] == "AUG", name
        assert codons[-1] in STOPS, name
        assert STOPS.isdisjoint(codons[:-1]), name
