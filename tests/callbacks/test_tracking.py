"""A run on W&B: the real wandb, offline, and what its run file says."""

import hashlib
import json
import logging
from pathlib import Path

import pytest
import torch
import wandb
import yaml
from runs import ROOT, words, write_fasta
from tracked import Page

from rnafm.cli import main

PNG = b"\x89PNG"


def wandb_words(folder, *more):
    """A pretraining run of seconds that logs to W&B, in ``folder/run/version_<n>``."""
    kept = [
        each
        for each in words(folder, write_fasta(folder / "x.fa"))
        if "logger.init_args.name" not in each and "val_check_interval" not in each
    ]
    return [
        *kept,
        f"--config={ROOT / 'configs' / 'logger' / 'wandb.yaml'}",
        f"--trainer.logger.init_args.save_dir={folder}",
        "--trainer.logger.init_args.project=run",
        "--trainer.max_steps=6",
        "--trainer.val_check_interval=2",
        *more,
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that is done: its folder, and what was said meanwhile."""
    folder = tmp_path_factory.mktemp("run")
    said = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("HOME", str(folder / "home"))
        patch.setenv("SLURM_JOB_PARTITION", "gpu")
        patch.chdir(ROOT)
        logging.getLogger("rnafm.callbacks").addHandler(handler)
        main(wandb_words(folder))
        wandb.finish()
        logging.getLogger("rnafm.callbacks").removeHandler(handler)
    return folder / "run" / "version_0", said


@pytest.fixture(scope="module")
def page(finished):
    return Page(finished[0])


def test_nothing_went_wrong(finished):
    assert not [line for line in finished[1] if line.startswith("W&B")]


def test_the_configuration_is_that_of_the_saved_file(finished, page):
    saved = yaml.safe_load((finished[0] / "fit.yaml").read_text())
    assert {name: page.config[name] for name in saved} == saved
    assert page.config["model"]["init_args"]["optimizer"]["init_args"]["lr"] == 3e-3
    assert page.config["verb"] == "fit"


def test_environment_and_commit(page):
    found = page.config["environment"]
    assert found["versions"]["torch"] == torch.__version__
    assert {"rnafm", "lightning", "wandb"} <= found["versions"].keys()
    assert found["devices"] == {
        "world_size": 1,
        "nodes": 1,
        "strategy": "SingleDeviceStrategy",
        "precision": "32-true",
    }
    assert found["slurm"] == {"partition": "gpu"}
    git = page.config["git"]
    assert len(git["commit"]) == 40 and git["dirty"] in (True, False)


def test_data_and_split_are_named(page):
    found = page.config["data_fingerprint"]
    (store,) = found["stores"].values()
    assert store["counts"]["kept"] == 400 and len(store["digest"]) == 32
    assert store["files"][0]["name"] == "x.fa"
    sizes = {name: split["sequences"] for name, split in found["splits"].items()}
    assert sum(sizes.values()) == 400 and 20 < sizes["val"] < 60
    assert "relatives in training" in found["split"]
    assert page.summary["data/digest"] == found["digest"]
    assert page.summary["data/train_sequences"] == sizes["train"]
    assert page.summary["data/val_tokens"] == found["splits"]["val"]["tokens"]


def test_metrics_are_grouped_over_steps(page):
    assert list(page.column("train/loss")) == [0, 1, 2, 3, 4, 5]
    assert list(page.column("val/loss")) == [1, 3, 5]
    best, losses = page.column("best/loss"), list(page.column("val/loss").values())
    assert list(best) == [2, 4, 6]
    assert list(best.values()) == [min(losses[: i + 1]) for i in range(3)]
    groups = {name.partition("/")[0] for row in page.history for name in row if "/" in name}
    assert {"train", "val", "best", "throughput", "attention", "pictures"} <= groups
    loss, accuracy = page.metrics["val/loss"], page.metrics["val/accuracy"]
    assert loss.step_metric == accuracy.step_metric == "trainer/global_step"
    assert loss.summary.min and loss.summary.last and not loss.summary.max
    assert accuracy.summary.max and not accuracy.summary.min
    assert page.summary["val/loss"]["min"] == min(losses)
    assert page.metrics["throughput/tokens_per_second"].summary.mean


def test_pictures_are_files_of_the_run(page):
    shown = {}
    for row in page.history:
        for name, value in row.items():
            if name.endswith(".filenames"):
                shown.setdefault(name.removesuffix(".filenames"), []).extend(value)
    assert {"attention/sequence_0", "attention/sequence_1", "pictures/loss"} == shown.keys()
    # After the first validation, and at the end: not after every one.
    assert [len(shown[f"attention/sequence_{i}"]) for i in (0, 1)] == [2, 2]
    for name in (name for names in shown.values() for name in names):
        assert (page.folder / "files" / name).read_bytes().startswith(PNG)
        assert name in page.files


def test_checkpoints_are_artifacts_made_from_the_data(finished, page):
    (data,) = page.artifact("dataset")
    assert data.use_after_commit and data.user_created  # an input of the run, on `wandb sync`
    assert data.name == "data-x.fa.rna.store"
    digest = page.config["data_fingerprint"]["digest"]
    assert set(data.aliases) == {"latest", f"digest-{digest}"}
    contents = {entry.path: Path(entry.local_path) for entry in data.manifest.contents}
    assert contents.keys() == {"data.json", "x.fa.rna.store/store.json"}
    assert json.loads(contents["data.json"].read_text())["digest"] == digest
    assert max(path.stat().st_size for path in contents.values()) < 10_000
    assert all(path.is_relative_to(page.folder) for path in contents.values())
    best, last = page.artifact("model")
    assert best.name == last.name == f"model-{page.run.run_id}"
    assert set(best.aliases) == {"best", "latest"} and set(last.aliases) == {"last", "latest"}
    assert not last.use_after_commit and not last.user_created  # an output
    (kept,) = finished[0].rglob("last.ckpt")
    (entry,) = last.manifest.contents
    assert Path(entry.local_path).samefile(kept) and entry.size == kept.stat().st_size
    about = json.loads(last.metadata)
    assert about["step"] == 6 and about["data"] == digest
    assert json.loads(best.metadata)["val/loss"] == pytest.approx(page.summary["best/loss"])


def test_nothing_is_left_in_the_home_directory(finished):
    staged = (finished[0].parents[1] / "home").rglob("artifacts/staging/*")
    assert not [path for path in staged if path.is_file()]


@pytest.mark.slow
def test_the_same_weights_come_out_without_a_page(finished, tmp_path, monkeypatch):
    """Attention is drawn without a random number, and validation leaves no trace."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(ROOT)
    main(wandb_words(tmp_path))
    wandb.finish()
    assert not list(tmp_path.rglob("*.wandb")) and not list(tmp_path.rglob("attention"))
    sums = []
    for folder in (finished[0], tmp_path):
        (path,) = folder.rglob("last.ckpt")
        state = torch.load(path, weights_only=True)["state_dict"]
        content = b"".join(value.numpy().tobytes() for value in state.values())
        sums.append(hashlib.sha256(content).hexdigest())
    assert sums[0] == sums[1]


@pytest.mark.slow
def test_a_continued_run_goes_on_with_its_page(page, finished, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.chdir(ROOT)
    folder = finished[0].parents[1]
    main(wandb_words(folder, "--ckpt_path=last", "--trainer.max_steps=8"))
    wandb.finish()
    more = Page(folder / "run" / "version_1")
    assert more.run.run_id == page.run.run_id
    assert list(more.column("val/loss")) == [7]
    (best,) = more.column("best/loss").values()
    assert best == min(page.summary["best/loss"], more.column("val/loss")[7])
    (_, last) = more.artifact("model")
    assert json.loads(last.metadata)["step"] == 8 and last.name == page.artifact("model")[1].name
    # The fourth validation has no picture of attention, the end has one.
    steps = [row["trainer/global_step"] for row in more.history if _shows_attention(row)]
    assert steps == [8]


def _shows_attention(row):
    return "attention/sequence_0.count" in row


@pytest.mark.slow
def test_every_improvement_is_uploaded_if_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(ROOT)
    page_options = [
        "--trainer.callbacks+=rnafm.callbacks.RunPage",
        "--trainer.callbacks.init_args.checkpoints=all",
        "--trainer.callbacks.init_args.attention_every=0",
    ]
    main(wandb_words(tmp_path, *page_options))
    wandb.finish()
    page = Page(tmp_path / "run" / "version_0")
    models = [json.loads(each.metadata) for each in page.artifact("model")]
    # Copies, since the next improvement removes the file; those at the end stay where they are.
    assert [about["step"] for about in models] == [2, 4, 6, 6]
    paths = [Path(each.manifest.contents[0].local_path) for each in page.artifact("model")]
    assert all(path.is_file() for path in paths)
    assert not [name for row in page.history for name in row if name.startswith("attention")]
