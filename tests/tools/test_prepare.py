"""``rnafm prepare`` from the command line."""

import os
import sys

import numpy as np
import pytest

from rnafm.cli import main
from rnafm.data import containment, store_clusters
from rnafm.data.building import Build
from rnafm.data.fasta import Record, write_fasta
from rnafm.data.store import SequenceStore

RECORDS = [
    Record("a", "ACGU" * 400, "type=tRNA"),
    Record("b", "acgt" * 400),
    Record("c", "GGNNNN", "type=rRNA"),
    Record("d", "GGCCAA"),
]


@pytest.fixture
def fasta(tmp_path):
    write_fasta(tmp_path / "x.fa.gz", RECORDS)
    return tmp_path / "x.fa.gz"


def test_store_report_and_picture(fasta, capsys):
    main(["prepare", str(fasta)])
    store = SequenceStore.open(fasta.with_name("x.fa.gz.rna.store"))
    assert [store.name(i) for i in range(len(store))] == ["a", "d"]
    output, error = capsys.readouterr()
    for words in (
        "dropped duplicate 1",
        "dropped ambiguous 1",
        "records read 4",
        "kept 2",
        "longer than 1,022 nt 50.00%",
        "column type: 2 values, 1 sequences without one",
    ):
        assert words in " ".join(output.replace("│", " ").split()), words
    assert error.startswith("prepare x.fa.gz.rna.store: 4 records, 3,212 nt in")
    assert (store.path / "lengths.png").read_bytes().startswith(b"\x89PNG")


def test_options(fasta, tmp_path, capsys):
    out = tmp_path / "deep" / "store"
    words = [str(fasta), str(fasta), "--out", str(out), "--vocabulary", "rna-28", "--quiet"]
    rules = ["--max-ambiguous=1", "--redundancy=none", "--min-length=6", "--max-length=100"]
    main(["prepare", *words, *rules, "--columns", r"type=(?P<kind>\w)"])
    store = SequenceStore.open(out)
    assert [store.sequence(i) for i in range(len(store))] == ["GGNNNN", "GGCCAA"] * 2
    assert store.vocabulary.name == "rna-28"
    assert store.column("kind")[1] == ["", "t", "r"]
    assert capsys.readouterr() == ("", "")


def test_a_store_that_is_there_is_reported_again(fasta, capsys):
    main(["prepare", str(fasta), "--quiet"])
    picture = fasta.with_name("x.fa.gz.rna.store") / "lengths.png"
    picture.unlink()
    main(["prepare", str(fasta)])
    output, error = capsys.readouterr()
    assert "records read" in output and "is up to date and used as it is" in error
    assert picture.exists()


class TestRedundancy:
    def rows(self, capsys):
        """The cells of the table."""
        lines = capsys.readouterr().out.split("redundancy\n")[1].splitlines()
        return [line.strip("│ ").replace("│", " ").split() for line in lines if "│" in line]

    def test_by_type(self, fasta, capsys, monkeypatch):
        def found(_, offsets, **__):
            kinds = np.arange(len(offsets) - 1, dtype=np.uint8) * 2
            return containment.Redundancy(kinds, np.zeros(len(kinds), int), 7_500_000)

        monkeypatch.setattr(containment, "find_redundant", found)
        main(["prepare", str(fasta), "--redundancy", "contained"])
        output = capsys.readouterr().out
        assert "memory of the search for contained ones: 7.5 MB" in output
        table = [" ".join(line.replace("│", " ").split()) for line in output.splitlines()]
        assert "tRNA 1 0 0 0" in table
        assert "(none said) 0 1 1 0" in table
        assert "all 1 1 1 0" in table
        assert "dropped contained 1" in table

    def test_many_types_end_in_one_row(self, tmp_path, capsys):
        records = [Record(f"r{i}", "ACGU" * (i + 1), f"type=t{i}") for i in range(30)]
        write_fasta(tmp_path / "x.fa", [*records, records[7]])
        main(["prepare", str(tmp_path / "x.fa")])
        rows = self.rows(capsys)
        assert rows[0] == ["t7", "1", "1", "0", "0"]
        assert rows[-2:] == [["10", "others", "10", "0", "0", "0"], ["all", "30", "1", "0", "0"]]

    def test_none_shows_no_table(self, fasta, capsys):
        main(["prepare", str(fasta), "--redundancy", "none"])
        assert "duplicates" not in capsys.readouterr().out


class TestAddedColumns:
    """Columns come to a finished store, and its FASTA is not read again."""

    @pytest.fixture(autouse=True)
    def _built_once(self, fasta, monkeypatch):
        main(["prepare", str(fasta), "--quiet"])
        monkeypatch.setattr(Build, "run", None)

    def test_clusters(self, fasta, monkeypatch, capsys):
        calls = []

        def found(store, identity, **_):
            calls.append(identity)
            return store_clusters.StoreClusters(np.arange(len(store)), "mmseqs 1", 0)

        monkeypatch.setattr(store_clusters, "cluster_store", found)
        for identity in ("0.8", "0.8", "0.9"):
            main(["prepare", str(fasta), "--cluster", identity])
        assert calls == [0.8, 0.9]
        assert "column cluster: 2 numbers" in capsys.readouterr().out
        store = SequenceStore.open(fasta.with_name("x.fa.gz.rna.store"))
        assert store.column("cluster")[0].tolist() == [0, 1] and store.column("cluster")[1] is None
        assert store.info["added"]["cluster"] == {"identity": 0.9, "method": "mmseqs 1"}
        store.verify()

    def test_metadata_of_other_sequences(self, fasta, tmp_path):
        table = tmp_path / "id_mapping.tsv"
        table.write_text("URS0000000001\tRFAM\tRF1\t562\trRNA\t\n")
        before = SequenceStore.open(fasta.with_name("x.fa.gz.rna.store"))
        with pytest.raises(
            SystemExit, match=r"id_mapping.tsv: no row is about a sequence of .*names have to be"
        ):
            main(["prepare", str(fasta), "--metadata", f"[{table}]"])
        assert SequenceStore.open(before.path).fingerprint == before.fingerprint

    def test_metadata(self, tmp_path, monkeypatch):
        records = [Record("URS0000000001", "ACGU" * 9), Record("URS0000000002_9606", "GGCC" * 9)]
        write_fasta(tmp_path / "y.fa", records)
        table = tmp_path / "id_mapping.tsv"
        table.write_text(
            "URS0000000001\tRFAM\tRF1\t562\trRNA\t\nURS0000000002\tGTRNADB\tG\t9606\ttRNA\t\n"
        )
        monkeypatch.undo()
        words = ["prepare", str(tmp_path / "y.fa"), "--quiet"]
        main(words)
        monkeypatch.setattr(Build, "run", None)
        main([*words, "--metadata", f"[{table}]"])
        store = SequenceStore.open(tmp_path / "y.fa.rna.store")
        codes, types = store.column("rna_type")
        assert [types[code] for code in codes] == ["rRNA", "tRNA"]
        assert set(store.columns) == {"rna_type", "database", "taxid"}
        monkeypatch.setattr("rnafm.data.annotations.read_annotations", None)
        main([*words, "--metadata", f"[{table}]"])  # the tables are the same: nothing is done
        table.write_text(table.read_text().replace("tRNA", "snRNA"))
        monkeypatch.undo()
        main([*words, "--metadata", f"[{table}]"])
        codes, types = SequenceStore.open(store.path).column("rna_type")
        assert [types[code] for code in codes] == ["rRNA", "snRNA"]


def test_headers_of_rnacentral(tmp_path, capsys):
    (tmp_path / "x.fa").write_text(
        ">URS0000000001 rRNA from 13 species\nACGU\n>URS0000000002 Homo sapiens tRNA\nGG\n"
    )
    words = ["--columns", "rnacentral", "--num-workers", "2"]
    main(["prepare", str(tmp_path / "x.fa"), *words])
    assert "column rna_type: 1 values, 1 sequences without one" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vocabulary", "dna"], "rnafm prepare: no vocabulary 'dna' (there are: rna,"),
        (["--vocabulary", "codon"], "x.fa.gz:a: 1600 letters are not a whole number of codons"),
        (["--max-ambiguous", "2"], "max_ambiguous (2.0) must lie between 0 and 1"),
        (["--min-length", "5000"], "no sequence is left (4 too short); loosen the filters"),
    ],
)
def test_refusals(fasta, words, message):
    with pytest.raises(SystemExit) as exit_:
        main(["prepare", str(fasta), *words])
    assert message in str(exit_.value)
    assert os.listdir(fasta.parent) == ["x.fa.gz"]  # noqa: PTH208


def test_a_bar_on_a_terminal(fasta, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["prepare", str(fasta)])
    error = capsys.readouterr().err
    assert "seq/s" in error and "nt/s" in error and "prepare x.fa.gz.rna.store: 4 records" in error


def test_lines_now_and_then_elsewhere(capsys):
    from rnafm.data.progress import ReadingProgress

    with ReadingProgress("prepare x", 1000, seconds=0) as progress:
        progress.update(250, 10, 2000)
        progress.update(1000, 30, 6000)
    first, second, last = capsys.readouterr().err.splitlines()
    assert first.startswith("prepare x: 25%, 10 records, 2,000 nt (") and first.endswith(" s left")
    assert second.startswith("prepare x: 100%, 40 records, 8,000 nt (") and second.endswith(
        "), 0 s left"
    )
    assert last.startswith("prepare x: 40 records, 8,000 nt in 0.0 s (")


def test_clusters_that_cannot_be_are_refused_before_anything_is_done(fasta, monkeypatch):
    main(["prepare", str(fasta), "--quiet"])
    monkeypatch.setattr(Build, "run", None)
    words = ["prepare", str(fasta), "--min-length", "3"]
    with pytest.raises(SystemExit, match=r"identity \(80.0\) must lie between 0.5 and 1"):
        main([*words, "--cluster", "80"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"there is none on the PATH; install it"):
        main([*words, "--cluster", "0.8"])


def test_an_interrupted_command_says_no_more_than_it_has_to(fasta, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Build, "run", interrupted)
    with pytest.raises(SystemExit) as stop:
        main(["prepare", str(fasta)])
    assert stop.value.code == 130
