"""The task in the documentation trains, is tested and predicts, without any registration."""

import csv
import json
import re

import pytest
from runs import ROOT, newest

from rnafm.cli import main
from rnafm.reports import evaluate

PAGE = (ROOT / "docs" / "own_task.md").read_text()
PROGRAM = re.search(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)[1]


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_the_documented_task(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_task.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(evaluate, "RESAMPLES", 50)
    options = [
        f"--config={ROOT / 'configs' / 'finetune' / 'sequence.yaml'}",
        "--model=my_task.EndPrediction",
        "--model.width=8",
        "--model.encoder={num_layers: 1, embed_dim: 16, num_heads: 2, ffn_dim: 16}",
        f"--trainer.logger.init_args.save_dir={tmp_path}",
        "--trainer.logger.init_args.name=run",
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=2",
        "--trainer.log_every_n_steps=1",
    ]
    main(["fit", *options])
    best = newest(tmp_path) / "checkpoints" / "best.ckpt"
    main(["test", *options, f"--ckpt_path={best}"])
    report = json.loads((newest(tmp_path) / "test" / "metrics.json").read_text())
    assert report["facts"]["task"] == "EndPrediction"
    data = ROOT / "examples" / "labelled" / "families.csv.gz"
    words = [f"--checkpoint={best}", f"--data={data}", f"--out={tmp_path / 'ends.csv'}"]
    main(["predict", *words, "--task-module=my_task"])
    with (tmp_path / "ends.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 634
    assert "634 predictions" in capsys.readouterr().out
