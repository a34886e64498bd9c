"""Several processes train as one does with the same global batch."""

import pytest
import torch
from ranks import succeed
from runs import ROOT, curve, fit, fit_outside, newest, weights, words, write_fasta

TRAINERS = ROOT / "configs" / "trainer"
COUNT = 1600  # sequences: 20 steps stay clear of an epoch's end
OPTIONS = (
    "--trainer.max_steps=20",
    "--model.encoder.dropout=0",
    "--model.encoder.attention_dropout=0",
)


def as_shipped(name, world_size, *more):
    """A configuration for GPUs, on the CPU."""
    return (
        f"--config={TRAINERS / name}.yaml",
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        "--data.tokens_per_batch=1500",
        f"--trainer.devices={world_size}",
        *OPTIONS,
        *more,
    )


def alone(folder, fasta, world_size, *more):
    """One process with the global batch of several."""
    return fit(
        folder,
        fasta,
        f"--trainer.accumulate_grad_batches={world_size}",
        f"--trainer.val_check_interval={5 * world_size}",
        *OPTIONS,
        *more,
    )


def assert_same(one, many, validations=4):
    """Weights to 1e-4, losses to 1e-5."""
    expected, found = weights(one), weights(many)
    assert expected.keys() == found.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    first, second = curve(one, "val/loss"), curve(many, "val/loss")
    assert len(first) == len(second) == validations
    assert list(second.values()) == pytest.approx(list(first.values()), abs=1e-5)
    assert second[max(second)] < second[min(second)] - 0.1


def test_two_processes_are_one_with_twice_the_batches(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", COUNT)
    one = alone(tmp_path / "one", fasta, 2)
    many = tmp_path / "many"
    succeed(many, 2, words(many, fasta, *as_shipped("ddp", 2)))
    assert_same(one, newest(many))


@pytest.mark.slow
def test_three_processes_and_accumulation(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", COUNT * 4)
    one = alone(tmp_path / "one", fasta, 6)
    many = tmp_path / "many"
    accumulate = ("--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=10")
    succeed(many, 3, words(many, fasta, *as_shipped("ddp", 3, *accumulate)))
    assert_same(one, newest(many))


@pytest.mark.slow
def test_processes_that_the_command_starts_itself(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", COUNT)
    one = alone(tmp_path / "one", fasta, 2)
    many = fit_outside(tmp_path / "many", fasta, *as_shipped("ddp", 2))
    assert_same(one, many)


@pytest.mark.slow
def test_blocks_that_are_computed_again(tmp_path):
    """Activation checkpointing under DDP with a static graph, with dropout."""
    fasta = write_fasta(tmp_path / "x.fa", COUNT)
    again = f"--config={TRAINERS / 'checkpointing.yaml'}"
    runs = []
    for more in ((), (again,)):
        folder = tmp_path / str(len(more))
        options = as_shipped("ddp", 2, "--model.encoder.dropout=0.1", *more)
        succeed(folder, 2, words(folder, fasta, *options))
        runs.append(newest(folder))
    assert_same(*runs)


@pytest.mark.slow
def test_two_processes_resume_bit_for_bit(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa")
    options = (
        "--trainer.devices=2",
        "--trainer.strategy=ddp",
        "--model.encoder.dropout=0.1",
        "--trainer.max_steps=11",
    )
    whole = fit_outside(tmp_path / "whole", fasta, *options)
    fit_outside(tmp_path / "parts", fasta, *options, "--trainer.max_steps=4")
    resumed = fit_outside(tmp_path / "parts", fasta, *options, "--ckpt_path=last")
    for name, value in weights(resumed).items():
        assert value.equal(weights(whole)[name]), name
    losses = curve(whole, "train/loss")
    assert curve(resumed, "train/loss") == {step: losses[step] for step in range(4, 11)}
