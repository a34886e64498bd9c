"""Training through the command: precision, other starting points, validation."""

import pytest
import torch
import yaml
from reference import write_official
from runs import ROOT, curve, fit, weights, words, write_fasta

from rnafm.checkpoints import load_checkpoint
from rnafm.cli import main
from rnafm.modules import Encoder
from rnafm.tasks import MaskedLM


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return fit(folder, write_fasta(folder / "x.fa"), "--trainer.max_steps=10")


def test_gradients_are_clipped_with_a_fused_optimizer_in_bf16(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa")
    options = (
        "--trainer.max_steps=6",
        "--trainer.precision=bf16-mixed",
        "--model.optimizer.init_args.fused=true",
        "--trainer.gradient_clip_val=0.01",
    )
    with_clipping = fit(tmp_path, fasta, *options)
    norms = curve(with_clipping, "train/grad_norm")
    assert len(norms) == 6 and min(norms.values()) > 0.01  # logged before clipping
    without = fit(tmp_path, fasta, *options, "--trainer.gradient_clip_val=null")
    assert not curve(without, "train/grad_norm")
    assert any(not weights(without)[k].equal(v) for k, v in weights(with_clipping).items())
    with pytest.raises(
        SystemExit, match=r"gradient_clip_algorithm .*VALUE is not supported; use norm"
    ):
        fit(tmp_path, fasta, *options, "--trainer.gradient_clip_algorithm=value")


def test_the_checkpoint_is_plain_and_loads_everywhere(run):
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["hyper_parameters"]["encoder"]["embed_dim"] == 16
    task = MaskedLM.load_from_checkpoint(path)
    encoder = Encoder.from_checkpoint(path)
    for name, value in encoder.state_dict().items():
        assert value.equal(task.encoder.state_dict()[name])
    assert task.masking.fraction == 0.15
    assert encoder.embed(["ACGU"]).shape == (1, 16)


def test_a_checkpoint_can_be_validated(run, tmp_path, capsys):
    fasta = run.parent.parent / "x.fa"
    options = words(tmp_path, fasta)[1:]
    main(["validate", *options, f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"])
    saved = yaml.safe_load(next(tmp_path.rglob("validate.yaml")).read_text())
    assert saved["data"]["init_args"]["tokens_per_batch"] == 1500
    (loss,) = curve(next(tmp_path.rglob("metrics.csv")).parent, "val/loss").values()
    assert loss == pytest.approx(curve(run, "val/loss")[9], abs=1e-6)
    assert "without --ckpt_path" not in capsys.readouterr().err
    main(["validate", *options])
    said = "validate without --ckpt_path scores the weights that a run begins with (random)"
    assert said in capsys.readouterr().err


def test_the_given_configuration_wins_over_that_of_the_checkpoint(run, tmp_path):
    options = words(tmp_path, run.parent.parent / "x.fa", "--model.encoder.num_layers=2")[1:]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\).*blocks.1"):
        main(["validate", *options, f"--ckpt_path={run / 'checkpoints' / 'last.ckpt'}"])


def test_pretraining_goes_on_from_published_weights(tmp_path):
    # A file in the layout of the authors' package, with a 25-token alphabet and 62 positions.
    source = write_official("rnafm", tmp_path / "RNA-FM_small.pth")
    fasta = write_fasta(tmp_path / "x.fa")
    before = load_checkpoint(source)
    options = (
        f"--model.checkpoint={source}",
        "--data.vocabulary=official-rna",
        f"--data.max_length={before.config.max_length}",
        "--trainer.max_steps=5",
        "--model.optimizer.init_args.lr=1e-6",
    )
    after = load_checkpoint(fit(tmp_path, fasta, *options) / "checkpoints" / "last.ckpt")
    assert after.vocabulary.name == "official-rna"
    assert after.trained_ids == before.trained_ids != tuple(range(25))
    for name, value in before.encoder.state_dict().items():
        torch.testing.assert_close(after.encoder.state_dict()[name], value, atol=1e-4, rtol=0)
    assert not after.encoder.final_norm.weight.equal(before.encoder.final_norm.weight)


def test_a_task_of_ones_own_needs_no_registration(tmp_path, monkeypatch):
    (tmp_path / "own_task.py").write_text(
        "from rnafm.tasks import MaskedLM\n\n"
        "class Noisy(MaskedLM):\n"
        "    '''A task in a file of the user's.\n\n"
        "    Args:\n"
        "        factor: Multiplies the loss.\n"
        "        **kwargs: See MaskedLM.\n"
        "    '''\n\n"
        "    def __init__(self, factor: float = 2.0, **kwargs) -> None:\n"
        "        super().__init__(**kwargs)\n"
        "        self.factor = factor\n\n"
        "    def training_step(self, batch):\n"
        "        return self.factor * super().training_step(batch)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    fasta = write_fasta(tmp_path / "x.fa")
    run = fit(
        tmp_path, fasta, "--model=own_task.Noisy", "--model.factor=3", "--trainer.max_steps=5"
    )
    assert yaml.safe_load((run / "fit.yaml").read_text())["model"]["init_args"]["factor"] == 3
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"]["factor"] == 3


def test_all_shipped_recipes_are_in_the_readme_or_the_docs():
    texts = (ROOT / "README.md").read_text()
    for recipe in (ROOT / "configs" / "pretrain").glob("*.yaml"):
        assert recipe.name in texts, recipe.name


def test_the_configuration_of_a_run_means_its_own_checkpoint(tmp_path, capsys):
    fasta = write_fasta(tmp_path / "x.fa")
    first = fit(tmp_path, fasta, "--trainer.max_steps=5")
    second = fit(tmp_path, fasta, "--trainer.max_steps=5")
    assert first != second
    for run in (first, second):
        capsys.readouterr()
        main(["validate", f"--config={run / 'fit.yaml'}", "--ckpt_path=last"])
        assert f"Using {run / 'checkpoints' / 'last.ckpt'}" in capsys.readouterr().err


def test_a_run_that_logs_nothing_ends(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", count=100)
    run = fit(tmp_path, fasta, "--trainer.max_steps=2", "--trainer.log_every_n_steps=0")
    assert len(weights(run)) > 10
