"""Scores by sequence numbers against the objectives' own on the same rows, written out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafm.data.labels import LabelSpec
from rnafm.reports import statistics
from rnafm.reports.records import Records
from rnafm.reports.report import Bootstrap, make_report
from rnafm.reports.statistics import statistics_of
from rnafm.tasks.objectives import Binary, Multiclass, Multilabel, Regression

OBJECTIVES = {
    "one value": Regression(),
    "values": Regression(["half-life", "load", "noise"]),
    "numbered values": Regression(num_outputs=2),
    "classes": Multiclass(["tRNA", "miRNA", "rRNA", "other"]),
    "numbered classes": Multiclass(num_outputs=2),
    "flag": Binary(),
    "named flag": Binary(["absent", "present"]),
    "flags": Multilabel(["m6A", "m5C", "pseudouridine"]),
    "a flag of several": Multilabel(["m6A"]),
}
CASES = {
    "seed": st.integers(0, 10**6),
    "level": st.sampled_from(["sequence", "token"]),
    "ties": st.booleans(),
    "missing": st.sampled_from([0, 0.3, 0.95, 1]),
    "broken": st.sampled_from([0, 0, 0.02]),
    "same": st.sampled_from([None, None, "labels", "predictions"]),
}
each_objective = pytest.mark.parametrize("objective", sorted(OBJECTIVES))
few = settings(max_examples=4)  # of each objective


def draw_case(objective, *, seed, level, ties, missing, broken, same):
    """An objective, its spec, and predictions and labels of 24 sequences."""
    generator, chosen = np.random.default_rng(seed), OBJECTIVES[objective]
    spec, width = chosen.spec(level), chosen.num_outputs
    lengths = generator.integers(0, 9, 24) if level == "token" else np.ones(24, np.int64)
    shape = (lengths.sum(), width)
    hidden = generator.normal(size=shape)
    predictions = hidden + generator.normal(size=shape)
    predictions = predictions.round() if ties else predictions
    predictions = 0 * predictions if same == "predictions" else predictions
    hidden = 0 * hidden if same == "labels" else hidden
    labels = hidden.round() * 10 if ties else hidden * 10
    if spec.kind == "class":
        labels = np.where(generator.random(shape[0]) < missing, -100, hidden.argmax(axis=1))
    else:
        labels = (hidden > 0.3).astype(np.float32) if spec.kind == "flag" else labels
        labels = np.where(generator.random(shape) < missing, np.nan, labels).astype(np.float32)
    found = chosen.predict(torch.tensor(predictions, dtype=torch.float32)).numpy().copy()
    found[generator.random(shape) < broken] = np.nan
    ends = lengths.cumsum()[:-1]
    return chosen, spec, np.split(found, ends), np.split(labels, ends)


def expected(objective, predictions, labels, rows):
    """The objective's scores of rows, each written out as often as it is drawn."""
    tables = [
        torch.tensor(np.concatenate([parts[row] for row in rows]))
        for parts in (predictions, labels)
    ]
    return {name: value.item() for name, value in objective.scores(*tables).items()}


def same_scores(found, wanted):
    assert list(found) == list(wanted)
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6, nan_ok=True)
    assert {type(value) for value in found.values()} == {float}


class TestAgainstObjectives:
    @each_objective
    @few
    @given(**CASES)
    def test_all_sequences(self, objective, **case):
        objective, spec, predictions, labels = draw_case(objective, **case)
        rows = np.arange(len(labels))
        found = statistics_of(spec, predictions, labels)(rows)
        same_scores(found, expected(objective, predictions, labels, rows))

    @each_objective
    @few
    @given(**CASES)
    def test_drawn_sequences(self, objective, **case):
        objective, spec, predictions, labels = draw_case(objective, **case)
        statistic = statistics_of(spec, predictions, labels)
        generator = np.random.default_rng(case["seed"])
        groups = np.array_split(generator.permutation(len(labels)), [3, 9])
        across = np.append(groups[0][1:], groups[1][:2])  # partly ready
        for group in (groups[0], across, *groups[1:], np.arange(len(labels))):
            for rows in (group, generator.choice(group, len(group)), group[:1]):
                same_scores(statistic(rows), expected(objective, predictions, labels, rows))

    @each_objective
    def test_cases_are_not_all_undefined(self, objective):
        case = {"level": "token", "ties": True, "missing": 0.3, "broken": 0, "same": None}
        _, spec, predictions, labels = draw_case(objective, seed=1, **case)
        found = statistics_of(spec, predictions, labels)(np.arange(24))
        assert all(np.isfinite(value) for value in found.values())
        assert len(set(found.values())) > 3

    def test_a_class_without_labels(self):
        objective = OBJECTIVES["classes"]
        predictions = [np.eye(4)[[label]] for label in (0, 1, 2, 3, 0)]
        labels = [np.array([label]) for label in (0, 1, 2, 0, 0)]
        found = statistics_of(objective.spec("sequence"), predictions, labels)(np.arange(5))
        same_scores(found, expected(objective, predictions, labels, range(5)))
        assert np.isnan(found["f1/other"])
        assert found["auroc"] == pytest.approx((5 / 6 + 1 + 1) / 3)

    def test_far_from_zero(self):
        """Sums of squares would lose all digits here."""
        generator = np.random.default_rng(0)
        labels = [generator.normal(size=(1, 1)) * 1e-3 + 1e6 for _ in range(40)]
        predictions = [label + generator.normal(size=(1, 1)) * 1e-3 for label in labels]
        spec, rows = LabelSpec("value", "sequence", 1), generator.integers(0, 40, 40)
        found = statistics_of(spec, predictions, labels)(rows)
        same_scores(found, expected(Regression(), predictions, labels, rows))
        assert 0.3 < found["pearson"] < 0.9

    def test_differences_too_small_to_square(self):
        values = [np.full((1, 1), 1e-200 * number) for number in range(3)]
        found = statistics_of(LabelSpec("value", "sequence", 1), values, values)(np.arange(3))
        assert np.isnan([found["pearson"], found["r2"]]).all()
        assert (found["spearman"], found["mse"]) == (pytest.approx(1), 0)

    def test_many_ties(self):
        """As many as a resample of tokens has."""
        generator = np.random.default_rng(0)
        labels = [generator.integers(0, 2, (2000, 1)).astype(np.float32) for _ in range(20)]
        predictions = [((y + generator.normal(size=y.shape)) > 0.8) * 0.25 + 0.5 for y in labels]
        rows = generator.integers(0, 20, 20)
        found = statistics_of(LabelSpec("flag", "token", 1), predictions, labels)(rows)
        same_scores(found, expected(Binary(), predictions, labels, rows))


def test_units_are_sequences():
    """A drawn sequence brings all its labels, and none of another."""
    labels = [np.zeros((1, 1)), np.zeros((3, 1)), np.full((2, 1), np.nan)]
    predictions = [np.full((1, 1), 2.0), np.full((3, 1), 1.0), np.full((2, 1), 9.0)]
    statistic = statistics_of(LabelSpec("value", "token", 1), predictions, labels)
    errors = [statistic(np.array(rows))["mse"] for rows in ([0, 1, 2], [0], [1], [0, 0, 1])]
    assert errors == [7 / 4, 4, 1, 11 / 5]
    assert np.isnan(statistic(np.array([2]))["mse"])


class TestGroups:
    def test_only_their_labels_are_read(self, monkeypatch):
        sizes = []

        class Counted(statistics._Values):
            def __init__(self, spec, predictions, *rest):
                sizes.append(len(predictions))
                super().__init__(spec, predictions, *rest)

        monkeypatch.setattr(statistics, "_Values", Counted)
        values = [np.random.default_rng(row).normal(size=(row, 1)) for row in range(50)]
        statistic = statistics_of(LabelSpec("value", "token", 1), values, values)
        sizes.clear()
        generator, group, other = np.random.default_rng(0), np.arange(4, 14), np.arange(30, 33)
        statistic(group)
        for _ in range(20):
            statistic(generator.choice(group, 10))
            statistic(generator.integers(0, 50, 50))  # all sequences stay ready
        statistic(other)
        assert sizes == [group.sum(), other.sum()]

    def test_in_a_report(self):
        case = {"level": "token", "ties": True, "missing": 0.3, "broken": 0, "same": None}
        objective, spec, predictions, labels = draw_case("classes", seed=2, **case)
        kinds = ["a"] * 11 + ["b"] * 13
        records = Records(
            [f"rna{row}" for row in range(24)],
            np.array([len(label) for label in labels]),
            {"kind": kinds},
            {},
            {},
        )
        statistic = statistics_of(spec, predictions, labels)
        report = make_report(records, statistic, bootstrap=Bootstrap(resamples=50))
        groups = report.groups["kind"]
        for metrics, rows in (
            (report.metrics, range(24)),
            (groups["a"].metrics, range(11)),
            (groups["b"].metrics, range(11, 24)),
        ):
            wanted = expected(objective, predictions, labels, rows)
            same_scores({name: interval.value for name, interval in metrics.items()}, wanted)
            assert metrics["auroc"].low < metrics["auroc"].value < metrics["auroc"].high


class TestRefusals:
    def test_pairs(self):
        with pytest.raises(ValueError, match=r"labels \(pairs\): .* score each structure, and"):
            statistics_of(LabelSpec("pairs", "pairs", 1), [], [])

    @pytest.mark.parametrize(
        ("kind", "shape"), [("value", (4, 2)), ("value", (3, 1)), ("class", (3, 2))]
    )
    def test_shapes(self, kind, shape):
        good, bad = np.zeros((3, 2)), np.zeros(shape)
        spec = LabelSpec(kind, "token", 2)
        match = r"predictions \(\(3, 2\)\) of sequence 1: its labels are .*; give \("
        with pytest.raises(ValueError, match=match):
            statistics_of(spec, [good, good], [good if kind == "value" else np.zeros(3), bad])

    def test_different_numbers(self):
        with pytest.raises(ValueError, match="shorter"):
            statistics_of(LabelSpec("value", "token", 2), [np.zeros((3, 2))], [])

    @pytest.mark.parametrize("drawn", [[2], [0, 1, 2]])
    def test_numbers_of_other_sequences(self, drawn):
        values = [np.zeros((3, 1))] * 2
        statistic = statistics_of(LabelSpec("value", "token", 1), values, values)
        with pytest.raises(ValueError, match=r"number of a sequence \(2\): there are 2; count"):
            statistic(np.array(drawn))
