import csv
import errno
import logging
import os
import time
from types import SimpleNamespace

import pytest
import torch
import wandb
from runs import fit, words, write_fasta

from rnafm.callbacks import LossCurve, OfflineFirstWandbLogger, RunProgress
from rnafm.callbacks.pictures import _smooth
from rnafm.callbacks.progress import _duration
from rnafm.cli import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return fit(
        folder,
        write_fasta(folder / "x.fa"),
        "--trainer.max_steps=10",
        "--trainer.log_every_n_steps=5",
    )


def test_all_that_is_promised_is_logged(run):
    with (run / "metrics.csv").open() as file:
        names = set(next(csv.reader(file)))
    assert {
        "train/loss",
        "train/grad_norm",
        "val/loss",
        "val/perplexity",
        "val/accuracy",
        "val/baseline_accuracy",
        "val/baseline_loss",
        "lr-AdamW/pg1",
    } <= names


def test_the_loss_curve_is_drawn_and_goes_on(run, tmp_path):
    assert (run / "loss.png").read_bytes().startswith(b"\x89PNG")
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"][
        "LossCurve"
    ]
    assert [step for step, _ in state["val"]] == [5, 10]
    assert [step for step, _ in state["train"]] == [5, 10]
    continued = LossCurve()
    continued.load_state_dict(state)
    assert continued.state_dict() == state
    continued.draw(tmp_path / "a" / "loss.png")
    assert list((tmp_path / "a").iterdir()) == [tmp_path / "a" / "loss.png"]


@pytest.mark.parametrize("end", ["train", "exception"])
def test_quick_validations_share_a_picture_and_none_is_left_out(end, tmp_path, monkeypatch):
    trainer = SimpleNamespace(
        callback_metrics={"val/loss": 1.0},
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        global_step=0,
        log_dir=str(tmp_path),
        is_global_zero=True,
    )
    drawn = []
    monkeypatch.setattr(LossCurve, "draw", lambda self, path: drawn.append((path, len(self.val))))
    curve = LossCurve()
    finish = {
        "train": lambda: curve.on_train_end(trainer, None),
        "exception": lambda: curve.on_exception(trainer, None, RuntimeError()),
    }[end]
    for trainer.global_step in range(4):
        curve.on_validation_end(trainer, None)
    path = tmp_path / "loss.png"
    assert drawn == [(path, 1)]
    finish()
    finish()
    assert drawn == [(path, 1), (path, 4)]
    monkeypatch.setattr("rnafm.callbacks.pictures._SECONDS", 0.0)
    curve.on_validation_end(trainer, None)
    assert drawn[2:] == [(path, 5)]


def test_a_picture_that_cannot_be_written_does_not_end_the_run(tmp_path, monkeypatch, caplog):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full)
    curve = LossCurve()
    curve.load_state_dict({"train": [(1, 1.0), (2, 0.5)], "val": [], "baseline": None})
    curve.draw(tmp_path / "loss.png")
    assert "loss.png: is not drawn (No space left on device)" in caplog.text
    assert not list(tmp_path.iterdir())


def test_smoothing_is_a_moving_mean():
    points = [(step, float(step % 2)) for step in range(100)]
    assert all(abs(loss - 0.5) < 0.11 for _, loss in _smooth(points))
    assert _smooth(points[:5]) == points[:5]


def test_a_log_gets_lines_with_rate_and_time_left(tmp_path, capsys):
    fit(tmp_path, write_fasta(tmp_path / "x.fa"), "--trainer.max_steps=10")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert lines[0].startswith("step 5/10  0:0")
    assert "left" in lines[0] and "tokens/s" in lines[0] and "val/loss" in lines[0]
    assert lines[-1].startswith("step 10/10  0:00 left")


def test_the_bar_can_be_switched_off(tmp_path, capsys):
    options = ("--trainer.max_steps=5", "--trainer.enable_progress_bar=false")
    fit(tmp_path, write_fasta(tmp_path / "x.fa"), *options)
    assert "step 5/5" not in capsys.readouterr().err


def test_durations():
    assert [_duration(s) for s in (5, 65, 3700)] == ["0:05", "1:05", "1:01:40"]
    assert RunProgress(log_seconds=1.0).log_seconds == 1.0


def test_without_a_key_wandb_is_offline_and_says_how_to_upload(tmp_path, monkeypatch, caplog):
    for name in [name for name in os.environ if name.startswith("WANDB")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with caplog.at_level(logging.INFO):
        logger = OfflineFirstWandbLogger(save_dir=str(tmp_path), project="rnafm")
    assert "wandb sync" in caplog.text
    logger.log_metrics({"val/loss": 1.25}, step=3)
    logger.finalize("success")
    wandb.finish()
    (file,) = tmp_path.rglob("run-*.wandb")
    for _ in range(600):  # another process writes it, late on a busy machine
        if b"val/loss" in file.read_bytes():
            break
        time.sleep(0.1)
    assert b"val/loss" in file.read_bytes()


@pytest.mark.slow
def test_a_continued_run_is_the_same_run_of_wandb(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    fasta = write_fasta(tmp_path / "x.fa")
    options = [
        *words(tmp_path, fasta, "--trainer.logger=rnafm.callbacks.OfflineFirstWandbLogger"),
        f"--trainer.logger.save_dir={tmp_path}",
        "--trainer.logger.project=run",
    ]
    options = [each for each in options if "init_args" not in each or "logger" not in each]
    main([*options, "--trainer.max_steps=5"])
    wandb.finish()
    main([*options, "--trainer.max_steps=10", "--ckpt_path=last"])
    wandb.finish()
    main([*options, "--trainer.max_steps=5"])  # a new run is another one
    wandb.finish()
    first, second, third = (
        next((tmp_path / "run" / f"version_{n}" / "wandb").glob("offline-run-*")) for n in range(3)
    )
    ids = [path.name.rpartition("-")[2] for path in (first, second, third)]
    assert ids[0] == ids[1] != ids[2]
    for path, name in zip((first, second, third), ids, strict=True):
        assert (path / f"run-{name}.wandb").is_file()  # `wandb sync` puts both parts into one run
    (last,) = (tmp_path / "run" / "version_1").rglob("last.ckpt")
    checkpoint = torch.load(last, weights_only=True)
    assert checkpoint["wandb_id"] == ids[0] and checkpoint["global_step"] == 10
    assert last.parents[1].name == ids[0]
