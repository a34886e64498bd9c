"""The comparison with other packages: its own rows run, and what it shows follows from them."""

import importlib
import json

import pytest
import torch
from runs import ROOT

from rnafm.data.vocabulary import Vocabulary

FOLDER = ROOT / "benchmarks"
LENGTHS = [30, 10, 12, 50, 10, 41]


@pytest.fixture(scope="module")
def bench():
    """The scripts, imported as they import each other."""
    names = ("peers", "peers_batches", "peers_measure", "peers_models", "peers_plot", "peers_rows")
    return {name: importlib.import_module(name) for name in (*names, "tables")}


@pytest.fixture(scope="module")
def results(bench, tmp_path_factory):
    """The rows of rnafm, measured with a tiny model."""
    out = tmp_path_factory.mktemp("peers")
    threads = torch.get_num_threads()
    words = ["--small", "--repeat", "1", "--rows", "^rnafm", "--out", str(out), "--memory", "0"]
    bench["peers"].main([*words, "--threads", str(threads)])
    return {
        part: json.loads((out / f"peers_{part}_cpu.json").read_text())["rows"]
        for part in ("inference", "training")
    }


@pytest.mark.parametrize("part", ["inference", "training"])
def test_rows_of_rnafm_agree_and_the_first_is_measured_twice(results, part):
    first, *others, last = results[part]
    assert [row["row"] for row in results[part] if "failed" in row] == []
    assert (first["row"], first["again"]) == (last["row"], not last["again"])
    assert all(row["cpu_seconds"] > 0 and row["difference"] < 1e-4 for row in results[part])
    padded = [row for row in others if row["package"] == "rnafm's layers"]
    assert len(padded) == 1 and padded[0]["padding"] > 1


def test_a_row_without_the_mask_is_no_result(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(bench["peers_models"].OursPadded, "_mask", lambda *_: None)
    words = ["--small", "--repeat", "1", "--rows", "^rnafm", "--out", str(tmp_path)]
    threads = str(torch.get_num_threads())
    bench["peers"].main([*words, "--memory", "0", "--part", "inference", "--threads", threads])
    rows = json.loads((tmp_path / "peers_inference_cpu.json").read_text())["rows"]
    assert "hidden states differ" in rows[1]["failed"]
    assert "cpu_seconds" not in rows[1]


@pytest.mark.parametrize("name", ["in_order(4)", "bucketed(100)", "packs(60)", "singly"])
def test_batches_hold_every_sequence_once(bench, name):
    found = eval(name, vars(bench["peers_batches"]))(LENGTHS)  # noqa: S307
    assert sorted(number for batch in found for number in batch) == list(range(len(LENGTHS)))


def test_batches_fit(bench):
    batches = bench["peers_batches"]
    slots = [len(b) * max(LENGTHS[i] for i in b) for b in batches.bucketed(100)(LENGTHS)]
    assert max(slots) <= 100
    assert max(sum(LENGTHS[i] for i in b) for b in batches.packs(60)(LENGTHS)) <= 60
    assert batches.padding([10, 30], [[0, 1]]) == 1.5


def test_hidden_tokens_are_those_that_the_task_hides(bench):
    batches, models = bench["peers_batches"], bench["peers_models"]
    sample = batches.load(batches.EXAMPLE, 6, max_length=60)
    assert sample.hidden == [int((labels != -100).sum()) for labels in sample.labels]
    kept = torch.cat(sample.labels) == -100
    assert torch.equal(torch.cat(sample.clean)[kept], torch.cat(sample.masked)[kept])
    assert torch.equal(torch.cat(sample.clean)[~kept], torch.cat(sample.labels)[~kept])
    found = bench["peers_batches"].mask_tokens(sample.pack([3]), models.VOCABULARY, batches.MASKING)
    assert torch.equal(found.tokens, sample.masked[3])


def test_only_tokens_of_all_packages_are_predicted(bench, tmp_path):
    models = bench["peers_models"]
    checkpoint = models.write_weights(tmp_path, bench["peers"].TINY)
    never = checkpoint.head.bias < -50
    theirs = Vocabulary.named("official-rna").tokens
    tokens = models.VOCABULARY.tokens
    assert [t for t, no in zip(tokens, never, strict=True) if no] == [
        token for token in tokens if token not in theirs
    ]


def test_measuring_stops_at_its_share_of_time(bench):
    calls = []

    def work():
        calls.append(sum(i * i for i in range(20000)))

    found = bench["peers_measure"].measure(work, "cpu", repeats=5, cap=0.0)
    assert found["repetitions"] == len(calls) == 1
    assert bench["peers_measure"].measure(work, "cpu", repeats=3, cap=60.0)["repetitions"] == 3


def test_no_row_matches(bench):
    rows = bench["peers_rows"]
    with pytest.raises(ValueError, match=r"no row matches 'torch'; there are: rnafm: packs"):
        rows.choose(rows.rows("inference", "cpu", rows.SMALL), "torch")


def test_gpu_rows_begin_with_the_compiled_one(bench):
    rows = bench["peers_rows"]
    found = rows.rows("training", "cuda", rows.SIZES["training", "cuda"])
    assert found[0].compiled and found[0].budget == 65536 and not found[1].compiled
    assert not any("one sequence" in row.way for row in found)
    assert found[-1].way.endswith(", sdpa") and found[-2].compiled
    assert {row.package for row in found} == {
        "rnafm", "rnafm's layers", "multimolecule", "rna-fm", "transformers",
    }  # fmt: skip


def test_table_and_chart_follow_from_the_rows(bench, tmp_path):
    rows = [
        _row("rnafm", "packs", 2.0),
        _row("multimolecule", "singly", 3.0),
        _row("multimolecule", "16 in given order", 12.0, usual=True),
        {**_row("rna-fm", "sorted", 0.0), "failed": "ImportError: no fm"},
        {**_row("rnafm", "packs", 2.2), "again": True},
    ]
    text = bench["tables"].peers_rows(rows)
    assert "| multimolecule | singly | 3.00 | 50 | 1.50 |" in text
    assert "no fm" in text
    assert "10 %" in bench["tables"].spread(rows)
    assert "`python benchmarks/peers.py`" in bench["tables"].spread(rows)
    assert bench["tables"].ratios(rows) == {"multimolecule": (1.5, 6.0)}
    bench["peers_plot"].draw({"inference": rows, "training": rows}, tmp_path / "peers.png")
    assert (tmp_path / "peers.png").stat().st_size > 5000


def _row(package, way, seconds, **more):
    return {
        "row": f"{package}: {way}",
        "package": package,
        "way": way,
        "usual": False,
        "again": False,
        "cpu_seconds": seconds,
        "tokens_per_second": 150 / max(seconds, 1),
        "padding": 1.0,
        "repetitions": 3,
        "sequences": 4,
        "tokens": 150,
        "command": "python benchmarks/peers.py",
        "machine": "2 cores",
        "threads": 2,
        "date": "2026-01-01",
        "versions": dict.fromkeys(("torch", "multimolecule", "danling", "rna-fm", "transformers")),
        **more,
    }
