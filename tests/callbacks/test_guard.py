"""Bad steps are not made, are counted and written down, and do not come back."""

import json
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
from runs import curve, fit, fit_outside, newest, weights, write_fasta

from rnafm.callbacks import LossGuard
from rnafm.callbacks.bad_steps import leaves_out_by_itself
from rnafm.tasks import MaskedLM

OPTIONS = ("--trainer.max_steps=12", "--model.encoder.dropout=0.1")
GUARD = "--trainer.callbacks+=rnafm.callbacks.LossGuard"


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "x.fa", count=600)


def poison(monkeypatch, steps, factor=float("nan")):
    """The loss of some steps is multiplied; what the batches of all steps were."""
    original, batches = MaskedLM.training_step, {}

    def training_step(self, batch):
        batches.setdefault(self.global_step, []).extend(batch.indices.tolist())
        loss = original(self, batch)
        return loss * factor if self.global_step in steps else loss

    monkeypatch.setattr(MaskedLM, "training_step", training_step)
    return batches


def lines(run):
    return [json.loads(line) for line in (run / "skipped.jsonl").read_text().splitlines()]


def checkpoint(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("accumulate", "fused"),
    [*(pytest.param(n, False, marks=pytest.mark.slow) for n in (1, 2)), (2, True)],
)
def test_a_step_without_finite_gradients_is_left_out(
    tmp_path, fasta, monkeypatch, accumulate, fused
):
    batches = poison(monkeypatch, {4})
    seen = []
    judge = LossGuard.on_before_optimizer_step

    def watch(self, trainer, task, optimizer):
        seen.append({name: value.clone() for name, value in task.state_dict().items()})
        judge(self, trainer, task, optimizer)

    monkeypatch.setattr(LossGuard, "on_before_optimizer_step", watch)
    more = (
        f"--trainer.accumulate_grad_batches={accumulate}",
        "--trainer.val_check_interval=4",
        f"--model.optimizer.fused={str(fused).lower()}",
    )
    run = fit(tmp_path, fasta, *OPTIONS, *more, "--trainer.max_steps=8")
    changed = [
        any(not first[name].equal(second[name]) for name in first)
        for first, second in pairwise(seen)
    ]
    assert changed == [step != 4 for step in range(7)]
    (line,) = lines(run)
    assert line["step"] == 4 and line["loss"] == line["grad_norm"] == "nan"
    assert line["reason"] == "the gradients are not finite (loss nan)"
    assert line["sequences"] == batches[4] and len(batches[4]) > 10 * accumulate
    # A fused optimizer leaves the step out by itself, and nobody asks before the next one.
    assert curve(run, "train/skipped_steps") == dict.fromkeys(range(4 + fused, 8), 1.0)
    last = checkpoint(run)
    assert last["global_step"] == 8 and last["callbacks"]["LossGuard"]["skipped"] == 1
    steps = {int(state["step"]) for state in last["optimizer_states"][0]["state"].values()}
    assert steps == {7}  # the optimizer has not seen it
    assert all(value.isfinite().all() for value in last["state_dict"].values())


@pytest.mark.parametrize(
    ("kind", "options", "yes"),
    [
        (torch.optim.AdamW, {"fused": True}, True),
        (torch.optim.AdamW, {}, False),
        (torch.optim.SGD, {"fused": True, "momentum": 0.9}, False),  # it would begin with garbage
    ],
)
def test_which_optimizers_leave_a_step_out_by_themselves(kind, options, yes):
    optimizer = kind([torch.nn.Parameter(torch.ones(3))], lr=0.1, **options)
    assert leaves_out_by_itself(optimizer) is yes


@pytest.mark.slow
def test_a_run_with_bad_steps_is_continued_exactly(tmp_path, fasta, monkeypatch):
    guard = (GUARD, "--trainer.callbacks.spike=3", "--trainer.callbacks.window=3")
    poison(monkeypatch, {4, 8}, 50.0)
    whole = fit(tmp_path / "whole", fasta, *OPTIONS, *guard)
    assert [line["step"] for line in lines(whole)] == [4, 8]
    assert "is above 3 times the usual 3." in lines(whole)[0]["reason"]
    fit(tmp_path, fasta, *OPTIONS, *guard, "--trainer.max_steps=7")
    resumed = fit(tmp_path, fasta, *OPTIONS, *guard, "--ckpt_path=last")
    assert [line["step"] for line in lines(resumed)] == [8]
    for name, value in weights(resumed).items():
        assert value.equal(weights(whole)[name]), name
    # What it knows of the losses, too: the next jump would be judged alike.
    first, second = (checkpoint(run)["callbacks"]["LossGuard"] for run in (whole, resumed))
    assert first == second and first["skipped"] == 2 and len(first["recent"]) == 3


def test_a_rollback_takes_the_last_checkpoint_and_other_data(tmp_path, fasta, monkeypatch, capsys):
    guard = (
        GUARD,
        "--trainer.callbacks.action=rollback",
        "--trainer.callbacks.spike=3",
        "--trainer.callbacks.window=3",
        "--trainer.callbacks.patience=2",
    )
    batches = poison(monkeypatch, {7, 8}, 50.0)
    roll_back, compared = LossGuard._roll_back, []

    def watch(self, trainer):
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        roll_back(self, trainer)
        saved = torch.load(tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt")
        for name, value in trainer.lightning_module.state_dict().items():
            assert value.equal(saved["state_dict"][name])
        for mine, theirs in zip(
            trainer.optimizers[0].state_dict()["state"].values(),
            saved["optimizer_states"][0]["state"].values(),
            strict=True,
        ):
            assert mine["exp_avg"].equal(theirs["exp_avg"])
        assert trainer.optimizers[0].param_groups[0]["lr"] == rate != saved["lr_schedulers"][0]
        compared.append((trainer.global_step, saved["global_step"]))

    monkeypatch.setattr(LossGuard, "_roll_back", watch)
    run = fit(tmp_path, fasta, *OPTIONS, *guard)
    assert compared == [(9, 5)]
    text = capsys.readouterr().err
    assert "2 bad steps in a row at step 9: weights and optimizer are those of step 5 again" in text
    assert sorted(curve(run, "train/loss")) == list(range(12))
    assert list(batches) == list(range(12))  # data and schedule went on
    assert not set(batches[7]) & set(batches[9])
    assert curve(run, "train/rollbacks") == dict.fromkeys(range(9, 12), 1.0)


@pytest.mark.slow
def test_what_does_not_pass_ends_the_run(tmp_path, fasta, monkeypatch):
    poison(monkeypatch, range(6, 99))
    patience = "--trainer.callbacks.patience=2"
    fused = "--model.optimizer.fused=true"
    for more, message in (
        ((GUARD, patience, fused), r"step 7: the gradients are not finite \(loss nan\), as in 2"),
        ((GUARD, patience), r"step 7: the gradients are not finite \(loss nan\), as in 2 steps in"),
        ((GUARD, "--trainer.callbacks.action=stop"), "step 6: .*action is stop, so the run ends"),
        (
            (GUARD, "--trainer.callbacks.action=rollback", patience),
            r"2 bad steps in a row at step 14, after 3 rollbacks already",
        ),
    ):
        with pytest.raises(SystemExit, match=f"rnafm fit: {message}"):
            fit(tmp_path, fasta, *OPTIONS, "--trainer.max_steps=20", *more)
    # What was saved before stays, and what is in doubt is not saved.
    for run in (tmp_path / "run").iterdir():
        assert all(value.isfinite().all() for value in weights(run).values())


@pytest.mark.slow
def test_without_a_checkpoint_there_is_nothing_to_go_back_to(tmp_path, fasta, monkeypatch):
    poison(monkeypatch, range(1, 99))
    more = (GUARD, "--trainer.callbacks.action=rollback", "--trainer.callbacks.patience=2")
    with pytest.raises(SystemExit, match=r"step 3, and there is no last.ckpt to go back to yet;"):
        fit(tmp_path, fasta, *OPTIONS, *more)


@pytest.mark.slow
def test_a_healthy_run_is_the_run_without_a_guard(tmp_path, fasta, monkeypatch):
    more = (GUARD, "--trainer.callbacks.spike=2", "--trainer.callbacks.window=2")
    guarded = fit(tmp_path, fasta, *OPTIONS, *more)
    assert not (guarded / "skipped.jsonl").exists()
    assert not curve(guarded, "train/skipped_steps")
    monkeypatch.setattr(LossGuard, "on_before_optimizer_step", lambda *_: None)
    free = fit(tmp_path, fasta, *OPTIONS)
    for name, value in weights(free).items():
        assert value.equal(weights(guarded)[name]), name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spike": 1.0}, r"spike \(1.0\) must be above 1"),
        ({"window": 1}, r"window \(1\) must be at least 2"),
        ({"patience": 0}, r"patience \(0\) at least 1"),
        ({"max_rollbacks": -1}, r"max_rollbacks \(-1\) at least 0"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        LossGuard(**options)


def test_the_last_step_of_a_run_is_judged_too(tmp_path, fasta, monkeypatch):
    poison(monkeypatch, {3})
    fused = "--model.optimizer.fused=true"
    run = fit(tmp_path, fasta, "--trainer.max_steps=4", "--trainer.val_check_interval=4", fused)
    assert [line["step"] for line in lines(run)] == [3]
    assert checkpoint(run)["callbacks"]["LossGuard"]["skipped"] == 1


@pytest.mark.parametrize("there", [True, False])
def test_after_an_error_nobody_waits_for_a_device(there):
    """What the device has not said, or can say no more, would hide why the run ends."""
    guard, read = LossGuard(), []

    def refuse():
        read.append(True)
        raise RuntimeError("CUDA error: the launch timed out")

    guard._pending = SimpleNamespace(is_there=lambda: there, read=refuse)
    guard.on_exception(None, None, KeyboardInterrupt())
    assert bool(read) == there


@pytest.mark.slow
def test_two_processes_leave_out_the_step_that_is_bad_on_one(tmp_path, fasta, monkeypatch):
    (tmp_path / "poisoned.py").write_text(
        "from rnafm.tasks import MaskedLM\n\n"
        "class Poisoned(MaskedLM):\n"
        "    '''One process gets a bad batch.'''\n\n"
        "    def training_step(self, batch):\n"
        "        loss = super().training_step(batch)\n"
        "        bad = self.global_rank == 1 and self.global_step == 3\n"
        "        return loss * float('nan') if bad else loss\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    options = ("--model=poisoned.Poisoned", "--trainer.devices=2", "--trainer.strategy=ddp")
    run = fit_outside(tmp_path, fasta, *options, "--trainer.max_steps=6")
    (line,) = lines(run)
    assert line["step"] == 3 and newest(tmp_path) == run
    assert len(set(line["sequences"])) == len(line["sequences"]) > 30  # of both processes
    assert all(value.isfinite().all() for value in weights(run).values())
