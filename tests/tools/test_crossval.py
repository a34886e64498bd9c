"""``rnafm crossval``: which runs are made, with which words, and what stops it."""

import csv
import json
from pathlib import Path

import pytest
from runs import ROOT

from rnafm.cli import main
from rnafm.tools import crossval as tool

RECIPE = ROOT / "configs" / "finetune" / "sequence.yaml"
TABLE = "data.csv"


@pytest.fixture
def settings(monkeypatch):
    """What the recipe says, without asking the real parser."""
    found = {
        "trainer": {"max_epochs": 10, "devices": 1},
        "model": {"class_path": "rnafm.tasks.SequencePrediction"},
        "data": {
            "class_path": "rnafm.data.labelled.LabelledDataModule",
            "init_args": {"split": {"by": "hash", "hold_out": []}, "test_files": None},
        },
    }
    monkeypatch.setattr(tool, "_settings", lambda _: found)
    return found


class Runs:
    """Stands for the processes: notes the words, and leaves the files that they would leave."""

    def __init__(self):
        self.calls = []
        self.failing = None  # what fails: verb, name of the run

    def __call__(self, words):
        verb, *options = words
        given = dict(word.removeprefix("--").split("=", 1) for word in options)
        logger = {key: given[f"trainer.logger.init_args.{key}"] for key in ("save_dir", "name")}
        name = given["trainer.logger.init_args.version"]
        run = Path(logger["save_dir"]) / logger["name"] / name
        self.calls.append((verb, name, given))
        (run / "checkpoints").mkdir(parents=True, exist_ok=True)
        if verb == "fit":
            (run / "checkpoints" / "last.ckpt").touch()
        if self.failing == (verb, name):
            raise ValueError(f"rnafm {verb} ended with 1: see above")
        if verb == "fit":
            (run / "checkpoints" / "best.ckpt").touch()
            return
        assert Path(given["ckpt_path"]) == run / "checkpoints" / "best.ckpt"
        (run / "test").mkdir()
        value = (int(given["data.split.fold"]) + int(given["seed_everything"])) / 10
        found = {"metrics": {"f1": {"value": value}}, "floors": {}}
        (run / "test" / "metrics.json").write_text(json.dumps(found))

    @property
    def done(self):
        return [(verb, name) for verb, name, _ in self.calls]


@pytest.fixture
def runs(settings, monkeypatch):
    assert settings["data"]  # stands in for the parser
    fake = Runs()
    monkeypatch.setattr(tool, "execute", fake)
    return fake


def crossval(folder, *more, folds=2, seeds=1):
    main(
        ["crossval", f"--config={RECIPE}", f"--folds={folds}", f"--seeds={seeds}",
         f"--out={folder / 'cv'}", *more]
    )  # fmt: skip


def test_folds_and_seeds(runs, tmp_path, capsys):
    crossval(tmp_path, "--", "--trainer.max_epochs=2", "--data.split.by=hash", folds=3, seeds=2)
    names = [f"fold{fold}-seed{seed}" for seed in range(2) for fold in range(3)]
    assert runs.done == [(verb, name) for name in names for verb in ("fit", "test")]
    for _, name, given in runs.calls:
        assert given["config"] == str(RECIPE)
        assert given["trainer.max_epochs"] == "2" and given["data.split.by"] == "hash"
        assert given["data.split.folds"] == "3"
        assert name == f"fold{given['data.split.fold']}-seed{given['seed_everything']}"
        assert given["trainer.logger"].endswith("CSVLogger")
    assert all("ckpt_path" not in given for verb, _, given in runs.calls if verb == "fit")
    summary = json.loads((tmp_path / "cv" / "summary.json").read_text())
    assert summary["metrics"]["f1"]["model"]["mean"] == pytest.approx(0.15)
    assert "Run 6 of 6: fold 2, seed 1" in capsys.readouterr().err


def test_options_come_after_the_recipe_and_before_the_fold(runs, tmp_path, monkeypatch):
    """Later words win, and the fold is what this command is about."""
    words = []
    monkeypatch.setattr(tool, "execute", lambda given: (words.append(given), runs(given)))
    crossval(tmp_path, "--", "--data.split.fold=7")
    fit = words[0]
    places = [fit.index(word) for word in (f"--config={RECIPE}", "--data.split.fold=7")]
    assert places[0] < places[1] < fit.index("--data.split.fold=0")


@pytest.mark.usefixtures("runs")
def test_out_is_named_after_the_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["crossval", "--config", str(RECIPE), "--folds", "2"])
    assert (tmp_path / "crossval" / "sequence" / "summary.json").is_file()
    assert (tmp_path / "crossval" / "sequence" / "fold1-seed0" / "test" / "metrics.json").is_file()


def test_what_is_done_is_not_done_again(runs, tmp_path, capsys):
    crossval(tmp_path)
    runs.calls.clear()
    crossval(tmp_path, seeds=2)  # more seeds are more of the same
    assert runs.done == [(v, f"fold{fold}-seed1") for fold in range(2) for v in ("fit", "test")]
    assert "fold0-seed0 is done already" in capsys.readouterr().err


def test_a_failed_fit_goes_on_from_where_it_was(runs, tmp_path):
    runs.failing = ("fit", "fold1-seed0")
    with pytest.raises(SystemExit, match="rnafm crossval: rnafm fit ended with 1"):
        crossval(tmp_path)
    assert not (tmp_path / "cv" / "summary.json").exists()
    runs.failing = None
    runs.calls.clear()
    crossval(tmp_path)
    assert runs.done == [("fit", "fold1-seed0"), ("test", "fold1-seed0")]
    last = tmp_path / "cv" / "fold1-seed0" / "checkpoints" / "last.ckpt"
    assert runs.calls[0][2]["ckpt_path"] == str(last)
    assert (tmp_path / "cv" / "summary.json").is_file()


def test_a_failed_test_is_repeated_without_the_fit(runs, tmp_path):
    runs.failing = ("test", "fold0-seed0")
    with pytest.raises(SystemExit, match="rnafm crossval: rnafm test ended with 1"):
        crossval(tmp_path)
    runs.failing = None
    runs.calls.clear()
    crossval(tmp_path)
    assert runs.done[0] == ("test", "fold0-seed0") and runs.done.count(runs.done[0]) == 1
    assert ("fit", "fold0-seed0") not in runs.done


def test_a_fit_that_cannot_go_on_leaves_no_old_weights(runs, tmp_path):
    """Lightning would write best-v1.ckpt beside it, and the old one would be tested."""
    old = tmp_path / "cv" / "fold0-seed0" / "checkpoints" / "best.ckpt"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    crossval(tmp_path)
    assert old.read_text() == "" and "ckpt_path" not in runs.calls[0][2]


@pytest.mark.usefixtures("settings")
def test_a_recipe_without_best_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "execute", lambda _: None)
    (tmp_path / "cv" / "fold0-seed0").mkdir(parents=True)
    with pytest.raises(SystemExit, match=r"best.ckpt: the recipe did not make it; give it a Mod"):
        crossval(tmp_path)


def test_runs_of_other_settings_are_not_mixed(runs, settings, tmp_path):
    crossval(tmp_path)
    runs.calls.clear()
    with pytest.raises(SystemExit, match=r"cv has runs with other settings \(folds 2, now 3\)"):
        crossval(tmp_path, folds=3)
    settings["trainer"]["devices"] = 4  # where it runs is no matter
    crossval(tmp_path)
    settings["trainer"]["max_epochs"] = 20
    with pytest.raises(SystemExit, match=r"\(trainer.max_epochs 10, now 20\); give another folder"):
        crossval(tmp_path)
    assert not runs.calls


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"split": {"by": "column"}}, "split.by column: the recipe says itself which rows are"),
        ({"split": {"by": "group", "hold_out": ["5S"]}}, "split.hold_out: the recipe says itself"),
        ({"split": {"by": "hash"}, "test_files": ["x.csv"]}, "test_files: the recipe says itself"),
        ({"fasta": ["x.fa"]}, r"data \(.*LabelledDataModule\): has no split and so no folds"),
    ],
)
def test_a_recipe_without_folds(runs, settings, tmp_path, values, message):
    settings["data"]["init_args"] = values
    with pytest.raises(SystemExit, match=f"rnafm crossval: {message}"):
        crossval(tmp_path)
    assert not runs.calls and not (tmp_path / "cv").exists()


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(("folds", "seeds"), [(1, 1), (2, 0)])
def test_too_few(tmp_path, folds, seeds):
    message = rf"folds \({folds}\) must be at least 2, seeds \({seeds}\) at least 1"
    with pytest.raises(SystemExit, match=message):
        crossval(tmp_path, folds=folds, seeds=seeds)


class TestRealParser:
    """The settings are what ``rnafm fit`` would use."""

    def test_options_after_two_dashes_count(self, tmp_path, monkeypatch):
        fake = Runs()
        monkeypatch.setattr(tool, "execute", fake)
        crossval(tmp_path, "--", "--trainer.max_epochs=2")
        claimed = json.loads((tmp_path / "cv" / "crossval.json").read_text())
        assert claimed["trainer"]["max_epochs"] == 2 and claimed["folds"] == 2
        assert claimed["data"]["init_args"]["split"]["by"] == "hash"
        assert len(fake.calls) == 4

    def test_a_split_by_column_and_a_wrong_option_are_refused_at_once(
        self, tmp_path, monkeypatch, capsys
    ):
        fake = Runs()
        monkeypatch.setattr(tool, "execute", fake)
        options = ("--", "--data.split.by=column", "--data.split.column=part")
        with pytest.raises(SystemExit, match=r"split.by column: the recipe says itself"):
            crossval(tmp_path, *options)
        with pytest.raises(SystemExit):
            crossval(tmp_path, "--", "--trainer.epochs=2")
        assert "trainer.epochs" in capsys.readouterr().err and not fake.calls


def test_execute_says_what_failed(capfd):
    with pytest.raises(ValueError, match=r"rnafm nothing ended with 1: see above; run the same"):
        tool.execute(["nothing"])
    assert "there is no command 'nothing'" in capfd.readouterr().err


@pytest.mark.slow
def test_two_real_folds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tool, "execute", main)  # in this process, which is faster
    rows = [(f"s{i}", ("ACG" if i % 2 else "GGU") * 5 + "ACGU"[i % 4] * i, "ab"[i % 2])
            for i in range(60)]  # fmt: skip
    with (tmp_path / TABLE).open("w", newline="") as file:
        csv.writer(file).writerows([("id", "sequence", "y"), *rows])
    options = [
        f"--config={ROOT / 'configs' / 'trainer' / 'cpu.yaml'}",
        f"--data.files=[{tmp_path / TABLE}]",
        "--data.labels=[y]",
        "--data.split={by: hash, val: 0.2}",
        "--data.on_leak=warn",
        "--model.objective.init_args.names=[a, b]",
        "--model.encoder={num_layers: 1, embed_dim: 16, num_heads: 2, ffn_dim: 32}",
        "--trainer.max_epochs=1",
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    ]
    crossval(tmp_path, "--", *options)
    tested = []
    for fold in range(2):
        run = tmp_path / "cv" / f"fold{fold}-seed0"
        with (run / "test" / "per_sequence.csv").open(newline="") as file:
            tested.append({line["id"] for line in csv.DictReader(file)})
    assert tested[0] | tested[1] == {name for name, *_ in rows} and not tested[0] & tested[1]
    summary = json.loads((tmp_path / "cv" / "summary.json").read_text())
    assert {"model", "majority class", "k-mer model"} == set(summary["metrics"]["accuracy"])
    capsys.readouterr()
    main(["compare", str(tmp_path / "cv"), str(tmp_path / "cv" / "fold0-seed0")])
    shared = len(tested[0])
    assert f"of {shared} sequences ({60 - shared} more are in" in capsys.readouterr().out
