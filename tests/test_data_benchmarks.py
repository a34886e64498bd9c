"""The benchmarks of the data run on little data, and measure what they say."""

import importlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from runs import ROOT, write_fasta

FOLDER = ROOT / "benchmarks"
NAMES = ("data_tables", "growth", "loader", "machine", "sources", "start")


@pytest.fixture(scope="module")
def bench():
    """The scripts, imported as they import each other."""
    return SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})


def test_a_synthetic_store_is_a_store(bench, tmp_path):
    store = bench.sources.synthetic(tmp_path, 3000, 0.125)
    store.verify()
    assert len(store) == 3000 and store.name(2999) == "0000002999"
    assert 60 < store.lengths.mean() < 110 and store.lengths.min() >= 10
    assert set(store.sequence(7)) == set("ACGU")
    assert bench.sources.synthetic(tmp_path, 3000, 0.125).fingerprint == store.fingerprint


def test_every_row_of_the_loader_counts_all_tokens(bench, tmp_path, monkeypatch):
    write_fasta(tmp_path / "x.fa", count=400)
    store = bench.sources.store_of(tmp_path / "x.fa", tmp_path)
    monkeypatch.setattr(bench.loader, "BUDGET", 4096)
    data = bench.loader.PackDataset(bench.loader.Mixture([store]), np.arange(len(store)), 1022)
    found = {}
    for name, work in bench.loader.ways(data, 4):
        if "worker" not in name:
            found.setdefault(name, []).append(work())
    (packed, again), (masked,), (padded,) = found.values()
    assert packed == pytest.approx(4 * 4096, rel=0.2) and again == pytest.approx(packed, rel=0.1)
    assert masked == pytest.approx(packed, rel=0.1)
    examples = bench.loader.sequences(data, (0, 0, 9))
    assert padded == sum(map(len, bench.loader.sequences(data, next(iter_packs(bench, data)))))
    assert [len(one) for one in examples] == data[0, 0, 9].cu_seqlens.diff().tolist()
    measured = bench.loader.measured(lambda: 1000)
    assert measured["tokens"] == 1000 and measured["tokens_per_cpu_s"] > 0


def iter_packs(bench, data):
    return iter(bench.loader.PackLoader(data, 4096).sampler)


def test_work_grows_with_its_factor(bench, tmp_path):
    fasta = tmp_path / "x.fa"
    write_fasta(fasta, count=400)
    tokens = {name: work(fasta, tmp_path, 1) for name, work in bench.growth.WORK.items()}
    assert tokens["prepare"] + 2 * 400 == tokens["loader, one epoch"]
    assert tokens["embedding"] == tokens["training"] <= bench.growth.PACKS * 2048
    assert bench.growth.embedded(fasta, tmp_path, 2) > 1.5 * tokens["embedding"]


def test_exponents_and_pictures_of_growth(bench, tmp_path):
    rows = [
        {"what": what, "factor": n, "tokens": 10 * n, "cpu_s": 0.5 * n**power, "own_mb": 3.0}
        for what, power in zip(bench.growth.WORK, (1, 1, 2, 0.5), strict=True)
        for n in (1, 2, 4, 8)
    ]
    assert [bench.data_tables.exponent(rows[i : i + 4]) for i in range(0, 16, 4)] == [
        pytest.approx(power) for power in (1, 1, 2, 0.5)
    ]
    bench.growth.draw(rows, tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 10_000


@pytest.mark.slow
def test_a_start_is_watched_up_to_its_first_step(bench, tmp_path):
    store = bench.sources.store_of(bench.sources.SAMPLE, tmp_path)
    marks = bench.start.fit(store.path, tmp_path, [], step=True)
    times = [marks[name]["cpu_s"] for name in ("rnafm imported", "set up", "first batch")]
    assert times == sorted(times) and marks["first step"]["cpu_s"] > times[-1]
    whole = bench.start.fit(store.path, tmp_path, bench.start.WHOLE_EPOCH, step=False)
    assert "first step" not in whole and whole["first batch"]["cpu_s"] > 0
    assert bench.start.opened(store.path)["open_cpu_s"] < 1


def test_tables_have_a_line_for_every_row(bench):
    for maker, name in zip(
        bench.data_tables.MAKERS, ("loader", "start", "growth", "readers"), strict=True
    ):
        rows = json.loads((FOLDER / "results" / f"{name}.json").read_text())["rows"]
        expected = len({row["what"] for row in rows}) if name == "growth" else len(rows)
        assert maker().count("\n| ") == expected + 1
        if name != "growth":
            same = [{k: row[k] for k in row if k in ("what", "how", "condition")} for row in rows]
            assert same[0] == same[-1]
