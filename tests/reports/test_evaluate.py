"""From predictions to a report: the objective's scores, floors of training rows, honest columns."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batches import RNA

from rnafm.data.labels import LabelSpec
from rnafm.reports import evaluate as module
from rnafm.reports.evaluate import evaluate, output_names
from rnafm.reports.floors import Floor
from rnafm.reports.report import Bootstrap
from rnafm.tasks.objectives import Binary, Multiclass, Multilabel, Regression
from rnafm.tasks.pair_scores import score_pairs

NUM = 48
TRAIN, TEST = np.arange(30), np.arange(30, NUM)
OBJECTIVES = {
    "value": Regression(num_outputs=2),
    "class": Multiclass(["a", "b", "c"]),
    "flag": Multilabel(["x", "y"]),
    "binary": Binary(),
}


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(module, "Bootstrap", lambda resamples: Bootstrap(resamples // 200))


def sequences(seed=0):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("ACGU"), rng.integers(12, 30))) for _ in range(NUM)]


def data_of(spec, labels, **more):
    """What `evaluate` reads of a data module."""
    given = {
        "names": [f"rna{i}" for i in range(NUM)],
        "sequences": sequences(),
        "columns": {"family": [f"f{i % 3}" for i in range(NUM)]},
        "rows": {"train": TRAIN, "val": TRAIN[:0], "test": TEST},
        "facts": {"data": "stand-in"},
        "description": "stand-in",
        "vocabulary": RNA,
    }
    return SimpleNamespace(**given | {"spec": spec, "labels": labels, "similarity": {}} | more)


def labelled(kind, level, *, train=TRAIN[:0]):
    """An objective, its data with some missing labels, and predictions of the test rows.

    Without training rows there are no floors, which take time.
    """
    rng = np.random.default_rng(0)
    objective = OBJECTIVES[kind]
    texts = sequences()
    labels, predictions = [], {}
    for row, text in enumerate(texts):
        shape = (len(text),) if level == "token" else ()
        width = objective.num_outputs
        if kind == "class":
            label = np.where(rng.random(shape) < 0.1, -100, rng.integers(0, 3, shape))
            label = np.asarray(label, np.int64)
            guess = rng.dirichlet(np.ones(3), shape)
        elif kind == "value":
            label = rng.normal(size=(*shape, width)).astype(np.float32)
            guess = label + rng.normal(size=label.shape)
        else:
            label = rng.integers(0, 2, (*shape, width)).astype(np.float32)
            guess = rng.random(label.shape)
        if kind != "class":
            label[rng.random(label.shape) < 0.1] = np.nan
        labels.append(label)
        if row in TEST:
            predictions[row] = guess.astype(np.float32)
    data = data_of(objective.spec(level), labels)
    data.rows["train"] = train
    return objective, data, predictions


def stacked(objective, data, predictions):
    """Predictions and labels of all rows as the objective takes them."""
    rows = sorted(predictions)
    width = objective.num_outputs
    labels = [data.labels[row] for row in rows]
    labels = [y.reshape(-1) if data.spec.kind == "class" else y.reshape(-1, width) for y in labels]
    found = [predictions[row].reshape(-1, width) for row in rows]
    return torch.from_numpy(np.concatenate(found)), torch.from_numpy(np.concatenate(labels))


@pytest.mark.parametrize("level", ["sequence", "token"])
@pytest.mark.parametrize("kind", list(OBJECTIVES))
def test_scores_are_the_objectives(kind, level):
    objective, data, predictions = labelled(kind, level)
    report = evaluate(data, predictions, {"task": "T"})
    expected = objective.scores(*stacked(objective, data, predictions))
    assert set(report.metrics) == set(expected)
    for name, value in expected.items():
        assert report.metrics[name].value == pytest.approx(float(value), abs=1e-5), name
    assert report.facts["task"] == "T" and report.facts["data"] == "stand-in"
    assert set(report.groups) >= {"family"}
    assert bool(report.classes) == (kind == "class")


def _changed(label):
    """Another label everywhere; what is missing stays so."""
    if label.dtype == np.int64:
        return np.where(label >= 0, (label + 1) % 3, label)
    return 1 - label


@pytest.mark.parametrize(
    ("kind", "level"),
    [("value", "sequence"), ("class", "sequence"), ("class", "token"), ("flag", "token")],
)
def test_labels_of_the_test_do_not_reach_the_floors(kind, level, monkeypatch):
    made = []

    def watch(name):
        make = getattr(module, name)

        def watched(*args, **options):
            floor = make(*args, **options)
            made.append(np.concatenate([np.atleast_2d(each) for each in floor.predictions]))
            return floor

        monkeypatch.setattr(module, name, watched)

    for name in ("majority_or_mean", "kmer_model", "letter_model", "window_model"):
        watch(name)
    _, data, predictions = labelled(kind, level, train=TRAIN)
    evaluate(data, predictions, {})
    honest, poisoned = data.labels, [_changed(label) for label in data.labels]
    data.labels = [*honest[: len(TRAIN)], *poisoned[len(TRAIN) :]]
    evaluate(data, predictions, {})
    assert len(made) == 4
    for before, after in zip(made[:2], made[2:], strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-9)  # trees are added up in any order
    if kind == "value":  # trees take time
        return
    data.labels = [*poisoned[: len(TRAIN)], *honest[len(TRAIN) :]]
    evaluate(data, predictions, {})
    assert not np.allclose(made[1], made[5])  # while those of training rows do


def test_the_majority_is_that_of_training():
    _, data, predictions = labelled("class", "sequence", train=TRAIN)
    for row in TRAIN:
        data.labels[row] = np.array(2)
    report = evaluate(data, predictions, {})
    truth = np.array([data.labels[row] for row in TEST])
    expected = (truth[truth >= 0] == 2).mean()
    assert report.floors["majority class"].metrics["accuracy"].value == pytest.approx(expected)


@pytest.mark.parametrize("level", ["sequence", "token"])
def test_without_a_labelled_training_row_there_are_no_floors(level):
    _, data, predictions = labelled("class", level, train=TRAIN)
    for row in TRAIN:
        data.labels[row] = np.full_like(data.labels[row], -100)
    report = evaluate(data, predictions, {})
    (floor,) = report.floors.values()
    assert floor.about == "no training sequence has a label" and not floor.metrics
    data.rows["train"] = TRAIN[:0]
    assert list(evaluate(data, predictions, {}).floors) == list(report.floors)


@pytest.mark.parametrize("kind", ["value", "class", "binary"])
@pytest.mark.parametrize("level", ["sequence", "token"])
def test_sequences_without_a_label_are_left_out_and_counted(kind, level):
    _, data, predictions = labelled(kind, level)
    fewer = {row: found for row, found in predictions.items() if row not in (31, 40)}
    expected = evaluate(data, fewer, {})
    nothing = -100 if kind == "class" else np.nan
    for row in (31, 40):
        data.labels[row] = np.full_like(data.labels[row], nothing)
    report = evaluate(data, predictions, {})
    assert report.records.names == expected.records.names
    left_out = len(TEST) - len(report.records)
    assert report.facts["left_out"] == f"{left_out} test sequences without a label"
    for name, interval in expected.metrics.items():
        one, two = ([each.value, each.low] for each in (report.metrics[name], interval))
        np.testing.assert_array_equal(one, two, name)
    for row in TEST:
        data.labels[row] = np.full_like(data.labels[row], nothing)
    with pytest.raises(ValueError, match=r"test: none of 18 sequences has a label.*rnafm predict"):
        evaluate(data, predictions, {})


@pytest.mark.parametrize("level", ["sequence", "token"])
@pytest.mark.parametrize("kind", list(OBJECTIVES))
def test_a_single_test_sequence(kind, level, tmp_path):
    _, data, predictions = labelled(kind, level)
    row = next(r for r in TEST if (np.nan_to_num(data.labels[r], nan=-1) >= -99).all())
    report = evaluate(data, {int(row): predictions[row]}, {})
    assert len(report.records) == 1 and not report.groups
    assert all(np.isnan(each.low) for each in report.metrics.values())
    report.write(tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["num_sequences"] == 1


class TestPerSequence:
    """The file that people and `rnafm compare` read."""

    def read(self, report, folder):
        report.write(folder)
        with (folder / "per_sequence.csv").open(newline="") as file:
            return list(csv.DictReader(file))

    def test_class(self, tmp_path):
        _, data, predictions = labelled("class", "sequence")
        rows = {line["id"]: line for line in self.read(evaluate(data, predictions, {}), tmp_path)}
        for row in TEST:
            label, found = int(data.labels[row]), predictions[row]
            if label < 0:
                assert f"rna{row}" not in rows
                continue
            line = rows[f"rna{row}"]
            assert line["label"] == "abc"[label] and line["prediction"] == "abc"[found.argmax()]
            assert float(line["probability"]) == pytest.approx(float(found.max()), abs=1e-6)
            assert float(line["correct"]) == (found.argmax() == label)
            assert int(line["length"]) == len(data.sequences[row])

    def test_values_are_called_like_their_columns(self, tmp_path):
        _, data, predictions = labelled("value", "sequence")
        data.label_columns = ["half_life", "yield"]
        lines = self.read(evaluate(data, predictions, {}), tmp_path)
        for line in lines:
            row = int(line["id"][3:])
            cells = [line[f"label {name}"] for name in data.label_columns]
            truth = np.array([float(cell or "nan") for cell in cells])
            np.testing.assert_allclose(truth, data.labels[row], rtol=1e-5)
            guess = np.array([float(line[f"prediction {name}"]) for name in data.label_columns])
            np.testing.assert_allclose(guess, predictions[row], rtol=1e-5)
            assert float(line["squared_error"]) == pytest.approx(
                np.nanmean((guess - truth) ** 2), rel=1e-4
            )

    def test_tokens(self, tmp_path):
        _, data, predictions = labelled("class", "token")
        lines = self.read(evaluate(data, predictions, {}), tmp_path)
        for line in lines:
            row = int(line["id"][3:])
            known = data.labels[row] >= 0
            right = (predictions[row].argmax(1) == data.labels[row])[known].mean()
            assert float(line["accuracy"]) == pytest.approx(right, abs=1e-6)
        _, data, predictions = labelled("value", "token")
        line = self.read(evaluate(data, predictions, {}), tmp_path)[0]
        row = int(line["id"][3:])
        expected = np.sqrt(np.nanmean((predictions[row] - data.labels[row]) ** 2))
        assert float(line["rmse"]) == pytest.approx(expected, rel=1e-4)

    def test_columns_of_the_table_do_not_pass_for_results(self, tmp_path):
        _, data, predictions = labelled("class", "sequence")
        data.columns |= {
            "id": data.names,
            "correct": ["0.5"] * NUM,
            "length": [str(i % 2) for i in range(NUM)],
            "label": ["old"] * NUM,
        }
        report = evaluate(data, predictions, {})
        line = self.read(report, tmp_path)[0]
        assert "id (2)" not in line and "input id" not in line
        assert line["input correct"] == "0.5" and float(line["correct"]) in (0, 1)
        assert line["input label"] == "old" and len(line["label"]) == 1
        assert set(report.groups["input length"]) == {"0", "1"}
        assert "length" not in report.groups or all(
            name.endswith("nt") for name in report.groups["length"]
        )

    def test_similarity_to_training(self, tmp_path):
        _, data, predictions = labelled("value", "sequence")
        assert "nearest_train" not in self.read(evaluate(data, predictions, {}), tmp_path)[0]
        data.similarity = np.linspace(0, 1, NUM)
        for line in self.read(evaluate(data, predictions, {}), tmp_path):
            expected = data.similarity[int(line["id"][3:])]
            assert float(line["nearest_train"]) == pytest.approx(expected, abs=1e-6)


def test_columns_with_many_values_are_no_groups_which_is_said():
    _, data, predictions = labelled("value", "sequence")
    data.columns |= {
        "accession": [f"X{i}" for i in range(NUM)],
        "kingdom": ["all"] * NUM,
        "half": [str(i // 2) for i in range(NUM)],
    }
    report = evaluate(data, predictions, {})
    assert set(report.groups) - {"length"} == {"family", "half"}
    assert report.facts["not_grouped_by"] == ["accession (18 values)"]
    assert "kingdom" in report.records.columns


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (LabelSpec("value", "sequence", 1), ("stability",)),
        (LabelSpec("value", "sequence", 2), ("0", "1")),
        (LabelSpec("value", "sequence", 1, ("dG",)), ("dG",)),
        (LabelSpec("flag", "sequence", 1, ("no", "coding")), ("coding",)),
        (LabelSpec("class", "sequence", 1), ("0",)),
    ],
)
def test_names_of_outputs(spec, expected):
    assert output_names(SimpleNamespace(label_columns=["stability"]), spec) == expected


class TestPairs:
    def data(self):
        rng = np.random.default_rng(0)
        pairs = [np.array([[0, 9], [1, 8]], np.int64)[: rng.integers(0, 3)] for _ in range(NUM)]
        data = data_of(LabelSpec("pairs", "pairs", 1), pairs)
        found = {int(row): np.array([[0, 9], [2, 7]], np.int64)[: row % 3] for row in TEST}
        return data, found

    def test_scores_are_means_over_sequences(self):
        data, found = self.data()
        report = evaluate(data, found, {}, score_pairs)
        each = [
            score_pairs(found[row], data.labels[row], len(data.sequences[row]))
            for row in sorted(found)
        ]
        for name in ("f1", "precision", "recall"):
            expected = np.array([scores[name] for scores in each])
            np.testing.assert_array_equal(report.records.values[name], expected)
            assert report.metrics[name].value == pytest.approx(np.nanmean(expected))
        assert report.records.values["num_predicted"].tolist() == [row % 3 for row in TEST]
        assert report.records.values["num_pairs"].tolist() == [len(data.labels[r]) for r in TEST]
        assert set(report.groups["family"]) == {"f0", "f1", "f2"}

    def test_the_floor_folds_the_test_sequences(self, monkeypatch):
        data, found = self.data()
        truth = dict(zip(data.sequences, data.labels, strict=True))
        monkeypatch.setattr(
            module,
            "rnafold_pairs",
            lambda texts: Floor("RNAfold", "ideal", [*map(truth.get, texts)]),
        )
        report = evaluate(data, found, {}, score_pairs)
        measured = report.floors["RNAfold"].metrics["recall"]
        assert measured.value == 1 and measured.num_units == report.metrics["recall"].num_units
        monkeypatch.setattr(
            module, "rnafold_pairs", lambda _: Floor("RNAfold", "needs ViennaRNA", None)
        )
        floor = evaluate(data, found, {}, score_pairs).floors["RNAfold"]
        assert floor.about == "needs ViennaRNA" and not floor.metrics
