"""W&B without a network, a login or a disk, switched off or missing: no run ends by it."""

import csv
import logging
import sys
from types import SimpleNamespace

import pytest
import torch
import wandb
from batches import RNA, TINY, random_batch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from runs import ROOT, words, write_fasta
from tracked import Page

from rnafm.callbacks import KeepRunId, OfflineFirstWandbLogger, RunPage, TestReport
from rnafm.callbacks.tracking import Forgiving
from rnafm.cli import main
from rnafm.modules import Encoder

DEAD = "http://127.0.0.1:9"  # nothing listens there


@pytest.fixture(autouse=True)
def _quiet(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_FINISH_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    yield
    wandb.finish()


def test_a_key_that_cannot_be_checked_makes_the_run_offline(tmp_path, monkeypatch, caplog):
    def fail(**_):
        raise wandb.errors.AuthenticationError("the server did not respond\nin time")

    monkeypatch.setattr(wandb, "login", fail)
    logger = OfflineFirstWandbLogger(str(tmp_path), "p")
    assert logger._wandb_init["mode"] == "offline"
    assert "cannot be reached (the server did not respond): this run is logged offline" in (
        caplog.text
    )
    assert f"wandb sync {tmp_path}/p/version_0/wandb/offline-run-*" in caplog.text


def test_what_begins_online_and_cannot_goes_on_offline(tmp_path, monkeypatch, caplog):
    begin, tried = wandb.init, []

    def init(**options):
        tried.append(options["mode"])
        if options["mode"] == "online":
            raise wandb.errors.CommError("timed out")
        return begin(**options)

    monkeypatch.setattr(wandb, "init", init)
    logger = OfflineFirstWandbLogger(str(tmp_path), "p", mode="online")
    logger.log_metrics({"val/f1": 0.5}, 3)
    wandb.finish()
    assert tried == ["online", "offline"]
    assert "could not begin a run (timed out): it is logged offline" in caplog.text
    page = Page(tmp_path)
    assert page.column("val/f1") == {3: 0.5}
    assert page.metrics["val/f1"].summary.max


def test_where_wandb_cannot_start_metrics_go_to_a_file(tmp_path, monkeypatch, caplog):
    begin = wandb.init

    def init(**options):
        if options["mode"] != "disabled":
            raise OSError("wandb-core: cannot be executed")
        return begin(**options)

    monkeypatch.setattr(wandb, "init", init)
    logger = OfflineFirstWandbLogger(str(tmp_path), "p", mode="offline")
    logger.log_hyperparams({"lr": 1})
    for step in range(3):
        logger.log_metrics({"val/loss": 1.0 - step / 4}, step)
    logger.finalize("success")
    assert "metrics go to metrics.csv instead" in caplog.text
    with (tmp_path / "p" / "version_0" / "metrics.csv").open() as file:
        assert [row["val/loss"] for row in csv.DictReader(file)] == ["1.0", "0.75", "0.5"]


def test_without_wandb_it_is_a_csv_logger(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", None)
    logger = OfflineFirstWandbLogger(save_dir=str(tmp_path), project="p", id=None)
    assert type(logger) is CSVLogger
    assert logger.log_dir == str(tmp_path / "p" / "version_0")
    assert "W&B cannot be used" in caplog.text


def test_switched_off_metrics_go_to_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = OfflineFirstWandbLogger(str(tmp_path), "p")
    logger.log_metrics({"val/loss": 1.0}, 1)
    callback = RunPage()
    callback.on_fit_start(trainer(tmp_path, logger), None)
    assert callback._logger is None
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["metrics.csv"]


def trainer(folder, *loggers, **more):
    return SimpleNamespace(
        loggers=list(loggers),
        log_dir=str(folder),
        is_global_zero=True,
        fast_dev_run=False,
        state=SimpleNamespace(fn="fit"),
        **more,
    )


def test_every_failure_is_one_warning(caplog):
    forgiving = Forgiving()
    for _ in range(3):
        for what in ("pictures", "the data"):
            with forgiving(what):
                raise OSError("quota\nexceeded")
    assert [record.getMessage() for record in caplog.records] == [
        f"W&B: {what} could not be logged (OSError: quota); the run goes on"
        for what in ("pictures", "the data")
    ]
    with pytest.raises(KeyboardInterrupt), forgiving("pictures"):
        raise KeyboardInterrupt


class Broken:
    """A run of which nothing works."""

    id = "abc"
    disabled = False

    def __getattr__(self, name):
        raise ConnectionError(f"no {name} today")


def test_no_hook_passes_an_error_on(tmp_path, caplog):
    logger = OfflineFirstWandbLogger(str(tmp_path), "p", mode="offline", experiment=Broken())
    callback, task = RunPage(checkpoints="all"), SimpleNamespace(encoder=Encoder(TINY, RNA))
    (tmp_path / "loss.png").write_bytes(b"")
    batch = random_batch([9, 8])
    keeper = ModelCheckpoint(tmp_path, monitor="val/loss", save_last=True)
    keeper.best_model_path = keeper.last_model_path = str(tmp_path / "loss.png")
    run = trainer(
        tmp_path,
        logger,
        sanity_checking=False,
        global_step=3,
        callback_metrics={"val/loss": torch.tensor(1.0)},
        checkpoint_callbacks=[keeper],
        strategy=SimpleNamespace(lightning_restore_optimizer=True),
    )
    callback.on_fit_start(run, task)
    callback.on_validation_batch_end(run, task, None, batch, 0)
    callback.on_validation_end(run, task)
    callback.on_train_batch_start(run, task, batch, 0)
    run.global_step = 4
    callback.on_train_end(run, task)
    callback.on_fit_end(run, task)
    run.state.fn = "test"
    callback.on_test_start(run, task)
    report = TestReport()
    report.predictions = {0: 1}
    run.callbacks = [report]
    callback.on_test_end(run, task)
    logger.finalize("success")
    said = [record.getMessage() for record in caplog.records]
    failed = {line.removeprefix("W&B: ").partition(" could not")[0] for line in said}
    assert {
        "the page of the run",
        "the environment",  # the stand-in of a trainer has none
        "metrics",
        "pictures",
        "checkpoints",
        "predictions",
        "scores of the test",
    } <= failed
    assert len(said) == len(set(said))


@pytest.mark.slow
def test_a_run_that_breaks_does_not_break_the_training(tmp_path, monkeypatch, caplog):
    """Every hook of the page and of the logger, with a run that raises whatever is asked of it."""
    monkeypatch.setattr(wandb, "init", lambda **_: Broken())
    fasta = write_fasta(tmp_path / "x.fa", 100)
    options = [
        *[each for each in words(tmp_path, fasta) if "logger.init_args" not in each],
        f"--config={ROOT / 'configs' / 'logger' / 'wandb.yaml'}",
        f"--trainer.logger.init_args.save_dir={tmp_path}",
        "--trainer.max_steps=2",
        "--trainer.val_check_interval=1",
        "--trainer.callbacks+=rnafm.callbacks.RunPage",
        "--trainer.callbacks.init_args.checkpoints=all",
    ]
    monkeypatch.setenv("WANDB_MODE", "offline")
    with caplog.at_level(logging.WARNING):
        main(options)
    assert len(list(tmp_path.rglob("last.ckpt"))) == 1
    for what in ("metrics", "the page of the run"):
        assert caplog.text.count(f"W&B: {what} could not be logged") == 1


def test_an_id_is_kept_through_parts_that_are_not_logged():
    keeper, checkpoint = KeepRunId(), {}
    keeper.on_save_checkpoint(trainer(""), None, checkpoint)
    assert checkpoint == {}
    keeper.on_load_checkpoint(trainer(""), None, {"wandb_id": "abc"})
    keeper.on_save_checkpoint(trainer(""), None, checkpoint)
    assert checkpoint == {"wandb_id": "abc"}


def test_options_are_checked():
    with pytest.raises(ValueError, match=r"checkpoints \('some'\) must be end, all or none"):
        RunPage(checkpoints="some")
    with pytest.raises(ValueError, match=r"attention_every \(-1\) must be 0 or more"):
        RunPage(attention_every=-1)
    with pytest.raises(ValueError, match=r"table_rows \(-2\) must be 0 or more"):
        RunPage(table_rows=-2)


@pytest.mark.slow  # wandb tries for ten seconds
def test_a_real_key_and_no_network(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", DEAD)
    logger = OfflineFirstWandbLogger(str(tmp_path), "p")
    logger.log_metrics({"val/loss": 1.0}, 1)
    wandb.finish()
    assert "this run is logged offline" in caplog.text
    assert Page(tmp_path).column("val/loss") == {1: 1.0}
