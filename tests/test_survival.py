"""Runs go on where disks fail, and save as often as asked."""

import errno
import os

import pytest
import torch
from lightning.fabric.loggers.csv_logs import _ExperimentWriter as ExperimentWriter
from runs import curve, fit, newest, weights, write_fasta

from rnafm.callbacks import SaveLast
from rnafm.files import check_seal
from rnafm.tasks import MaskedLM

OPTIONS = ("--trainer.max_steps=12", "--trainer.val_check_interval=4")


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "x.fa", count=600)


class Disk:
    """Renaming fails while the run stands between two steps."""

    def __init__(self, monkeypatch, first, last, code=errno.ENOSPC):
        self.step, self.full, self.code = 0, range(first, last + 1), code
        replace, train = os.replace, MaskedLM.training_step

        def training_step(task, batch):
            self.step = task.global_step + 1
            return train(task, batch)

        def fail(source, target):
            if self.step in self.full and str(target).endswith(".ckpt"):
                raise OSError(code, os.strerror(code))
            replace(source, target)

        monkeypatch.setattr(MaskedLM, "training_step", training_step)
        monkeypatch.setattr(os, "replace", fail)


def test_a_disk_that_is_full_for_a_while(tmp_path, fasta, monkeypatch, capsys):
    Disk(monkeypatch, 5, 8)
    run = fit(tmp_path, fasta, *OPTIONS)
    text = capsys.readouterr().err
    assert "The checkpoint of step 8 could not be written to" in text
    assert "No space left on device. Training goes on and what was saved before stays" in text
    assert len(curve(run, "train/loss")) == 12
    assert torch.load(run / "checkpoints" / "last.ckpt")["global_step"] == 12
    # The best of step 8 was not written, so that of step 4 stayed until that of step 12 came.
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "last.ckpt",
        "step-12.ckpt",
    ]


def test_metrics_wait_for_a_disk_that_is_full_for_a_while(tmp_path, fasta, monkeypatch, capsys):
    save, attempts = ExperimentWriter.save, []

    def full(self):
        attempts.append(len(attempts))
        if 4 <= len(attempts) < 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self)

    monkeypatch.setattr(ExperimentWriter, "save", full)
    run = fit(tmp_path, fasta, *OPTIONS)
    assert "metrics.csv could not be written ([Errno 28] No space" in capsys.readouterr().err
    assert len(curve(run, "train/loss")) == 12


@pytest.mark.slow
def test_a_disk_that_stays_full_ends_the_run_with_an_error(tmp_path, fasta, monkeypatch):
    Disk(monkeypatch, 5, 12)
    with pytest.raises(
        SystemExit, match=r"not all of it could be saved \(.*last.ckpt: No space left.*continue"
    ):
        fit(tmp_path, fasta, *OPTIONS)
    saved = newest(tmp_path) / "checkpoints"
    assert sorted(path.name for path in saved.iterdir()) == ["last.ckpt", "step-4.ckpt"]
    assert torch.load(saved / "last.ckpt")["global_step"] == 4
    monkeypatch.undo()
    resumed = fit(tmp_path, fasta, *OPTIONS, "--ckpt_path=last")
    whole = fit(tmp_path / "whole", fasta, *OPTIONS)
    for name, value in weights(resumed).items():
        assert value.equal(weights(whole)[name]), name


def test_a_damaged_checkpoint_is_not_continued(tmp_path, fasta):
    last = fit(tmp_path, fasta, *OPTIONS) / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 16
    assert all(check_seal(path) for path in last.parent.iterdir())
    last.write_bytes(content)
    with pytest.raises(SystemExit, match=r"fit: .*last.ckpt is damaged: .*first: .*step-\d+.ckpt"):
        fit(tmp_path, fasta, *OPTIONS, "--ckpt_path=last")


EVERY = "--trainer.callbacks+=rnafm.callbacks.SaveLast"


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_last_is_saved_every_n_steps_and_only_between_steps(
    tmp_path, fasta, monkeypatch, accumulate
):
    saved, write = [], SaveLast.save

    def save(self, trainer, **options):
        paths = write(self, trainer, **options)
        content = torch.load(paths[0])
        progress = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
        saved.append((content["global_step"], progress["processed"]))
        return paths

    monkeypatch.setattr(SaveLast, "save", save)
    options = (
        "--trainer.max_steps=7",
        f"--trainer.accumulate_grad_batches={accumulate}",
        f"--trainer.val_check_interval={6 * accumulate}",
    )
    run = fit(tmp_path, fasta, *options, EVERY, "--trainer.callbacks.every_n_steps=2")
    assert saved == [(step, step * accumulate) for step in (2, 4, 6, 7)]
    # Saving more often changes nothing, and what is best is still found out after validation.
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "last.ckpt",
        "step-6.ckpt",
    ]
    monkeypatch.undo()
    whole = fit(tmp_path / "whole", fasta, *options)
    for name, value in weights(run).items():
        assert value.equal(weights(whole)[name]), name


def test_a_negative_interval_is_refused():
    with pytest.raises(ValueError, match=r"every_n_steps \(-1\) must be 0 or more"):
        SaveLast(every_n_steps=-1)


@pytest.mark.slow
def test_a_run_killed_between_validations_goes_on_from_the_last_save(tmp_path, fasta, monkeypatch):
    step = MaskedLM.training_step

    def die(self, batch):
        if self.global_step == 7:
            os._exit(9)
        return step(self, batch)

    options = (*OPTIONS, "--trainer.val_check_interval=100")
    monkeypatch.setattr(MaskedLM, "training_step", die)
    child = os.fork()
    if child == 0:
        fit(tmp_path, fasta, *options, EVERY, "--trainer.callbacks.every_n_steps=2")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    monkeypatch.undo()
    assert torch.load(newest(tmp_path) / "checkpoints" / "last.ckpt")["global_step"] == 6
    resumed = fit(tmp_path, fasta, *options, "--ckpt_path=last")
    whole = fit(tmp_path / "whole", fasta, *options)
    for name, value in weights(resumed).items():
        assert value.equal(weights(whole)[name]), name
    losses = curve(whole, "train/loss")
    assert curve(resumed, "train/loss") == {step: losses[step] for step in range(6, 12)}


@pytest.mark.slow
def test_a_link_is_a_file(tmp_path, fasta):
    recipe = tmp_path / "link.yaml"
    recipe.write_text(
        "trainer: {callbacks: [{class_path: lightning.pytorch.callbacks.ModelCheckpoint, "
        "init_args: {monitor: val/loss, save_last: link}}]}"
    )
    run = fit(tmp_path, fasta, f"--config={recipe}", *OPTIONS)
    last = run / "checkpoints" / "last.ckpt"
    assert not last.is_symlink() and torch.load(last)["global_step"] == 12
