"""What a report says, prints and writes."""

import csv
import io
import json

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from rnafm.reports.records import Records, group_rows, length_bins, read_values
from rnafm.reports.report import Bootstrap, make_report
from rnafm.reports.scores import class_scores, confusion_counts
from rnafm.reports.tables import show

RNG = np.random.default_rng(0)
N = 60
LABELS = RNG.integers(0, 3, N)
FOUND = np.where(RNG.random(N) < 0.7, LABELS, RNG.integers(0, 3, N))
F1 = RNG.random(N)
NAMES = ("5S", "tRNA", "other")
FEW = Bootstrap(resamples=100)


def records(**more):
    return Records(
        [f"rna{i}" for i in range(N)],
        np.arange(50, 50 + N),
        {"family": ["a"] * 40 + ["b"] * 15 + ["c"] * 5},
        {"f1": F1, "rest": np.where(F1 < 0.5, np.nan, 1.25)},
        {"label": [NAMES[i] for i in LABELS]},
        **more,
    )


def always_5s(rows):
    return {"f1": 0.25, "accuracy": (LABELS == 0)[rows].mean()}


def full_report(**settings):
    return make_report(
        records(),
        {"f1": F1, "accuracy": lambda rows: (LABELS == FOUND)[rows].mean()},
        facts={"decoder": "nested [p > 0.3]", "leaks": {"exact": np.int64(3), "near": np.nan}},
        floors={
            "majority": ("always 5S", always_5s),
            "RNAfold": ("needs ViennaRNA", None),
        },
        classes=class_scores(list(LABELS), list(FOUND), NAMES),
        bootstrap=settings.pop("bootstrap", FEW),
        **settings,
    )  # fmt: skip


class TestNumbers:
    def test_metrics_and_floors(self):
        report = full_report()
        assert report.metrics["f1"].value == pytest.approx(F1.mean())
        assert report.metrics["accuracy"].low < (LABELS == FOUND).mean()
        floor = report.floors["majority"]
        assert floor.metrics["accuracy"].value == pytest.approx((LABELS == 0).mean())
        assert floor.differences["f1"].value == pytest.approx(F1.mean() - 0.25)
        assert floor.differences["f1"].low == pytest.approx(report.metrics["f1"].low - 0.25)
        assert report.floors["RNAfold"].metrics == {}

    def test_groups(self):
        groups = full_report().groups
        assert list(groups) == ["family", "length"]
        assert [group.num_sequences for group in groups["family"].values()] == [40, 15, 5]
        assert groups["family"]["b"].metrics["f1"].value == pytest.approx(F1[40:55].mean())
        assert groups["family"]["b"].floors["majority"]["f1"] == 0.25
        assert np.isfinite(groups["family"]["b"].metrics["f1"].low)
        assert np.isnan(groups["family"]["c"].metrics["f1"].low)  # five are too few
        assert next(iter(groups["length"])) == "50-61 nt"

    def test_chosen_columns(self):
        assert list(full_report(group_by=[]).groups) == ["length"]
        with pytest.raises(ValueError, match=r"group_by \(clan\): no such column; there are fam"):
            full_report(group_by=["clan"])

    def test_classes_agree_with_scikit_learn(self):
        classes = full_report().classes
        expected = precision_recall_fscore_support(LABELS, FOUND)
        for i, name in enumerate(NAMES):
            values = [one.value for one in classes[name].metrics.values()]
            assert values == pytest.approx([scores[i] for scores in expected[:3]])
            assert classes[name].num_sequences == expected[3][i]
        np.testing.assert_array_equal(
            confusion_counts(np.append(LABELS, -100), np.append(FOUND, 0), 3),
            confusion_matrix(LABELS, FOUND),
        )

    def test_tokens_are_gathered_by_sequence(self):
        labels = [np.array([0, 0, 1, -100]), np.array([1, 1])]
        found = [np.array([0, 1, 1, 0]), np.array([1, 0])]
        scores = class_scores(labels, found, ("S", "H"))
        assert scores(np.array([1, 1]))["H/recall"] == 0.5
        assert np.isnan(scores(np.array([1, 1]))["S/recall"])
        assert scores(np.array([0, 0, 1]))["S/precision"] == pytest.approx(2 / 3)
        assert scores(np.array([0]))["S/f1"] == pytest.approx(2 / 3)

    def test_a_rare_class_has_no_interval(self):
        labels = np.array([0] * 55 + [1] * 5)
        report = make_report(
            records(), {"f1": F1}, classes=class_scores(labels, labels, "ab"), bootstrap=FEW
        )
        assert np.isfinite(report.classes["a"].metrics["f1"].low)
        assert np.isnan(report.classes["b"].metrics["f1"].low)
        assert report.classes["b"].metrics["f1"].value == 1


class TestGroups:
    def test_the_largest_first(self):
        groups = group_rows(["b", "a", "b", "", "a", "b"])
        assert {name: rows.tolist() for name, rows in groups.items()} == {
            "b": [0, 2, 5], "a": [1, 4], "": [3],
        }  # fmt: skip

    def test_bins_hold_everything_once(self):
        lengths = RNG.integers(20, 500, 1000)
        bins = length_bins(lengths)
        assert sorted(np.concatenate(list(bins.values()))) == list(range(1000))
        assert [150 < len(rows) < 250 for rows in bins.values()] == [True] * 5
        longest = [lengths[rows].max() for rows in bins.values()]
        assert longest == sorted(longest)

    def test_equal_lengths_stay_together(self):
        assert list(length_bins(np.full(50, 81))) == ["81-81 nt"]
        bins = length_bins(np.array([20] * 500 + [30] * 3 + [1500] * 497))
        assert {name: len(rows) for name, rows in bins.items()} == {
            "20-20 nt": 500, "30-1,500 nt": 500,
        }  # fmt: skip
        assert [len(rows) for rows in length_bins(np.arange(12)).values()] == [12]


class TestFiles:
    def test_json(self, tmp_path):
        full_report().write(tmp_path / "test")
        values = json.loads((tmp_path / "test" / "metrics.json").read_text())
        assert values["facts"]["decoder"] == "nested [p > 0.3]"
        assert values["facts"]["leaks"] == {"exact": 3, "near": None}
        assert values["num_sequences"] == N
        assert values["bootstrap"]["resamples"] == 100
        assert values["metrics"]["f1"]["value"] == pytest.approx(F1.mean())
        assert values["floors"]["majority"]["differences"]["accuracy"]["low"] is not None
        assert values["floors"]["RNAfold"]["about"] == "needs ViennaRNA"
        assert values["groups"]["family"]["c"]["metrics"]["f1"]["low"] is None
        assert values["classes"]["tRNA"]["metrics"]["recall"]["num_units"] == N
        assert sorted(path.name for path in (tmp_path / "test").iterdir()) == [
            "metrics.json", "per_sequence.csv",
        ]  # fmt: skip

    def test_csv(self, tmp_path):
        full_report().write(tmp_path)
        with (tmp_path / "per_sequence.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert list(rows[0]) == ["id", "length", "family", "label", "f1", "rest"]
        assert [row["id"] for row in rows] == [f"rna{i}" for i in range(N)]
        assert [float(row["f1"]) for row in rows] == pytest.approx(F1.tolist(), rel=1e-6)
        assert rows[3]["length"] == "53"
        assert {row["rest"] for row in rows} == {"", "1.25"}
        found = read_values(tmp_path / "per_sequence.csv", "rest")
        np.testing.assert_array_equal(np.isnan(list(found.values())), F1 < 0.5)

    def test_columns_of_the_same_name(self, tmp_path):
        few = Records(["x"], np.array([4]), {"length": ["long"], "id": ["y,z"]}, {"id": np.ones(1)})
        few.write(tmp_path / "few.csv")
        assert (tmp_path / "few.csv").read_text() == (
            'id,length,length (2),id (2),id (3)\nx,4,long,"y,z",1\n'
        )

    def test_reading_errors(self, tmp_path):
        path = tmp_path / "few.csv"
        path.write_text("id,f1\na,1\na,2\n")
        with pytest.raises(ValueError, match=r"few.csv:3: 'a' occurs twice"):
            read_values(path, "f1")
        with pytest.raises(ValueError, match=r"few.csv: no column 'F1'; there are id, f1"):
            read_values(path, "F1")

    def test_entries_for_each_sequence(self):
        with pytest.raises(ValueError, match=r"family \(2 entries\): there are 1 sequences; give"):
            Records(["x"], np.array([4]), {"family": ["a", "b"]})


class TestPrinting:
    @staticmethod
    def printed(report, width=100, **more):
        out = io.StringIO()
        show(report, console=Console(file=out, width=width, **more))
        return out.getvalue()

    def test_says_everything(self):
        text = self.printed(full_report())
        f1 = full_report().metrics["f1"]
        assert f"{f1.value:.3f}   {f1.low:.3f} to {f1.high:.3f}" in text
        for part in (
            "nested [p > 0.3]", "exact: 3", "Test on 60 sequences", "majority: always 5S",
            "RNAfold: needs ViennaRNA", "f1 by family", "too few", "f1 by length", "50-61 nt",
            "Scores by class", "95 % interval", "+0.", "tRNA",
        ):  # fmt: skip
            assert part in text

    def test_headline(self):
        out = io.StringIO()
        show(full_report(), "accuracy", Console(file=out))
        assert "accuracy by family" in out.getvalue()

    def test_nothing_is_cut_in_a_file(self):
        long = "a_family_with_a_very_long_name_" * 8
        wide = Records(["x"] * N, np.arange(N), {"family": [long] * 30 + ["b"] * 30})
        text = self.printed(make_report(wide, {"f1": F1}, bootstrap=FEW), width=60)
        assert f"{long}   30" in text
        assert "\x1b" not in text

    def test_a_narrow_terminal_folds(self):
        text = self.printed(full_report(), width=50, force_terminal=True, color_system=None)
        assert max(map(len, text.splitlines())) <= 50
        assert "…" not in text

    def test_many_groups(self):
        many = Records(["x"] * N, np.full(N, 9), {"family": [str(i // 2) for i in range(70)][:N]})
        report = make_report(many, {"f1": F1}, bootstrap=FEW)
        assert len(report.groups["family"]) == 30
        assert "smaller groups" not in self.printed(report)
        # Families of two and of one, in turn: those of one are not shown.
        many = Records(["x"] * N, np.full(N, 9), {"family": [str(i * 2 // 3) for i in range(N)]})
        report = make_report(many, {"f1": F1}, bootstrap=FEW)
        families = report.groups["family"]
        alone = sum(group.num_sequences == 1 for group in families.values())
        assert 0 < alone < len(families)
        assert f"and {alone:,} smaller groups in metrics.json" in self.printed(report)
