"""The callback that reports a test: what it keeps, from which devices, and where it goes."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch.distributed
from batches import RNA

from rnafm.callbacks import TestReport
from rnafm.callbacks.testing import readable
from rnafm.data.labels import LabelSpec
from rnafm.reports import evaluate as evaluate_module
from rnafm.reports import gallery
from rnafm.reports.report import Bootstrap
from rnafm.tasks.contact import Fold
from rnafm.tasks.pair_scores import score_pairs

NUM = 130
LEAKS = {
    "sequences": 42,
    "training_sequences": 100,
    "exact_copies": 3,
    "near_copies": 5,
    "near_copy_share": 0.8,
    "k": 8,
    "mean_similarity": 0.1,
    "compared_as_wholes": 0,
    "dropped_from_training": 0,
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(evaluate_module, "Bootstrap", lambda resamples: Bootstrap(resamples // 200))
    monkeypatch.setattr(gallery, "save", lambda _, path: path.write_bytes(b"picture"))


def stand_in(spec, labels):
    return SimpleNamespace(
        names=[f"rna{i}" for i in range(NUM)],
        sequences=["ACGUACGUACGUACGU" + "A" * (i % 7) for i in range(NUM)],
        columns={},
        similarity={},
        rows={"train": np.arange(0), "test": np.arange(NUM)},
        facts={"leaks": {"test": LEAKS}, "data": "x of some/folder/x.csv"},
        description="x of some/folder/x.csv",
        vocabulary=RNA,
        spec=spec,
        labels=labels,
    )


def value_data():
    labels = [np.array([i % 10], np.float32) for i in range(NUM)]
    return stand_in(LabelSpec("value", "sequence", 1, ("dG",)), labels)


class Task:
    """What the callback asks a task for."""

    facts = {"task": "Stand-in"}  # noqa: RUF012
    monitor = "val/spearman"

    def reported(self, predictions):
        return predictions


class Pairs(Task):
    monitor = "val/f1"
    score_pairs = staticmethod(score_pairs)

    def reported(self, predictions):
        return {row: fold.pairs for row, fold in predictions.items()}


def trainer(data, folder, loggers=("csv",), *, first=True):
    return SimpleNamespace(
        datamodule=data,
        log_dir=None if folder is None else str(folder),
        loggers=list(loggers),
        is_global_zero=first,
        ckpt_path="some/best.ckpt",
    )


def feed(callback, task, predictions, size=7):
    """Batches as the trainer gives them."""
    callback.on_test_start(None, task)
    rows = list(predictions)
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        batch = SimpleNamespace(indices=torch.tensor(some), num_sequences=len(some))
        callback.on_test_batch_end(None, task, [predictions[row] for row in some], batch, 0)


def values(data, rows=None):
    rows = range(len(data.names)) if rows is None else rows
    return {int(row): data.labels[row] + 1 for row in rows}


def test_report_files_and_pictures(tmp_path, capsys):
    data, callback = value_data(), TestReport()
    feed(callback, Task(), values(data))
    callback.on_test_end(trainer(data, tmp_path), Task())
    found = json.loads((tmp_path / "metrics.json").read_text())
    for score in ("spearman", "mse"):
        assert found["metrics"][score]["value"] == pytest.approx(1)
    assert found["facts"]["task"] == "Stand-in"
    assert found["facts"]["checkpoint"] == "some/best.ckpt"
    assert found["facts"]["leaks"]["test"] == LEAKS  # programs read numbers
    assert len((tmp_path / "per_sequence.csv").read_text().splitlines()) == NUM + 1
    assert {path.name for path in tmp_path.glob("*.png")} == {
        "scatter_dG.png",
        "spearman_by_length.png",
    }
    printed = capsys.readouterr().out
    assert f"Report: {tmp_path} (metrics.json, per_sequence.csv and 2 pictures)" in printed
    assert "spearman by length" in printed
    (line,) = [line for line in printed.splitlines() if "leaks, test" in line]
    assert line.split("leaks, test")[1].strip() == (
        "3 of 42 are exact copies of training sequences, 5 near copies (80 % of 8-mers)"
    )
    assert max(map(len, printed.splitlines())) < 160


@pytest.mark.parametrize(("folder", "loggers"), [("x", ()), (None, ("csv",))])
def test_without_a_place_it_only_prints(tmp_path, monkeypatch, capsys, folder, loggers):
    """Without a logger Lightning's log_dir is the current folder, which is nobody's."""
    monkeypatch.chdir(tmp_path)
    data, callback = value_data(), TestReport()
    feed(callback, Task(), values(data))
    callback.on_test_end(trainer(data, folder, loggers), Task())
    printed = capsys.readouterr().out
    assert "Test on 130 sequences" in printed and "Report:" not in printed
    assert not list(tmp_path.iterdir())


def test_pictures_go_to_loggers_that_take_them(tmp_path):
    shown = []

    class Shows:
        def log_image(self, key, images):
            shown.append((key, images))

    data, callback = value_data(), TestReport()
    feed(callback, Task(), values(data))
    callback.on_test_end(trainer(data, tmp_path, ["csv", Shows()]), Task())
    assert shown == [
        (f"test/{name}", [str(tmp_path / f"{name}.png")])
        for name in ("scatter_dG", "spearman_by_length")
    ]


@pytest.mark.parametrize("outputs", [None, torch.tensor(1.0), [1, 2]])
def test_other_tasks_are_left_alone(tmp_path, capsys, outputs):
    """Pretraining has no test, or one that gives something else; its data have no labels."""
    callback = TestReport()
    batch = SimpleNamespace(indices=torch.arange(3), num_sequences=3)
    callback.on_test_start(None, None)
    callback.on_test_batch_end(None, None, outputs, batch, 0)
    callback.on_test_end(trainer(None, tmp_path), None)
    assert not capsys.readouterr().out and not list(tmp_path.iterdir())


def test_a_second_test_starts_afresh(tmp_path):
    data, callback = value_data(), TestReport()
    feed(callback, Task(), values(data))
    feed(callback, Task(), values(data, range(20)))
    callback.on_test_end(trainer(data, tmp_path), Task())
    assert json.loads((tmp_path / "metrics.json").read_text())["num_sequences"] == 20


class Devices:
    """Stands for the processes of a distributed test, each with rows of its own."""

    def __init__(self, monkeypatch, callbacks):
        self.callbacks = callbacks
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: len(callbacks))
        monkeypatch.setattr(torch.distributed, "all_gather_object", self.gather)

    def gather(self, parts, own):
        name = "_predictions" if own == self.callbacks[0]._predictions else "_drawn"
        parts[:] = [getattr(callback, name) for callback in self.callbacks]


def test_predictions_of_all_devices(tmp_path, monkeypatch, capsys):
    data = value_data()
    callbacks = [TestReport(), TestReport()]
    feed(callbacks[0], Task(), values(data, range(0, NUM, 2)))
    feed(callbacks[1], Task(), values(data, [*range(1, NUM, 2), 0]))  # one twice, to be even
    Devices(monkeypatch, callbacks)
    callbacks[0].on_test_end(trainer(data, tmp_path), Task())
    assert json.loads((tmp_path / "metrics.json").read_text())["num_sequences"] == NUM
    assert len((tmp_path / "per_sequence.csv").read_text().splitlines()) == NUM + 1
    capsys.readouterr()
    feed(callbacks[0], Task(), values(data))
    callbacks[0].on_test_end(trainer(data, tmp_path / "other", first=False), Task())
    assert not capsys.readouterr().out and not (tmp_path / "other").exists()


def folds(data):
    maps = {}
    for row, sequence in enumerate(data.sequences):
        probabilities = np.zeros((len(sequence),) * 2, np.float32)
        maps[row] = Fold(probabilities, data.labels[row][: row % 4])
    return maps


def pair_data():
    pairs = [np.array([[0, 15], [1, 14], [2, 13]])] * NUM
    return stand_in(LabelSpec("pairs", "pairs", 1), pairs)


def test_all_structures_are_scored_and_few_maps_are_kept(tmp_path):
    data, callback = pair_data(), TestReport()
    feed(callback, Pairs(), folds(data))
    assert len(callback._predictions) == NUM and len(callback._drawn) == 100
    assert all(isinstance(each, np.ndarray) for each in callback._predictions.values())
    one, two = TestReport(), TestReport()  # the same ones, whoever had them, in whatever order
    half = {row: fold for row, fold in folds(data).items() if row % 2}
    feed(one, Pairs(), dict(reversed(half.items())), size=3)
    feed(two, Pairs(), {row: fold for row, fold in folds(data).items() if row not in half})
    both = one._drawn | two._drawn
    assert set(callback._drawn) <= set(both)
    callback.on_test_end(trainer(data, tmp_path), Pairs())
    assert json.loads((tmp_path / "metrics.json").read_text())["num_sequences"] == NUM
    assert (tmp_path / "contacts_low.png").exists() and (tmp_path / "arcs_high.png").exists()
    assert not callback._drawn and not callback._predictions  # they are large


def test_a_headline_that_the_report_does_not_know(tmp_path, capsys):
    """An objective of the user's own may watch a score of its own."""

    class Own(Task):
        monitor = "val/my_score"

    data, callback = value_data(), TestReport()
    feed(callback, Own(), values(data))
    callback.on_test_end(trainer(data, tmp_path), Own())
    first = next(iter(json.loads((tmp_path / "metrics.json").read_text())["metrics"]))
    assert f"{first} by length" in capsys.readouterr().out


def test_facts_to_read():
    files = ", ".join(f"a/folder/{i}.ct" for i in range(90))
    dropped = LEAKS | {"exact_copies": 0, "dropped_from_training": 1200}
    said = readable({"data": files, "leaks": {"val": dropped, "test": LEAKS}, "split": "by hash"})
    assert list(said) == ["data", "leaks, val", "leaks, test", "split"]
    notes = readable({"notes": ["one", "two"], "split": "word " * 50, "n": 3})
    assert notes["notes"] == "one\ntwo" and notes["n"] == 3
    assert max(map(len, notes["split"].splitlines())) <= 100 < len(notes["split"])
    assert said["data"] == "0.ct, 1.ct, 2.ct and 87 more"
    assert said["leaks, val"].startswith("0 of 42 are exact copies")
    assert " ".join(said["leaks, val"].split()).endswith(
        "; 1,200 training sequences were left out for it"
    )
