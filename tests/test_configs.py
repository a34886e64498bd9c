"""Every shipped configuration runs."""

import json
from pathlib import Path

import pytest
import wandb
import yaml
from batches import TINY

from rnafm.checkpoints import Checkpoint, save_checkpoint
from rnafm.cli import main
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import Encoder
from rnafm.reports import evaluate
from rnafm.tasks import MaskedLM

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "configs" / "pretrain").glob("*.yaml"))
FINETUNE = sorted((ROOT / "configs" / "finetune").glob("*.yaml"))
PARTS = sorted(
    [*(ROOT / "configs" / "trainer").glob("*"), *(ROOT / "configs" / "logger").glob("*")]
)
SAMPLES = {
    "rna": ROOT / "examples" / "ncrna_sample.fa.gz",
    "codon": ROOT / "examples" / "cds_sample.fa.gz",
}


def words(recipe, tmp_path):
    """What makes a recipe small enough for a test."""
    vocabulary = yaml.safe_load(recipe.read_text())["data"]["init_args"]["vocabulary"]
    model = "--model.encoder={num_layers: 1, embed_dim: 16, num_heads: 2, ffn_dim: 16}"
    if recipe.stem == "continue":
        encoder = Encoder(TINY, Vocabulary.named(vocabulary))
        save_checkpoint(Checkpoint(encoder), tmp_path / "x.safetensors")
        model = f"--model.checkpoint={tmp_path / 'x.safetensors'}"
    return [
        "fit",
        f"--config={recipe}",
        f"--config={ROOT / 'configs' / 'trainer' / 'cpu.yaml'}",
        f"--data.fasta=[{SAMPLES[vocabulary.removeprefix('official-')]}]",
        f"--data.store={tmp_path / 'store'}",
        model,
        "--data.num_workers=0",
        "--data.tokens_per_step=null",
        "--data.filters.redundancy=exact",  # the search for what is contained has its own tests
        "--data.val_fraction=0.1",
        "--trainer.max_steps=4",
        "--trainer.val_check_interval=2",
        "--trainer.limit_val_batches=2",
        "--trainer.log_every_n_steps=1",
        f"--trainer.logger.init_args.save_dir={tmp_path}",
    ]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_trains(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    main(words(recipe, tmp_path))
    wandb.finish()
    (last,) = tmp_path.rglob("last.ckpt")
    (saved,) = tmp_path.rglob("fit.yaml")
    assert yaml.safe_load(saved.read_text())["trainer"]["max_steps"] == 4
    assert last.stat().st_size > 1000


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
@pytest.mark.parametrize("recipe", FINETUNE, ids=lambda path: path.stem)
def test_fine_tuning_trains_and_is_tested(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(evaluate, "RESAMPLES", 50)
    options = [
        f"--config={recipe}",
        f"--trainer.logger.init_args.save_dir={tmp_path}",
        "--model.encoder={num_layers: 1, embed_dim: 16, num_heads: 2, ffn_dim: 16}",
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=1",
        "--trainer.log_every_n_steps=1",
        "--trainer.limit_train_batches=2",
        "--trainer.limit_val_batches=2",
        "--trainer.limit_test_batches=2",
    ]
    if recipe.stem == "contact":
        options += ["--data.pairs_per_batch=8000"]
    main(["fit", *options])
    (run,) = (tmp_path / recipe.stem).glob("version_*")
    assert {"fit.yaml", "metrics.csv", "loss.png"} <= {path.name for path in run.iterdir()}
    main(["test", *options, "--ckpt_path=best"])
    report = json.loads((run / "test" / "metrics.json").read_text())
    printed = capsys.readouterr().out
    for floor in report["floors"]:
        assert floor in printed
    headline = yaml.safe_load(recipe.read_text())["trainer"]["callbacks"][0]["init_args"]["monitor"]
    assert headline.removeprefix("val/") in report["metrics"]
    rows = (run / "test" / "per_sequence.csv").read_text().splitlines()[1:]
    assert report["num_sequences"] == len(rows)
    assert len(list((run / "test").glob("*.png"))) >= 2


@pytest.mark.parametrize("recipe", [*RECIPES, *FINETUNE], ids=lambda path: path.stem)
def test_a_recipe_is_valid_as_it_is(recipe, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main(["fit", f"--config={recipe}", "--print_config"])
    assert exit_info.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    asked = yaml.safe_load(recipe.read_text())
    asked, got = asked["model"]["init_args"], printed["model"]["init_args"]
    assert got["optimizer"]["init_args"]["lr"] == asked["optimizer"]["init_args"]["lr"]
    if "encoder" in asked:
        encoder = yaml.safe_load((recipe.parent / asked["encoder"]).read_text())
        assert encoder.items() <= got["encoder"].items()


@pytest.mark.parametrize("part", PARTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_parts_go_on_top_of_any_recipe(part, capsys):
    recipe = RECIPES[PARTS.index(part) % len(RECIPES)]
    with pytest.raises(SystemExit) as exit_info:
        main(["fit", f"--config={recipe}", f"--config={part}", "--print_config"])
    assert exit_info.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    for group, values in yaml.safe_load(part.read_text()).items():
        found = printed[group] if group == "trainer" else printed[group]["init_args"]
        for key, value in values.get("init_args", values).items():
            if isinstance(value, dict):
                assert found[key]["class_path"] == value["class_path"]
                assert value.get("init_args", {}).items() <= found[key]["init_args"].items()
            else:
                assert found[key] == value


def test_a_configuration_for_hardware_says_when_to_use_it():
    trainers = sorted((ROOT / "configs" / "trainer").glob("*.yaml"))
    assert {path.stem for path in trainers} >= {"ddp", "fsdp", "torchrun", "checkpointing"}
    for path in trainers:
        first = path.read_text().splitlines()[0]
        assert first.startswith(("# Hardware: ", "# Memory: ")) and len(first) > 40, path


def test_ddp_has_no_buffers_to_send():
    task = MaskedLM(encoder={"num_layers": 1, "embed_dim": 16, "num_heads": 2, "ffn_dim": 16})
    assert not list(task.buffers())


def test_shipped_recipes_are_found_by_name_from_any_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("pretrain/small.yaml", "configs/pretrain/small.yaml"):
        with pytest.raises(SystemExit) as exit_info:
            main(["fit", "--config", name, "--print_config"])
        assert exit_info.value.code == 0
        assert "MaskedLM" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["fit", "--config", "pretrain/none.yaml", "--print_config"])
    assert "pretrain/none.yaml" in capsys.readouterr().err
