"""``rnafm inspect`` from the command line, and the numbers of a report."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.cli import main
from rnafm.data.fasta import Record, write_fasta
from rnafm.data.report import DataReport, _histogram, draw_lengths, packing, report_of_fasta
from rnafm.data.sampler import PackSampler

RECORDS = [
    Record("a", "ACGU"),
    Record("b", "acgt"),
    Record("b", "GGNR-"),
    Record("c", ""),
    Record("d", ""),
    Record("e", "A" * 2000),
]


@pytest.fixture
def fasta(tmp_path):
    write_fasta(tmp_path / "x.fa.gz", RECORDS)
    return tmp_path / "x.fa.gz"


def test_json(fasta, capsys):
    main(["inspect", str(fasta), "--json", "--quiet"])
    output, error = capsys.readouterr()
    values = json.loads(output)
    assert error == ""
    letters = {"A": 2001, "G": 3, "C": 1, "U": 1, "a": 1, "c": 1, "g": 1, "t": 1, "N": 1, "R": 1}
    assert values["letters"] == {**letters, "-": 1}
    expected = {
        "title": "x.fa.gz",
        "unit": "nt",
        "sequences": 6,
        "total_length": 2013,
        "mean_length": 335.5,
        "records": 6,
        "empty_records": 2,
        "duplicate_sequences": 1,
        "repeated_names": 1,
        "letters_lower_case": 4,
        "letters_T": 1,
        "letters_U": 1,
        "letters_ambiguous": 2,
        "letters_other": 1,
        "picture": f"{fasta}.lengths.png",
    }
    assert {key: values[key] for key in expected} == expected
    assert values["share_longer_than_1022"] == pytest.approx(1 / 6)
    quantiles = values["length_quantiles"]
    assert list(quantiles) == ["min", "1%", "5%", "25%", "median", "75%", "95%", "99%", "max"]
    assert (quantiles["min"], quantiles["median"], quantiles["max"]) == (0, 4, 2000)


def test_table_and_picture(fasta, tmp_path, capsys):
    main(["inspect", str(fasta), str(fasta), "--out", str(tmp_path / "new" / "picture.png")])
    output, error = capsys.readouterr()
    for words in (
        "x.fa.gz, x.fa.gz",
        "sequences 12",
        "total length 4,026 nt",
        "letter 'A' 4,002 (99.40%)",
        "ambiguity codes 4 (0.10%)",
        "duplicate sequences 5",
        "repeated names 7",
        "empty records 4",
        "filled of batches of 2,048 tokens",
    ):
        assert words in " ".join(output.replace("│", " ").split()), words
    assert error.startswith("inspect x.fa.gz, x.fa.gz: 12 records, 4,026 nt in")
    assert (tmp_path / "new" / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_refusals(tmp_path):
    with pytest.raises(SystemExit, match=r"rnafm inspect: .*y\.fa: there is no such file; correct"):
        main(["inspect", str(tmp_path / "y.fa")])


def test_only_empty_records(tmp_path, capsys):
    write_fasta(tmp_path / "x.fa", [Record("a", "")])
    main(["inspect", str(tmp_path / "x.fa"), "--json"])
    assert json.loads(capsys.readouterr().out)["total_length"] == 0


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=200))
def test_packing_is_that_of_training(lengths):
    tokens = np.minimum(lengths, 1022) + 2
    sizes = [tokens[i:j].size for _, i, j in PackSampler(tokens, 2048)]
    assert sum(sizes) == len(lengths)
    assert packing(np.array(lengths), 2048) == pytest.approx(tokens.sum() / len(sizes) / 2048)


def test_packing_by_hand():
    assert packing(np.array([98]), 2048) == 100 / 2048
    # Two of 1,024 tokens fill a batch; a few are cut in two, for equally many in every epoch.
    assert 0.97 < packing(np.full(40_000, 9000), 2048) < 1
    assert packing(np.full(4096, 510), 65_536) == pytest.approx(32 / 33)


@given(st.binary(max_size=50))
def test_histogram(text):
    counts = _histogram(text)
    assert {i: n for i, n in enumerate(counts.tolist()) if n} == {i: text.count(i) for i in text}


def test_picture_of_one_length(tmp_path):
    draw_lengths(DataReport("x", np.full(9, 21)), tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


def test_report_of_the_sample():
    report = report_of_fasta(
        [Path(__file__).parents[2] / "examples" / "ncrna_sample.fa.gz"], progress=False
    )
    assert len(report.lengths) == 5427 and report.lengths.sum() == 1_476_211


@pytest.mark.parametrize("tool", ["prepare", "inspect"])
def test_no_torch_for_data_tools(tool, fasta):
    """Help and work without importing torch or lightning, which take seconds."""
    code = (
        "import sys; from rnafm.cli import main; main(sys.argv[1:]); "
        "assert not {'torch', 'lightning'} & set(sys.modules)"
    )
    words = [sys.executable, "-c", code, tool, str(fasta)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
