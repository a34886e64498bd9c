"""A run that is interrupted and continued is the run that was not."""

import pytest
from runs import curve, fit, weights, write_fasta

OPTIONS = (
    "--trainer.max_steps=30",
    "--model.encoder.dropout=0.1",
    "--model.encoder.attention_dropout=0.1",
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run: 30 steps over more than two epochs."""
    folder = tmp_path_factory.mktemp("whole")
    return fit(folder, write_fasta(folder / "x.fa"), *OPTIONS)


@pytest.mark.parametrize("stop", [3, 10, 13, 23])
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path, whole, stop):
    # Dropout is on, long sequences are cropped, and the stops lie inside and at the end of epochs.
    fasta = write_fasta(tmp_path / "x.fa")
    fit(tmp_path, fasta, *OPTIONS, f"--trainer.max_steps={stop}")
    last = tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt"
    resumed = fit(tmp_path, fasta, *OPTIONS, f"--ckpt_path={last}")

    expected = weights(whole)
    assert expected.keys() == weights(resumed).keys()
    for name, value in weights(resumed).items():
        assert value.equal(expected[name]), name
    losses = curve(whole, "train/loss")
    assert len(losses) == 30
    continued = curve(resumed, "train/loss")
    assert continued == {step: losses[step] for step in range(min(continued), 30)}
    assert min(continued) in (stop, stop // 5 * 5)  # the checkpoint is of the last validation
