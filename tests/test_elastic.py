"""Runs go on with other batches, steps and processes: nothing is lost, nothing comes twice."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from recording import trained
from runs import curve, fit, newest, words, write_fasta

from rnafm.data.rnacentral import RNAcentralDataModule

COUNT = 380
OPTIONS = ("--model.encoder.dropout=0", "--model.encoder.attention_dropout=0")


def record(folder, kill_at=-1):
    """The option that adds the callback."""
    return (
        f"--trainer.callbacks+={{class_path: recording.Record, init_args: {{folder: {folder}, "
        f"kill_at: {kill_at}}}}}"
    )


def training_set(fasta):
    data = RNAcentralDataModule([fasta], tokens_per_batch=1500, max_length=60, val_fraction=0.1)
    data.prepare_data()
    data.setup("fit")
    return data.splits()["train"].indices.tolist()


def last(run):
    """Step and place in the data of a run's last checkpoint."""
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    (state,) = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    return checkpoint["global_step"], state


def places(fasta, parts):
    """Epoch -> places of the sequences that were trained, over all parts of a run."""
    numbers = {number: place for place, number in enumerate(training_set(fasta))}
    found = {}
    for folder, steps in parts:
        for epoch, indices in trained(folder, steps).items():
            found.setdefault(epoch, []).extend(numbers[i] for i in indices)
    return {epoch: sorted(indices) for epoch, indices in found.items()}


def test_other_batches_and_steps(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", COUNT)
    parts, divisions = [], ((1500, 1, 7), (700, 3, 10), (2600, 1, 16), (900, 2, 30))
    start = 0
    for number, (budget, accumulate, stop) in enumerate(divisions):
        run = fit(
            tmp_path,
            fasta,
            *OPTIONS,
            f"--data.tokens_per_batch={budget}",
            f"--trainer.accumulate_grad_batches={accumulate}",
            f"--trainer.val_check_interval={6 * accumulate}",
            f"--trainer.max_steps={stop}",
            record(tmp_path / f"part{number}"),
            *(["--ckpt_path=last"] if number else []),
        )
        step, state = last(run)
        assert step == stop
        parts.append((tmp_path / f"part{number}", range(start, stop)))
        assert sorted(curve(run, "train/loss")) == list(range(start, stop))
        start = stop
    found = places(fasta, parts)
    size = len(training_set(fasta))
    complete = [epoch for epoch in sorted(found) if epoch < max(found)]
    assert len(complete) >= 2
    for epoch in complete:
        assert found[epoch] == list(range(size))
    rest = found[max(found)]
    assert len(rest) == len(set(rest)) == state["position"]


@pytest.mark.slow
def test_an_error_between_two_steps_repeats_what_left_no_trace(tmp_path, monkeypatch):
    from rnafm.tasks import MaskedLM

    fasta = write_fasta(tmp_path / "x.fa", COUNT)
    step, seen = MaskedLM.training_step, []

    def fail(self, batch):
        seen.append(batch.indices.tolist())
        if len(seen) == 12:  # the last of the three batches of step 3
            raise RuntimeError("the power went off")
        return step(self, batch)

    options = (
        *OPTIONS,
        "--trainer.accumulate_grad_batches=3",
        "--trainer.val_check_interval=6",
        "--trainer.max_steps=5",
    )
    whole = fit(tmp_path / "whole", fasta, *options)
    monkeypatch.setattr(MaskedLM, "training_step", fail)
    with pytest.raises(RuntimeError, match="power"):
        fit(tmp_path / "parts", fasta, *options)
    monkeypatch.setattr(MaskedLM, "training_step", step)
    failed = newest(tmp_path / "parts")
    assert last(failed)[1]["position"] == sum(map(len, seen[:9]))
    resumed = fit(tmp_path / "parts", fasta, *options, "--ckpt_path=last")
    losses = curve(whole, "train/loss")
    assert curve(resumed, "train/loss") == {step: losses[step] for step in (3, 4)}


@pytest.mark.slow
def test_a_step_keeps_its_tokens_when_batches_change(tmp_path, capsys):
    fasta = write_fasta(tmp_path / "x.fa", count=1600)  # 15 steps to an epoch
    options = (*OPTIONS, "--data.tokens_per_step=4500")
    fit(tmp_path, fasta, *options, "--trainer.max_steps=4")
    assert (
        "A step is 3 batches of up to 1,500 tokens on each of 1 device" in capsys.readouterr().err
    )
    run = fit(
        tmp_path,
        fasta,
        *options,
        "--data.tokens_per_batch=900",
        "--trainer.max_steps=9",
        "--ckpt_path=last",
    )
    text = capsys.readouterr().err
    assert "A step is 5 batches of up to 900 tokens" in text
    assert "is divided anew" in text and "5 to a step" in text
    tokens = curve(run, "throughput/tokens")
    sizes = [tokens[step + 1] - tokens[step] for step in range(4, 8)]
    assert all(3300 < size <= 4500 for size in sizes), sizes
    with pytest.raises(SystemExit, match=r"tokens_per_step \(900\) is less than one batch"):
        fit(tmp_path, fasta, "--data.tokens_per_step=900", "--trainer.max_steps=1")
    with pytest.raises(SystemExit, match=r"steps of 3 batches and .*accumulate_grad_batches for 2"):
        fit(tmp_path, fasta, *options, "--trainer.accumulate_grad_batches=2")


def start(folder, fasta, world_size, *more):
    """Run in processes of their own; whether they ended well, and what they said."""
    command = [
        sys.executable,
        "-m",
        "rnafm",
        *words(folder, fasta, *OPTIONS, f"--trainer.devices={world_size}", *more),
    ]
    if world_size > 1:
        command.append("--trainer.strategy=ddp")
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"},
    )


@pytest.mark.slow
def test_killed_with_two_processes_goes_on_with_one_then_three(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", COUNT)
    options = ("--data.tokens_per_batch=700", "--data.tokens_per_step=2100")
    parts, losses, begin = [], {}, 0
    for number, (world_size, kill_at, stop) in enumerate(((2, 7, 99), (1, 13, 99), (3, -1, 22))):
        folder = tmp_path / f"part{number}"
        result = start(
            tmp_path,
            fasta,
            world_size,
            *options,
            f"--trainer.max_steps={stop}",
            "--trainer.val_check_interval=1",
            record(folder, kill_at),
            *(["--ckpt_path=last"] if number else []),
        )
        assert (result.returncode == 0) == (kill_at < 0), result.stderr[-3000:]
        run = newest(tmp_path)
        end, state = last(run)
        assert begin < end <= (kill_at if kill_at >= 0 else stop)
        parts.append((folder, range(begin, end)))
        losses |= curve(run, "train/loss")
        begin = end
    found, size = places(fasta, parts), len(training_set(fasta))
    assert len(found) >= 2
    for epoch in sorted(found)[:-1]:
        assert found[epoch] == list(range(size)), epoch
    rest = found[max(found)]
    assert len(rest) == len(set(rest)) == state["position"]
    whole = fit(tmp_path / "whole", fasta, *OPTIONS, *options, "--trainer.max_steps=22")
    alone = curve(whole, "train/loss")
    assert sum(losses.values()) / len(losses) == pytest.approx(
        sum(alone.values()) / len(alone), abs=0.02
    )
