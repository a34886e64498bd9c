"""Runs that are told to leave, and come back as if nothing had been."""

import errno
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import ROOT, curve, fit, newest, weights, words, write_fasta

from rnafm.callbacks import Preempted, Preemption
from rnafm.cli import main
from rnafm.data.rnacentral import RNAcentralDataModule
from rnafm.tasks import MaskedLM, SequencePrediction

OPTIONS = (
    "--trainer.max_steps=24",
    "--model.encoder.dropout=0.1",
    "--model.encoder.attention_dropout=0.1",
)
COUNT = 380  # 12 or 13 packs in an epoch
SAVE = ("--trainer.callbacks+=rnafm.callbacks.SaveLast", "--trainer.callbacks.every_n_steps=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return fit(folder, write_fasta(folder / "x.fa", COUNT), *OPTIONS)


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "x.fa", COUNT)


def send(monkeypatch, signum, hook, step, task=MaskedLM):
    """The process gets the signal in the middle of a step or of a validation."""
    original = getattr(task, hook)

    def replacement(self, batch):
        if self.global_step == step:
            os.kill(os.getpid(), signum)
        return original(self, batch)

    monkeypatch.setattr(task, hook, replacement)


def stopped(call, *args):
    """The exception with which a run has ended."""
    with pytest.raises(Preempted) as info:
        call(*args)
    return info.value


def same(first, second):
    first, second = weights(first), weights(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value.equal(second[name]), name


@pytest.mark.parametrize(
    ("signum", "hook", "step", "saved"),
    [
        pytest.param(signal.SIGTERM, "training_step", 6, 7, marks=pytest.mark.slow),
        (signal.SIGUSR1, "training_step", 9, 10),  # a validation follows, and is stopped
        pytest.param(signal.SIGTERM, "validation_step", 15, 15, marks=pytest.mark.slow),
        pytest.param(
            signal.SIGUSR1, "training_step", 12, 13, marks=pytest.mark.slow
        ),  # ends an epoch
        pytest.param(signal.SIGTERM, "training_step", 0, 1, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(  # noqa: PLR0913, PLR0917
    tmp_path, fasta, whole, monkeypatch, capsys, signum, hook, step, saved
):
    handlers = {each: signal.getsignal(each) for each in signal.valid_signals() - {9, 19}}
    send(monkeypatch, signum, hook, step)
    stop = stopped(fit, tmp_path, fasta, *OPTIONS)
    assert stop.code == {signal.SIGTERM: 143, signal.SIGUSR1: 75}[signum]
    assert {each: signal.getsignal(each) for each in handlers} == handlers  # given back
    first = newest(tmp_path)
    (last,) = (first / "checkpoints").glob("last*")
    assert torch.load(last)["global_step"] == stop.step == saved
    text = f"{signum.name}: stopped at step {saved} and saved. To continue: the same command"
    assert f"{text} with --ckpt_path {last}" in capsys.readouterr().err

    monkeypatch.undo()
    resumed = fit(tmp_path, fasta, *OPTIONS, "--ckpt_path=last")
    same(resumed, whole)
    for name in ("train/loss", "val/loss"):  # no validation is left out, and none is done twice
        parts, expected = (curve(first, name), curve(resumed, name)), curve(whole, name)
        assert parts[0] | parts[1] == expected and not parts[0].keys() & parts[1].keys()
    due = signum == signal.SIGUSR1 and step == 9
    said = "which was interrupted" in capsys.readouterr().err
    assert said == (due or hook == "validation_step")


@pytest.mark.slow
def test_averaged_weights_are_taken_out_of_the_model_before_it_is_saved(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    options = [
        "fit",
        "--config=configs/finetune/sequence.yaml",
        "--config=configs/trainer/cpu.yaml",
        "--model.encoder={num_layers: 1, embed_dim: 16, num_heads: 2, ffn_dim: 16}",
        "--model.adaptation.ema=0.9",
        "--data.tokens_per_batch=16384",
        "--trainer.max_epochs=2",
        "--trainer.log_every_n_steps=1",
    ]
    name = "--trainer.logger.init_args.save_dir"
    main([*options, f"{name}={tmp_path / 'whole'}"])
    parts = [*options, f"{name}={tmp_path / 'parts'}"]
    steps = torch.load(next((tmp_path / "whole").rglob("last.ckpt")))["global_step"]
    send(monkeypatch, signal.SIGTERM, "validation_step", steps // 2, SequencePrediction)
    assert stopped(main, parts).step == steps // 2 > 1
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    main([*parts, "--ckpt_path=last"])
    results = {}
    for part, version in (("whole", 0), ("parts", 1)):
        run = tmp_path / part / "sequence" / f"version_{version}" / "checkpoints"
        results[part] = torch.load(run / "last.ckpt")
        assert (run / "best.ckpt").is_file()
    for kind in ("state_dict", "current_model_state"):
        for key, value in results["whole"][kind].items():
            assert value.equal(results["parts"][kind][key]), (kind, key)
        assert results["whole"][kind].keys() == results["parts"][kind].keys()


def in_another_process(call, *args):
    """Run in a child that has everything imported already; its number."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    try:
        call(*args)
    except SystemExit as stop:
        os._exit(stop.code or 0)
    except BaseException:  # noqa: BLE001
        os._exit(1)
    os._exit(0)


def exit_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_whatever_comes_and_whenever(tmp_path, fasta, whole):
    # Every run dies of something; the next one takes over, as an sbatch script does it.
    chosen, codes, left = random.Random(0), [], time.monotonic() + 120  # noqa: S311
    while 0 not in codes and time.monotonic() < left:
        child = in_another_process(fit, tmp_path, fasta, *OPTIONS, *SAVE, "--ckpt_path=auto")
        if len(codes) < 6:
            runs = len(list(tmp_path.rglob("fit.yaml")))
            while len(list(tmp_path.rglob("fit.yaml"))) == runs and time.monotonic() < left:
                time.sleep(0.01)  # it has begun
            time.sleep(chosen.uniform(0.0, 0.4))
            signum = (signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL)[len(codes) % 3]
            os.killpg(child, signum)
        codes.append(exit_code(child))
    assert codes[-1] == 0 and set(codes) <= {0, 75, 143, -9}
    same(newest(tmp_path), whole)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGUSR1, 75), (signal.SIGTERM, 143)])
def test_workers_outlive_a_signal_to_all_processes(tmp_path, fasta, signum, code):
    # As SLURM sends it: a worker that died of it would end the run with an error.
    options = (*OPTIONS, "--data.num_workers=2", "--trainer.max_steps=100000")
    child = in_another_process(fit, tmp_path, fasta, *options)
    left = time.monotonic() + 60
    while not list(tmp_path.rglob("last.ckpt")) and time.monotonic() < left:
        time.sleep(0.05)
    os.killpg(child, signum)
    assert exit_code(child) == code
    assert torch.load(newest(tmp_path) / "checkpoints" / "last.ckpt")["global_step"] >= 5


def test_before_the_first_step_there_is_nothing_to_save(tmp_path, fasta, monkeypatch, capsys):
    setup = RNAcentralDataModule.train_dataloader

    def told(self):
        os.kill(os.getpid(), signal.SIGTERM)
        return setup(self)

    monkeypatch.setattr(RNAcentralDataModule, "train_dataloader", told)
    before = signal.getsignal(signal.SIGTERM)
    stop = stopped(fit, tmp_path, fasta, *OPTIONS)
    assert stop.code == 143 and not stop.saved and not list(tmp_path.rglob("*.ckpt"))
    assert "SIGTERM: stopped before the first step" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_stop_that_could_not_be_saved_is_an_error(tmp_path, fasta, monkeypatch, capsys):
    send(monkeypatch, signal.SIGTERM, "training_step", 6)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    replace = os.replace
    monkeypatch.setattr(
        os, "replace", lambda a, b: (fail if str(b).endswith(".ckpt") else replace)(a, b)
    )
    assert stopped(fit, tmp_path, fasta, *OPTIONS).code == 1
    text = capsys.readouterr().err
    assert "could not be written" in text and "stopped at step 7, and that could not be" in text


@pytest.fixture
def scontrol(tmp_path, monkeypatch):
    """A cluster that writes down what it is told."""
    (tmp_path / "bin").mkdir()
    program, told = tmp_path / "bin" / "scontrol", tmp_path / "told"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {told}\nif [ "$2" = 99 ]; then echo denied >&2; exit 3; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    return told


def test_a_slurm_job_goes_back_into_the_queue(tmp_path, fasta, monkeypatch, scontrol, caplog):
    send(monkeypatch, signal.SIGUSR1, "training_step", 6)
    with caplog.at_level(logging.INFO, "rnafm"):
        assert stopped(fit, tmp_path, fasta, *OPTIONS).code == 75
    assert scontrol.read_text() == "requeue 4711\n"
    assert "Job 4711 is in the queue again" in caplog.text
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "12")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    stopped(fit, tmp_path, fasta, *OPTIONS)
    assert scontrol.read_text() == "requeue 4711\nrequeue 12_3\n"


@pytest.mark.slow
def test_what_is_not_requeued(tmp_path, fasta, monkeypatch, scontrol, caplog):
    no = ("--trainer.callbacks+=rnafm.callbacks.Preemption", "--trainer.callbacks.requeue=false")
    send(monkeypatch, signal.SIGUSR1, "training_step", 6)
    stopped(fit, tmp_path, fasta, *OPTIONS, *no)
    send(monkeypatch, signal.SIGTERM, "training_step", 2)  # scancel means it
    assert stopped(fit, tmp_path, fasta, *OPTIONS).code == 143
    assert not scontrol.exists()
    send(monkeypatch, signal.SIGUSR1, "training_step", 1)
    for job, reason in (("99", "denied"), ("4; rm", "is no number of a job")):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        stopped(fit, tmp_path, fasta, *OPTIONS)
        assert reason in caplog.text and "submit it again by hand" in caplog.text
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", "")
    stopped(fit, tmp_path, fasta, *OPTIONS)
    assert "No such file or directory: 'scontrol'" in caplog.text


def test_signals_cannot_be_heard_outside_the_main_thread(monkeypatch):
    callback, set_handlers = Preemption(), []
    monkeypatch.setattr(signal, "signal", lambda *args: set_handlers.append(args))
    monkeypatch.setattr("threading.current_thread", object)
    callback.setup(None, None, "fit")
    assert not set_handlers


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_one_of_two_processes_gets_the_signal(tmp_path, fasta, signum):
    options = (*OPTIONS, "--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_steps=40")
    complete = subprocess.run(
        command(tmp_path / "whole", fasta, *options), check=True, capture_output=True, timeout=200
    )
    assert complete.returncode == 0
    with subprocess.Popen(
        command(tmp_path, fasta, *options), stderr=subprocess.PIPE, text=True
    ) as run:
        while not list(tmp_path.glob("run/**/step-*.ckpt")) and run.poll() is None:
            time.sleep(0.02)
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text()
        os.kill(int(children.split()[0]), signum)  # not the one that writes
        text = run.communicate(timeout=60)[1]
    assert run.returncode == {signal.SIGTERM: 143, signal.SIGUSR1: 75}[signum], text
    assert f"{signum.name}: stopped at step" in text
    subprocess.run(command(tmp_path, fasta, *options, "--ckpt_path=last"), check=True, timeout=200)
    same(newest(tmp_path), newest(tmp_path / "whole"))


def command(folder, fasta, *options):
    return [sys.executable, "-m", "rnafm", *words(folder, fasta, *options)]
