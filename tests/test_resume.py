"""A run that is interrupted and continued is the run that was not."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from runs import curve, fit, weights, write_fasta

from rnafm.data.rnacentral import RNAcentralDataModule
from rnafm.tasks import MaskedLM

# Dropout is on, and long sequences are cropped.
OPTIONS = (
    "--trainer.max_steps=30",
    "--model.encoder.dropout=0.1",
    "--model.encoder.attention_dropout=0.1",
)
COUNT = 380  # sequences that fill 12 packs in one epoch and 11 in the next


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run: 30 steps over almost three epochs."""
    folder = tmp_path_factory.mktemp("whole")
    return fit(folder, write_fasta(folder / "x.fa", COUNT), *OPTIONS)


def test_the_data_are_those_that_are_hard(tmp_path):
    data = RNAcentralDataModule(
        [write_fasta(tmp_path / "x.fa", COUNT)],
        tokens_per_batch=1500,
        max_length=60,
        val_fraction=0.1,
    )
    data.prepare_data()
    data.setup("fit")
    sampler = data.train_dataloader().sampler
    assert len({len(sampler._cut(epoch, 0, 1500)) for epoch in range(3)}) > 1
    assert len(sampler) == 13


@pytest.mark.parametrize(
    "stop", [13, *(pytest.param(stop, marks=pytest.mark.slow) for stop in (3, 10, 23, 26))]
)
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(tmp_path, whole, stop):
    # The stops lie inside and at the end of epochs, on and between validations.
    fasta = write_fasta(tmp_path / "x.fa", COUNT)
    fit(tmp_path, fasta, *OPTIONS, f"--trainer.max_steps={stop}")
    resumed = fit(tmp_path, fasta, *OPTIONS, "--ckpt_path=last")

    expected = weights(whole)
    assert expected.keys() == weights(resumed).keys()
    for name, value in weights(resumed).items():
        assert value.equal(expected[name]), name
    losses = curve(whole, "train/loss")
    assert len(losses) == 30
    # The last step is saved too, though validation comes every fifth.
    assert curve(resumed, "train/loss") == {step: losses[step] for step in range(stop, 30)}
    tokens = curve(whole, "throughput/tokens")
    assert curve(resumed, "throughput/tokens") == {step: tokens[step] for step in range(stop, 30)}


def test_accumulated_gradients_are_not_lost(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", COUNT)
    options = (
        "--trainer.accumulate_grad_batches=2",
        "--trainer.val_check_interval=6",
        "--trainer.max_steps=9",
    )
    whole = fit(tmp_path / "whole", fasta, *options)
    fit(tmp_path / "parts", fasta, *options, "--trainer.max_steps=4")
    resumed = fit(tmp_path / "parts", fasta, *options, "--ckpt_path=last")
    for name, value in weights(resumed).items():
        assert value.equal(weights(whole)[name]), name
    with pytest.raises(SystemExit, match=r"val_check_interval \(5\).* multiple of .*\(2\)"):
        fit(tmp_path, fasta, *options, "--trainer.val_check_interval=5")
    with pytest.raises(SystemExit, match=r"limit_train_batches \(5\) .* multiple of .*\(2\)"):
        fit(tmp_path, fasta, *options, "--trainer.limit_train_batches=5")


def test_a_run_on_other_data_is_not_continued(tmp_path):
    fit(tmp_path, write_fasta(tmp_path / "x.fa", COUNT), *OPTIONS, "--trainer.max_steps=5")
    with pytest.raises(
        SystemExit, match=r"made with sequences 3\d\d, this run has 2\d\d.*--model.checkpoint"
    ):
        fit(tmp_path, write_fasta(tmp_path / "y.fa", 280), *OPTIONS, "--ckpt_path=last")


def test_there_has_to_be_something_to_continue(tmp_path):
    with pytest.raises(SystemExit, match=r"there is no last.ckpt under .*run; give its path"):
        fit(tmp_path, write_fasta(tmp_path / "x.fa"), "--ckpt_path=last")


def test_an_error_while_training_loses_nothing(tmp_path, whole, monkeypatch):
    step = MaskedLM.training_step

    def fail(self, batch):
        if self.global_step == 7:
            raise RuntimeError("the power went off")
        return step(self, batch)

    fasta = write_fasta(tmp_path / "x.fa", COUNT)
    monkeypatch.setattr(MaskedLM, "training_step", fail)
    with pytest.raises(RuntimeError, match="power"):
        fit(tmp_path, fasta, *OPTIONS)
    monkeypatch.setattr(MaskedLM, "training_step", step)
    resumed = fit(tmp_path, fasta, *OPTIONS, "--ckpt_path=last", "--trainer.max_steps=12")
    losses = curve(whole, "train/loss")
    assert curve(resumed, "train/loss") == {step: losses[step] for step in range(7, 12)}


def test_the_last_checkpoint_is_the_last_though_nothing_improves(tmp_path, monkeypatch):
    fasta = write_fasta(tmp_path / "x.fa", COUNT)
    options = (*OPTIONS, "--model.optimizer.init_args.lr=0", "--trainer.max_steps=12")

    def step_of(run):
        assert [path.name for path in (run / "checkpoints").glob("last*")] == ["last.ckpt"]
        return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]

    assert step_of(fit(tmp_path, fasta, *options)) == 12

    # Killed behind the second validation, without a chance to save anything.
    step = MaskedLM.training_step

    def fail(self, batch):
        if self.global_step == 11:
            raise KeyError("killed")
        return step(self, batch)

    monkeypatch.setattr(MaskedLM, "training_step", fail)
    monkeypatch.setattr(ModelCheckpoint, "on_exception", lambda *_: None)
    with pytest.raises(KeyError):
        fit(tmp_path, fasta, *options)
    assert step_of(tmp_path / "run" / "version_1") == 10
