"""A run that is interrupted and continued is the run that was not."""

import pytest
from runs import curve, fit, weights, write_fasta


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # a continued run has its own folder
@pytest.mark.parametrize("stop", [3, 10, 13, 23])
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path, stop):
    # Dropout is on, long sequences are cropped, and the stops lie inside and behind an epoch.
    fasta = write_fasta(tmp_path / "x.fa")
    options = ("--model.encoder.dropout=0.1", "--model.encoder.attention_dropout=0.1")
    whole = fit(tmp_path / "whole", fasta, "--trainer.max_steps=30", *options)
    fit(tmp_path / "parts", fasta, f"--trainer.max_steps={stop}", *options)
    last = tmp_path / "parts" / "run" / "version_0" / "checkpoints" / "last.ckpt"
    resumed = fit(
        tmp_path / "parts", fasta, "--trainer.max_steps=30", f"--ckpt_path={last}", *options
    )

    expected = weights(whole)
    assert expected.keys() == weights(resumed).keys()
    for name, value in weights(resumed).items():
        assert value.equal(expected[name]), name
    losses = curve(whole, "train/loss")
    assert len(losses) == 30
    continued = curve(resumed, "train/loss")
    assert continued == {step: losses[step] for step in range(min(continued), 30)}
    assert min(continued) in (stop, stop // 5 * 5)  # the checkpoint is of the last validation
