"""What each way of adapting an encoder costs and gives, on the small table that is shipped.

python benchmarks/adaptation.py --checkpoint runs/small/version_0/checkpoints/last.ckpt
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from machine import describe, write

from rnafm.cli import main as rnafm
from rnafm.tasks.loading import load_task

RESULTS = Path(__file__).parent / "results" / "adaptation.json"
RECIPE = Path(__file__).parents[1] / "configs" / "finetune" / "sequence.yaml"
WAYS = {
    "full": [],
    "lora": ["mode=lora"],
    "frozen, hidden layer": ["mode=frozen"],
    "probe": ["mode=probe"],
    "probe again, embeddings on disk": ["mode=probe"],
}


def main() -> None:
    """Fit and test every way; add a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/adaptation"))
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"rows": []}
    ways: dict[str, tuple[list[str], bool]] = {
        name: (words, True) for name, words in WAYS.items()
    } | {"full, without pretraining": ([], False)}
    for name, (words, pretrained) in ways.items():
        if any(row["way"] == name for row in results["rows"]):
            continue
        run = options.runs / "".join(sign if sign.isalnum() else "_" for sign in name)
        logger = "--trainer.logger.init_args"
        common = [
            f"--config={RECIPE}",
            *([f"--model.checkpoint={options.checkpoint}"] if pretrained else []),
            *(["--model.hidden_dim=64"] if "hidden" in name else []),
            *(f"--model.adaptation.{word}" for word in words),
            f"--trainer.max_epochs={options.epochs}",
            "--trainer.accelerator=cpu",
            f"{logger}.save_dir={run.parent.parent}",
            f"{logger}.name={run.parent.name}",
            f"{logger}.version={run.name}",
        ]
        started = time.process_time()
        rnafm(["fit", *common])
        seconds = time.process_time() - started
        best = run / "checkpoints" / "best.ckpt"
        rnafm(["test", *common, f"--ckpt_path={best}"])
        task = load_task(best)
        report = json.loads((run / "test" / "metrics.json").read_text())
        row = {
            "way": name,
            "trained_parameters": sum(p.numel() for p in task.parameters() if p.requires_grad),
            "parameters": sum(p.numel() for p in task.parameters()),
            "cpu_seconds_of_fit": round(seconds, 1),
            "epochs": options.epochs,
            "metrics": {key: report["metrics"][key] for key in ("accuracy", "macro_f1", "mcc")},
            "floors": {
                floor: found["metrics"]["macro_f1"]["value"]
                for floor, found in report["floors"].items()
            },
            **describe(),
        }
        results["rows"].append(row)
        write(RESULTS, results)


if __name__ == "__main__":
    main()
