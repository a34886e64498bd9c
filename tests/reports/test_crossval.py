"""Several tests summed up, and two of them compared; the numbers are worked out again by hand."""

import csv
import json

import numpy as np
import pytest
from scipy.stats import t, wilcoxon

from rnafm.reports.crossval import compare_runs, summarise


def write_metrics(folder, fold, seed, values, floors=None):
    run = folder / f"fold{fold}-seed{seed}" / "test"
    run.mkdir(parents=True)
    about = {
        "metrics": {name: {"value": value} for name, value in values.items()},
        "floors": {
            name: {"about": "", "metrics": {key: {"value": value} for key, value in found.items()}}
            for name, found in (floors or {}).items()
        },
    }
    (run / "metrics.json").write_text(json.dumps(about))


def write_sequences(path, values, column="f1", lengths=None):
    """A per_sequence.csv; None is an empty cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "length", column])
        for name, value in values.items():
            length = (lengths or {}).get(name, 50)
            writer.writerow([name, length, "" if value is None else value])


class TestSummary:
    def test_numbers(self, tmp_path, capsys):
        scores = np.random.default_rng(0).random((3, 2))
        for fold in range(3):
            for seed in range(2):
                floors = {"k-mer model": {"f1": 0.1 * fold, "mcc": None}, "RNAfold": {}}
                values = {"f1": scores[fold, seed], "mcc": [None, 0.5, None][fold]}
                write_metrics(tmp_path, fold, seed, values, floors)
        summarise(tmp_path, folds=3, seeds=2)
        found = json.loads((tmp_path / "summary.json").read_text())
        assert (found["folds"], found["seeds"]) == (3, 2)
        own = found["metrics"]["f1"]["model"]
        means = scores.mean(1)
        low, high = t.interval(0.95, 2, means.mean(), means.std(ddof=1) / np.sqrt(3))
        assert own["mean"] == pytest.approx(scores.mean())
        assert own["sd"] == pytest.approx(scores.std(ddof=1))
        assert (own["low"], own["high"]) == pytest.approx((low, high))
        assert own["num_folds"] == 3
        assert found["metrics"]["f1"]["k-mer model"]["mean"] == pytest.approx(0.1)
        assert found["metrics"]["f1"]["RNAfold"]["mean"] is None
        # defined in one fold only: a mean and no interval
        once = found["metrics"]["mcc"]["model"]
        assert once == {"mean": 0.5, "sd": 0, "low": None, "high": None, "num_folds": 1}
        printed = capsys.readouterr().out
        line = next(line for line in printed.splitlines() if line.split()[:1] == ["f1"])
        assert line.split() == [
            "f1", f"{scores.mean():.3f}", f"{scores.std(ddof=1):.3f}",
            f"{low:.3f}", "to", f"{high:.3f}", "0.100", "-",
        ]  # fmt: skip
        assert "3 folds x 2 seeds" in printed and str(tmp_path / "summary.json") in printed

    def test_a_floor_or_metric_that_one_run_lacks(self, tmp_path):
        write_metrics(tmp_path, 0, 0, {"f1": 0.2})
        write_metrics(tmp_path, 1, 0, {"f1": 0.4, "f1/b": 0.3}, {"RNAfold": {"f1": 0.5}})
        summarise(tmp_path, folds=2, seeds=1)
        metrics = json.loads((tmp_path / "summary.json").read_text())["metrics"]
        assert metrics["f1"]["RNAfold"]["mean"] == 0.5
        assert metrics["f1/b"]["model"]["mean"] == 0.3

    def test_many_floors_are_not_cut(self, tmp_path, capsys):
        floors = {f"a floor of number {i}": {"flexible_precision": i / 10} for i in range(4)}
        for fold in range(2):
            write_metrics(tmp_path, fold, 0, {"flexible_precision": 0.5}, floors)
        summarise(tmp_path, folds=2, seeds=1)
        printed = capsys.readouterr().out
        assert all(f"a floor of number {i}" in printed for i in range(4))
        assert "…" not in printed


class TestCompare:
    def two(self, folder, column="f1", num=40, shift=0.1):
        rng = np.random.default_rng(0)
        a = rng.random(num)
        b = a - shift + rng.normal(0, 0.01, num)
        names = [f"s{i}" for i in range(num)]
        write_sequences(
            folder / "a/test/per_sequence.csv", dict(zip(names, a, strict=True)), column
        )
        write_sequences(
            folder / "b/test/per_sequence.csv", dict(zip(names, b, strict=True)), column
        )
        return folder / "a", folder / "b", a, b

    def test_two_tests(self, tmp_path):
        first, second, a, b = self.two(tmp_path)
        lines = compare_runs(first, second).splitlines()
        assert lines[0] == "f1 of 40 sequences"
        assert (
            lines[1] == f"  {first}: {a.mean():.3f}" and lines[2] == f"  {second}: {b.mean():.3f}"
        )
        p_value = wilcoxon(a - b).pvalue
        assert f"{(a - b).mean():+.4g}, Wilcoxon p = {p_value:.2g}" in lines[3]
        low, high = (float(word) for word in lines[4].split(",")[0].split()[3::2])
        assert low < (a - b).mean() < high and high - low < 0.02
        assert lines[5] == f"  the first is higher on {(a > b).sum()} of them, lower on 0"
        assert lines[6] == f"  {first} is better"
        assert compare_runs(second, first).endswith(f"  {first} is better")
        # The folder of the test itself will do.
        assert compare_runs(first / "test", second / "test").splitlines()[4] == lines[4]

    def test_less_error_is_better(self, tmp_path):
        first, second, *_ = self.two(tmp_path, "squared_error")
        assert compare_runs(first, second).endswith(f"  {second} is better (less is better)")

    def test_of_any_other_column_it_is_only_said_which_is_higher(self, tmp_path):
        first, second, *_ = self.two(tmp_path, "num_predicted")
        assert compare_runs(first, second, "num_predicted").endswith(f"  {first} is higher")
        with pytest.raises(
            ValueError, match=r"a/test/per_sequence.csv: has none of f1, .*--metric: "
        ):
            compare_runs(first, second)

    def test_no_difference(self, tmp_path):
        first, second, *_ = self.two(tmp_path, shift=0.0)
        text = compare_runs(first, second)
        assert text.endswith("the interval includes 0: these sequences show no difference")
        assert compare_runs(first, first).endswith("show no difference")

    def test_few_sequences_decide_nothing(self, tmp_path):
        first, second, *_ = self.two(tmp_path, num=9)
        text = compare_runs(first, second)
        assert text.endswith("fewer than 10 sequences: too few to tell a difference")
        assert "nan" not in text and "interval" not in text

    def test_only_what_both_have_is_compared(self, tmp_path):
        a = {f"s{i}": i / 20 for i in range(20)} | {"alone": 100.0, "s3": None}
        b = {f"s{i}": 0.0 for i in range(20)} | {"s4": None}
        write_sequences(tmp_path / "a" / "per_sequence.csv", a)
        write_sequences(tmp_path / "b" / "per_sequence.csv", b)
        lines = compare_runs(tmp_path / "a", tmp_path / "b").splitlines()
        assert (
            lines[0] == "f1 of 18 sequences (1 more are in one of them only; 2 more have no value)"
        )
        expected = np.mean([i / 20 for i in range(20) if i not in (3, 4)])
        assert lines[1].endswith(f": {expected:.3f}") and f" {expected:+.4g}," in lines[3]

    def test_cross_validations(self, tmp_path):
        """Seeds are averaged first, so that a sequence counts once."""
        for run, shift in (("a", 0.0), ("b", 0.2)):
            for fold in range(2):
                for seed in range(2):
                    values = {f"s{i}": i + 0.5 * seed - shift for i in range(fold, 24, 2)}
                    path = tmp_path / run / f"fold{fold}-seed{seed}" / "test" / "per_sequence.csv"
                    write_sequences(path, values)
        lines = compare_runs(tmp_path / "a", tmp_path / "b").splitlines()
        assert lines[0] == "f1 of 24 sequences"
        assert lines[1].endswith(f"{np.arange(24).mean() + 0.25:.3f}")
        assert lines[-1].endswith("a is better")

    def test_a_sequence_in_two_folds(self, tmp_path):
        for fold in range(2):
            path = tmp_path / "a" / f"fold{fold}-seed0" / "test" / "per_sequence.csv"
            write_sequences(path, {"twice": 1})
        with pytest.raises(ValueError, match=r"'twice' is in .*fold0-seed0.* and in .*fold1-seed0"):
            compare_runs(tmp_path / "a", tmp_path / "a")

    def test_refusals(self, tmp_path):
        first, second, *_ = self.two(tmp_path)
        with pytest.raises(ValueError, match=r"nowhere has no per_sequence.csv; give the folder"):
            compare_runs(first, tmp_path / "nowhere")
        with pytest.raises(ValueError, match=r"no column 'mcc'; there are id, length, f1"):
            compare_runs(first, second, "mcc")
        with pytest.raises(ValueError, match=r"column 'id' has no numbers: .*'s0'"):
            compare_runs(first, second, "id")
        write_sequences(tmp_path / "c" / "per_sequence.csv", {"other": 1})
        with pytest.raises(ValueError, match=r"no sequence with a f1 in common"):
            compare_runs(first, tmp_path / "c")
        write_sequences(tmp_path / "d" / "per_sequence.csv", {"s3": 1}, lengths={"s3": 70})
        with pytest.raises(ValueError, match=r"'s3' has 50 nt in .*a and 70 in .*d: .* same data"):
            compare_runs(first, tmp_path / "d")
