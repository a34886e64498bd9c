"""Several processes train as one does with the same global batch."""

import pytest
import torch
from runs import ROOT, curve, fit, fit_outside, weights, write_fasta


@pytest.mark.parametrize("world_size", [2])
def test_two_processes_are_one_with_twice_the_batches(tmp_path, world_size):
    fasta = write_fasta(tmp_path / "x.fa", count=1600)  # 20 steps stay clear of an epoch's end
    options = (
        "--trainer.max_steps=20",
        "--model.encoder.dropout=0",
        "--model.encoder.attention_dropout=0",
    )
    one = fit(
        tmp_path / "one",
        fasta,
        f"--trainer.accumulate_grad_batches={world_size}",
        "--trainer.val_check_interval=10",
        *options,
    )
    many = fit_outside(
        tmp_path / "many",
        fasta,
        f"--config={ROOT / 'configs' / 'trainer' / 'ddp.yaml'}",
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        "--data.tokens_per_batch=1500",
        f"--trainer.devices={world_size}",
        *options,
    )
    expected = weights(one)
    for name, value in weights(many).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)
    first, second = curve(one, "val/loss"), curve(many, "val/loss")
    assert len(first) == len(second) == 4
    assert list(second.values()) == pytest.approx(list(first.values()), abs=1e-5)
    assert second[max(second)] < second[min(second)]


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
