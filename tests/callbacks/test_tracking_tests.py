"""Pages of fine-tuned runs and of their tests: pictures, tables, lineage from data to scores."""

import json
import os

import pytest
import wandb
from runs import ROOT
from tracked import Page

from rnafm.cli import main

pytestmark = pytest.mark.slow


def run(recipe, verb, folder, *more):
    """A verb of a shipped recipe, small; its page."""
    before = set(folder.rglob("*.wandb"))
    options = [
        f"--config=configs/finetune/{recipe}.yaml",
        "--config=configs/logger/wandb.yaml",
        f"--trainer.logger.init_args.save_dir={folder}",
        "--trainer.logger.init_args.project=p",
        "--model.encoder={num_layers: 2, embed_dim: 16, num_heads: 2, ffn_dim: 16}",
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=1",
        "--trainer.log_every_n_steps=1",
        "--trainer.limit_train_batches=2",
        "--trainer.limit_val_batches=2",
        "--trainer.limit_test_batches=2",
    ]
    if recipe == "contact":
        options.append("--data.pairs_per_batch=8000")
    try:
        main([verb, *options, *more])
    finally:
        wandb.finish()
    (made,) = set(folder.rglob("*.wandb")) - before
    return Page(made.parent)


@pytest.fixture(scope="module", params=["sequence", "contact"])
def pages(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("WANDB_MODE", "offline")
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("HOME", str(folder / "home"))
        fit = run(request.param, "fit", folder)
        # One that the user names comes behind those that write what it shows, all the same.
        own = "--trainer.callbacks+=rnafm.callbacks.RunPage"
        test = run(request.param, "test", folder, "--ckpt_path=best", own)
        yield request.param, fit, test, folder


def images(page):
    return {
        name.removesuffix(".filenames")
        for row in page.history
        for name in row
        if name.endswith(".filenames")
    }


def test_a_test_has_a_page_of_its_own_that_names_where_it_comes_from(pages):
    _, fit, test, _ = pages
    assert test.run.run_id != fit.run.run_id
    assert test.config["origin"] == fit.run.run_id and test.config["verb"] == "test"
    assert "origin" not in fit.config
    digests = [page.config["data_fingerprint"]["digest"] for page in (fit, test)]
    assert digests[0] == digests[1]
    for page in (fit, test):
        (data,) = page.artifact("dataset")
        assert data.use_after_commit
        assert {"val", "test"} <= page.config["data_fingerprint"]["leaks"].keys()
    assert fit.artifact("dataset")[0].digest == test.artifact("dataset")[0].digest


def test_what_is_tested_is_the_version_that_the_run_has_logged(pages):
    """With the same name and digest it is the same version, and is not uploaded twice."""
    _, fit, test, _ = pages
    best = next(each for each in fit.artifact("model") if "best" in each.aliases)
    (tested,) = test.artifact("model")
    assert tested.use_after_commit and not best.use_after_commit
    assert (tested.name, tested.digest) == (best.name, best.digest)


def test_pictures_of_a_test(pages):
    recipe, fit, test, _ = pages
    expected = {
        "sequence": {"test/confusion", "test/calibration", "test/macro_f1_by_length"},
        "contact": {f"test/{kind}_{f1}" for kind in ("contacts", "arcs") for f1 in ("low", "high")},
    }
    assert expected[recipe] <= images(test)
    assert "attention/sequence_0" in images(fit)


def test_scores_are_those_of_the_report(pages):
    recipe, _, test, folder = pages
    report = json.loads((folder / "p" / "version_1" / "metrics.json").read_text())
    headline = {"sequence": "macro_f1", "contact": "f1"}[recipe]
    assert test.summary[f"test/{headline}"] == pytest.approx(report["metrics"][headline]["value"])
    assert any(name.startswith("test_beside/") for name in test.summary)


def test_the_table_of_predictions(pages):
    recipe, _, test, folder = pages
    (row,) = (row for row in test.history if "test/predictions.path" in row)
    table = json.loads((test.folder / "files" / row["test/predictions.path"]).read_text())
    wanted = {"id", "sequence", "label", "prediction", "length", "nearest_train"}
    assert wanted <= set(table["columns"])
    lines = (folder / "p" / "version_1" / "per_sequence.csv").read_text().splitlines()
    assert len(table["data"]) == min(len(lines) - 1, 100)
    first = dict(zip(table["columns"], table["data"][0], strict=True))
    assert first["length"] == len(first["sequence"])
    (artifact,) = test.artifact("run_table")
    files = {entry.path: entry.local_path for entry in artifact.manifest.contents}
    assert all(path.startswith(os.fspath(test.folder)) for path in files.values())
    if recipe == "contact":
        assert len(first["prediction"]) == len(first["label"]) == len(first["sequence"])
        assert any("arcs" in path for path in files)
