"""What somebody sees who uses the commands for the first time, and makes a mistake."""

import warnings

import pytest
from runs import ROOT, curve, fit, newest, write_fasta

from rnafm.cli import main
from rnafm.tasks import MaskedLM
from rnafm.tools.crossval import _settings

FINETUNE = ["--config=configs/finetune/sequence.yaml", "--config=configs/trainer/cpu.yaml"]
TINY = "--model.encoder={num_layers: 1, embed_dim: 16, num_heads: 2, ffn_dim: 16}"


@pytest.fixture(autouse=True)
def _in_the_clone(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_a_run_says_where_it_is_and_what_comes_next(tmp_path, capsys):
    run = fit(tmp_path, write_fasta(tmp_path / "x.fa"), "--trainer.max_steps=5")
    text = capsys.readouterr().err
    assert f"Done: {run}\n" in text
    last = run / "checkpoints" / "last.ckpt"
    assert f"Next: rnafm fit --config configs/finetune/... --model.checkpoint {last}" in text

    folder = f"--trainer.logger.init_args.save_dir={tmp_path}"
    main(
        ["fit", *FINETUNE, TINY, folder, "--trainer.max_epochs=1", "--data.tokens_per_batch=16384"]
    )
    config = tmp_path / "sequence" / "version_0" / "fit.yaml"
    assert f"Next: rnafm test --config {config} --ckpt_path best" in capsys.readouterr().err

    # The checkpoint of one task in the recipe of another.
    last.rename(last.with_name("best.ckpt"))
    options = [*FINETUNE, TINY, folder, "--trainer.logger.init_args.name=run"]
    with pytest.raises(
        SystemExit,
        match=r"test: .*best.ckpt is of rnafm.tasks.masked_lm.MaskedLM, and this recipe is for "
        r"rnafm.tasks.sequence.SequencePrediction; use .*--model.checkpoint .*best.ckpt",
    ):
        main(["test", *options, "--ckpt_path=best"])


def test_a_run_that_did_not_begin_leaves_nothing(tmp_path):
    folder = f"--trainer.logger.init_args.save_dir={tmp_path}"
    for _ in range(2):
        with pytest.raises(SystemExit, match=r"none.csv: there is no such file"):
            main(["fit", *FINETUNE, TINY, folder, f"--data.files=[{tmp_path / 'none.csv'}]"])
    assert not list((tmp_path / "sequence").iterdir())


@pytest.mark.slow
def test_a_run_that_did_begin_stays(tmp_path, monkeypatch):
    step = MaskedLM.training_step

    def fail(self, batch):
        return step(self, batch) if self.global_step < 2 else 1 / 0

    monkeypatch.setattr(MaskedLM, "training_step", fail)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, write_fasta(tmp_path / "x.fa"))
    assert len(curve(newest(tmp_path), "train/loss")) == 2


def test_a_missing_checkpoint_is_one_line(tmp_path):
    with pytest.raises(SystemExit) as info:
        main(["fit", *FINETUNE, f"--model.checkpoint={tmp_path / 'missing.pth'}"])
    assert info.value.code == (
        f"rnafm fit: no checkpoint at {tmp_path / 'missing.pth'}; give the path of a file or "
        "directory"
    )
    with pytest.raises(SystemExit, match=r"fit: no checkpoint at .*gone.ckpt; give the path"):
        main(["fit", *FINETUNE, TINY, f"--ckpt_path={tmp_path / 'gone.ckpt'}"])


@pytest.mark.slow
def test_auto_begins_and_then_continues(tmp_path, capsys):
    fasta = write_fasta(tmp_path / "x.fa")
    first = fit(tmp_path, fasta, "--trainer.max_steps=5", "--ckpt_path=auto")
    assert "There is no last.ckpt under" in capsys.readouterr().err
    fit(tmp_path, fasta, "--trainer.max_steps=7", "--ckpt_path=auto")
    assert f"Continuing {first / 'checkpoints' / 'last.ckpt'}" in capsys.readouterr().err
    assert newest(tmp_path) != first


def test_cross_validation_does_not_speak_of_lightnings_parameters():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _settings(FINETUNE)["model"]["class_path"].endswith("SequencePrediction")
