"""Tables of RNAcentral and Rfam: the right row for each sequence, and no row passed over."""

import gzip
import random
import time

import numpy as np
import pytest

from rnafm.data import annotation_tables
from rnafm.data.annotation_tables import fields_of
from rnafm.data.annotations import read_annotations
from rnafm.data.fasta import Record, write_fasta
from rnafm.data.store import build_store
from rnafm.data.vocabulary import Vocabulary

A, B, C, D = (f"URS00000000{i:02X}" for i in (1, 2, 0xAB, 0xFF))
MAPPING = [
    (A, "ENA", "X1:1..9:rRNA", 9606, "rRNA", ""),
    (A, "RFAM", "RF00177", 10090, "SSU", "gene"),
    (B, "MIRBASE", "MI1", 9606, "miRNA", "let-7"),
    ("URS0000000FFF", "ENA", "X2", 1, "tRNA", ""),
    (B, "MIRBASE", "MI2", 10090, "pre_miRNA", "let-7"),
]
MATCHES = [
    (A, "RF00177", 12.5, "1e-3", 0, 9, 1, 9, "small subunit"),
    (A, "RF01959", 120.25, "1e-30", 0, 9, 1, 9, "archaeal"),
    (B, "RF00027", 60, "2e-9", 0, 9, 1, 9, "let-7"),
    (A, "RF01960", 120.25, "1e-30", 0, 9, 1, 9, "the same score"),
    (D, "RF00005", -1.5, "3", 0, 9, 1, 9, "tRNA"),
]
CLANS = [("CL00111", "RF00177"), ("CL00111", "RF01959"), ("CL00001", "RF00005")]


def table(path, rows, end="\n"):
    text = "".join("\t".join(map(str, row)) + end for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def tables(folder, ending=""):
    return [
        table(folder / f"id_mapping.tsv{ending}", MAPPING),
        table(folder / f"rfam_annotations.tsv{ending}", MATCHES),
        table(folder / f"clan_membership.txt{ending}", CLANS),
    ]


def read(names, files, **options):
    return read_annotations([names], files, **{"progress": False, **options})


def values(found, name):
    codes, categories = found.columns[name]
    assert codes.dtype == np.int32 and categories[0] == ""
    assert len({*categories}) == len(categories)
    return [categories[code] for code in codes]


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("order", [1, -1])
def test_columns(ending, order, tmp_path):
    found = read([C, B, A, D, "other"], tables(tmp_path, ending)[::order])
    assert values(found, "rna_type") == ["", "miRNA", "rRNA", "", ""]
    assert values(found, "database") == ["", "MIRBASE", "ENA", "", ""]
    assert values(found, "taxid") == ["", "9606", "9606", "", ""]
    assert values(found, "family") == ["", "RF00027", "RF01959", "RF00005", ""]
    assert values(found, "clan") == ["", "RF00027", "CL00111", "CL00001", ""]
    assert found.counts == {
        "rows": 13,
        "rows of unknown sequences": 1,
        "sequences without annotation": 2,
        "sequences of several databases": 1,
        "names that are no URS": 1,
    }


def test_the_row_of_the_species_wins(tmp_path):
    names = [f"{A}_10090", f"{A}_9606", f"{A}_7", A, f"{B}_10090", f"{C}_9606"]
    found = read(names, tables(tmp_path)[:1])
    assert values(found, "rna_type") == ["SSU", "rRNA", "rRNA", "rRNA", "pre_miRNA", ""]
    assert values(found, "database") == ["RFAM", "ENA", "ENA", "ENA", "MIRBASE", ""]
    assert values(found, "taxid") == ["10090", "9606", "9606", "9606", "10090", ""]
    assert found.counts["sequences of several databases"] == 4


def test_only_the_columns_of_the_tables_that_are_there(tmp_path):
    mapping, matches, clans = tables(tmp_path)
    assert [*read([A], [mapping]).columns] == ["rna_type", "database", "taxid"]
    assert [*read([A], [matches]).columns] == ["family"]
    assert [*read([A], [clans, matches]).columns] == ["family", "clan"]
    with pytest.raises(ValueError, match=r"clan_membership.txt: clans are of families.*name Rfam"):
        read([A], [mapping, clans])


def by_definition(names, mapping, matches):
    """Row by row, with dictionaries."""
    found = []
    for name in names:
        urs, _, taxid = name.partition("_")
        rows = [row for row in mapping if row[0] == urs]
        own = [row for row in rows if str(row[3]) == taxid] or rows
        best = max((row for row in matches if row[0] == urs), key=lambda row: row[2], default=None)
        found.append(
            (
                *((own[0][4], own[0][1], str(own[0][3])) if own else ("", "", "")),
                best[1] if best else "",
                len({row[1] for row in rows}) > 1,
            )
        )
    return found


@pytest.mark.parametrize("size", [1, 60, 1 << 20])
def test_against_dictionaries(size, tmp_path, monkeypatch):
    monkeypatch.setattr(annotation_tables, "_SIZE", size)
    monkeypatch.setattr("rnafm.data.blocks._CHUNK", max(size // 2, 7))
    rng = random.Random(size)  # noqa: S311  # no secrets
    known = [f"URS{rng.randrange(16**10):010X}" for _ in range(60)]
    names = rng.choices(known, k=80) + [
        f"{rng.choice(known)}_{rng.randrange(5)}" for _ in range(80)
    ]
    types = ["rRNA", "tRNA", "autocatalytically_spliced_intron", ""]
    mapping = [
        (rng.choice(known), rng.choice("XYZ"), "id", rng.randrange(5), rng.choice(types), "")
        for _ in range(400)
    ]
    matches = [
        (rng.choice(known), f"RF{rng.randrange(9):05d}", rng.randrange(40) / 4, 0, 0, 0, 0, 0, "")
        for _ in range(200)
    ]
    files = [
        table(tmp_path / "id_mapping.tsv.gz", mapping),
        table(tmp_path / "rfam_annotations.tsv", matches),
    ]
    found = read(names, files)
    columns = [values(found, name) for name in ("rna_type", "database", "taxid", "family")]
    expected = by_definition(names, mapping, matches)
    assert [*zip(*columns, strict=True)] == [row[:4] for row in expected]
    assert found.counts["sequences of several databases"] == sum(row[4] for row in expected)


def test_of_a_store(tmp_path):
    write_fasta(tmp_path / "x.fa", [Record(C, "ACGU"), Record(f"{A}_9606", "GGCC")])
    store = build_store(
        [tmp_path / "x.fa"], tmp_path / "store", vocabulary=Vocabulary.named("rna"), progress=False
    )
    found = read_annotations(store.names(), tables(tmp_path), progress=False)
    assert values(found, "rna_type") == ["", "rRNA"]


def test_identifiers_are_compared_to_the_last_digit():
    names = [
        "URS0000000001",
        "URSFFFFFFFFFF",
        "URS00008314b2_9606",
        "URS0000000010_0",
        "µRS0000000",
    ]
    wrong = ["", "URS", "URS000000000", "URS000000000G", "URS00000000011", "URT0000000001"]
    wrong += ["URS0000000001_", "URS0000000001_x", "URS0000000001-1", "URS0000000001_1234567890"]
    numbers, taxids = fields_of([name.encode() for name in names + wrong]).identifiers()
    assert numbers.tolist() == [1, 16**10 - 1, 0x8314B2, 16, *[-1] * (1 + len(wrong))]
    assert taxids.tolist() == [-1, -1, 9606, 0, *[-1] * (1 + len(wrong))]


def test_numbers():
    words = [b"0", b"123456789", b"", b"1234567890", b"-1", b"1.5", b"7x", b"007"]
    assert fields_of(words).numbers().tolist() == [0, 123456789, -1, -1, -1, -1, -1, 7]


def test_categories_with_the_same_hash_are_told_apart(monkeypatch):
    class Constant:
        def integers(self, *_):
            return np.ones(self.width, np.uint64)

    constant = Constant()
    constant.width = 2
    monkeypatch.setattr(np.random, "default_rng", lambda _: constant)
    categories = {"": 0}
    assert fields_of([b"ab", b"ba", b"", b"ab"]).codes(categories).tolist() == [1, 2, 0, 1]
    assert categories == {"": 0, "ab": 1, "ba": 2}


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_line_ends(ending, tmp_path):
    files = [
        table(tmp_path / "rfam_annotations.tsv", MATCHES, ending),
        table(tmp_path / "clan_membership.txt", CLANS, ending),
    ]
    files[1].write_bytes(files[1].read_bytes().rstrip(ending.encode()))
    assert values(read([D], files), "clan") == ["CL00001"]


def test_tables_are_known_by_content_or_by_name(tmp_path):
    other = table(tmp_path / "ena.tsv", MAPPING)
    assert values(read([B], [other]), "rna_type") == ["miRNA"]
    with pytest.raises(ValueError, match=r"id_mapping.tsv:1: has 2 columns, id_mapping has 6"):
        read([B], [table(tmp_path / "my_id_mapping.tsv", [("a", "b")])])
    with pytest.raises(ValueError, match=r"x.tsv: is none of RNAcentral's .*first line: 'a\\tb'"):
        read([B], [table(tmp_path / "x.tsv", [("a", "b")])])
    with pytest.raises(FileNotFoundError, match=r"none.tsv: there is no such file; correct"):
        read([B], [tmp_path / "none.tsv"])


BAD = {
    "too few columns": ("id_mapping", 2, (B, "ENA", "x", 1, "rRNA"), "has 5 columns, id_mapping"),
    "too many": ("rfam_annotations", 1, (*MATCHES[0], "x"), "has 10 columns, rfam_annotations"),
    "an empty line": ("id_mapping", 3, (), "has 1 columns"),
    "no identifier": ("id_mapping", 1, ("B", *MAPPING[0][1:]), "'B' is no identifier such as URS"),
    "no taxid": ("id_mapping", 4, (B, "ENA", "x", "human", "rRNA", ""), "'human' is no taxid"),
    "no family": ("rfam_annotations", 2, (A, "5S", *MATCHES[0][2:]), "'5S' is no accession such"),
    "no score": ("rfam_annotations", 3, (A, "RF00001", "x", *MATCHES[0][3:]), "'x' is no score"),
    "no clan": ("clan_membership", 1, ("RF00177", "CL00111"), "'RF00177' is no accession such"),
    "two clans": (
        "clan_membership",
        2,
        ("CL00002", "RF00177"),
        "is in clan CL00111 and in CL00002",
    ),
    "no name": ("id_mapping", 1, (A, "x" * 101, "", 1, "", ""), "is no name of a type or database"),
}
ROWS = {"id_mapping": MAPPING, "rfam_annotations": MATCHES, "clan_membership": CLANS}


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("case", BAD)
def test_bad_rows_are_named(case, size, tmp_path, monkeypatch):
    monkeypatch.setattr(annotation_tables, "_SIZE", size)
    monkeypatch.setattr("rnafm.data.blocks._CHUNK", 16)
    kind, place, row, message = BAD[case]
    rows = [*ROWS[kind][:place], row, *ROWS[kind][place:]]
    path = table(tmp_path / f"{kind}.tsv", rows)
    files = [path, table(tmp_path / "rfam_annotations.txt", MATCHES)]
    with pytest.raises(ValueError, match=rf"{kind}.tsv:{place + 1}: .*{message}.*fetch the table"):
        read([A, B], files)


def test_damaged_gzip(tmp_path):
    mapping = [(A, "ENA", f"x{i}", 9606, "rRNA", "") for i in range(3000)]
    path = table(tmp_path / "id_mapping.tsv.gz", mapping)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"gz: the gzip data end too early, after .* rows; fetch"):
        read([A], [path])
    path.write_bytes(whole[:-8] + bytes(8))
    with pytest.raises(ValueError, match=r"gz: the gzip data are damaged \(.*\), after"):
        read([A], [path])


def test_empty_and_endless_tables(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"id_mapping.tsv: holds no rows; is this the right file"):
        read([A], [table(tmp_path / "id_mapping.tsv", [])])
    monkeypatch.setattr(annotation_tables, "_LONGEST", 1000)
    monkeypatch.setattr("rnafm.data.blocks._CHUNK", 100)
    with pytest.raises(ValueError, match=r"id_mapping.tsv: has a line of more than 1,000 bytes"):
        read([A], [table(tmp_path / "id_mapping.tsv", [("x" * 5000,)])])


def test_no_sequences(tmp_path):
    found = read([], tables(tmp_path))
    assert found.counts["rows of unknown sequences"] == len(MAPPING) + len(MATCHES)
    assert all(len(codes) == 0 for codes, _ in found.columns.values())


def test_progress(tmp_path, capsys):
    read([A], tables(tmp_path), progress=True)
    assert "read annotations: 13 records" in capsys.readouterr().err


@pytest.mark.slow
def test_rows_are_read_in_blocks_and_fast(tmp_path):
    lines = [f"URS{i // 3:010X}\tENA\tX{i}\t{i % 7}\trRNA\t\n" for i in range(3_000_000)]
    path = tmp_path / "id_mapping.tsv"
    path.write_text("".join(lines))
    started = time.process_time()
    found = read([f"URS{i:010X}" for i in range(500_000)], [path])
    assert 3_000_000 / (time.process_time() - started) > 200_000  # rows per second
    assert found.counts["rows of unknown sequences"] == 1_500_000
