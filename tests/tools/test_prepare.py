"""``rnafm prepare`` from the command line."""

import os
import sys

import pytest

from rnafm.cli import main
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
    assert "records read" in output and error == ""
    assert picture.exists()


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
    assert second.startswith("prepare x: 100%, 40 records, 8,000 nt (") and second.endswith("), 0 s left")
    assert last.startswith("prepare x: 40 records, 8,000 nt in 0.0 s (")
