"""Scores of fine-tuned tasks do not depend on how many processes work them out."""

import csv
import json
import subprocess
import sys

import pytest
from runs import ROOT

from rnafm.cli import main

SMALL = [
    "--model.encoder={num_layers: 1, embed_dim: 16, num_heads: 2, ffn_dim: 16}",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.log_every_n_steps=1",
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Experiment logs directory")
@pytest.mark.parametrize("level", ["sequence", "token", "contact"])
def test_one_process_and_two_score_the_same(level, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    common = [f"--config={ROOT / 'configs' / 'finetune' / f'{level}.yaml'}", *SMALL]
    logger = "--trainer.logger.init_args"
    main(["fit", *common, f"{logger}.save_dir={tmp_path}", f"{logger}.version=run"])
    best = tmp_path / level / "run" / "checkpoints" / "best.ckpt"
    common.append(f"--ckpt_path={best}")
    scores, reports = {}, {}
    for devices in (1, 2):
        place = [f"{logger}.save_dir={tmp_path / str(devices)}", f"{logger}.version=run"]
        strategy = ["--trainer.strategy=ddp"] if devices > 1 else []
        for verb in ("validate", "test"):
            words = [verb, *common, *place, *strategy, f"--trainer.devices={devices}"]
            command = [sys.executable, "-m", "rnafm", *words]
            result = subprocess.run(command, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stderr[-3000:]
        with (tmp_path / str(devices) / level / "run" / "metrics.csv").open() as file:
            (row,) = list(csv.DictReader(file))
        scores[devices] = {name: float(v) for name, v in row.items() if "/" in name and v}
        folder = tmp_path / level / "run" / "test"
        reports[devices] = json.loads((folder / "metrics.json").read_text())
        (folder / "metrics.json").unlink()
    assert len(scores[1]) > 3
    assert scores[2] == pytest.approx(scores[1], abs=1e-5, nan_ok=True)
    assert reports[2]["num_sequences"] == reports[1]["num_sequences"]
    for name, found in reports[1]["metrics"].items():
        value = found["value"]
        assert reports[2]["metrics"][name]["value"] == pytest.approx(value, abs=1e-5), name
