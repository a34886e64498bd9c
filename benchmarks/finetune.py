"""Does pretraining help, and by how much more than a k-mer model? Real labelled sets, one table.

python benchmarks/finetune.py --checkpoint runs/small/version_0/checkpoints/last.ckpt

Every set is trained twice with the same recipe: from the checkpoint, and from a new encoder of the
same shape. Rows are added to the results as they are done; what is there is not done again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import json
import time
from pathlib import Path

from machine import describe, write

from rnafm.checkpoints import load_checkpoint
from rnafm.cli import main as rnafm

RESULTS = Path(__file__).parent / "results" / "finetune.json"
NRC = [
    "5S_rRNA",
    "5_8S_rRNA",
    "tRNA",
    "ribozyme",
    "CD-box",
    "HACA-box",
    "scaRNA",
    "miRNA",
    "Intron_gpI",
    "Intron_gpII",
    "IRES",
    "leader",
    "riboswitch",
]
MANY = ["ribozyme", "CD-box", "miRNA", "HACA-box", "riboswitch", "IRES", "leader", "scaRNA"]
LOOPS = ["S", "H", "B", "I", "M", "X", "E"]
OPENVACCINE = ["reactivity", "deg_Mg_pH10", "deg_Mg_50C"]


def disjoint(source: Path, target: Path) -> Path:
    """The classes of several families; a fifth of these, by MD5 of the name, for the test."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(source, "rt") as file, target.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "rfam", "label", "sequence", "side"])
        for row in csv.DictReader(file):
            digest = hashlib.md5(row["rfam"].encode()).hexdigest()  # noqa: S324  # as in the source
            side = "train" if int(digest, 16) % 5 else "test"
            if row["label"] in MANY:
                writer.writerow([*(row[key] for key in ("id", "rfam", "label", "sequence")), side])
    return target


def sets(data: Path, runs: Path) -> dict[str, dict[str, object]]:
    """What is trained: task, objective, data, epochs."""
    nrc = data / "sequence_classification" / "nrc13.csv.gz"
    classes = {"class_path": "rnafm.tasks.Multiclass", "init_args": {"names": NRC}}
    openvaccine = data / "token_regression" / "openvaccine_{}.jsonl.gz"
    return {
        "nrc13, official split": {
            "task": "SequencePrediction",
            "objective": classes,
            "data": {
                "files": [str(nrc)],
                "labels": ["label"],
                "split": {"by": "column", "column": "partition"},
            },
            "epochs": 2,
        },
        "nrc13, families disjoint": {
            "task": "SequencePrediction",
            "objective": {"class_path": "rnafm.tasks.Multiclass", "init_args": {"names": MANY}},
            "data": {
                "files": [str(disjoint(nrc, runs / "nrc13_disjoint.csv"))],
                "labels": ["label"],
                "split": {"by": "column", "column": "side"},
            },
            "epochs": 2,
        },
        "mean ribosome load": {
            "task": "SequencePrediction",
            "objective": {"class_path": "rnafm.tasks.Regression", "init_args": {"names": ["mrl"]}},
            "data": {
                "files": [str(data / "sequence_regression" / "mrl_egfp_unmod1_test20k.csv.gz")],
                "labels": ["mrl"],
                "split": {"by": "column", "column": "partition"},
            },
            "pool": "attention",
            "epochs": 1,
            "share": 0.5,
        },
        "OpenVaccine": {
            "task": "TokenPrediction",
            "objective": {
                "class_path": "rnafm.tasks.Regression",
                "init_args": {"names": OPENVACCINE},
            },
            "data": {
                "files": [str(openvaccine).format("train")],
                "test_files": [str(openvaccine).format("test")],
                "labels": ["labels"],
                "outputs": [0, 1, 3],
                "label_length": "prefix",
            },
            "epochs": 3,
        },
        "bpRNA loop types": {
            "task": "TokenPrediction",
            "objective": {"class_path": "rnafm.tasks.Multiclass", "init_args": {"names": LOOPS}},
            "data": {
                "files": [str(data / "token_classification" / "bprna_loop_types.csv.gz")],
                "labels": ["loop_type"],
                "on_unknown": "unk",
                "split": {
                    "by": "column",
                    "column": "partition",
                    "names": {"train": ["TR0"], "val": ["VL0"], "test": ["TS0"]},
                },
            },
            "epochs": 1,
            "share": 0.33,
        },
    }


def run(
    spec: dict[str, object], options: argparse.Namespace, folder: Path, *, pretrained: bool
) -> dict[str, object]:
    """Fit and test; the numbers of the report."""
    config = load_checkpoint(options.checkpoint).config
    encoder = {
        name: getattr(config, name)
        for name in (
            "num_layers",
            "embed_dim",
            "num_heads",
            "ffn_dim",
            "max_length",
            "dropout",
            "attention_dropout",
        )
    }
    epochs, share = options.epochs or spec["epochs"], spec.get("share", 1.0)
    model = {
        "class_path": f"rnafm.tasks.{spec['task']}",
        "init_args": {
            "objective": spec["objective"],
            "encoder": encoder,
            "checkpoint": str(options.checkpoint) if pretrained else None,
            "hidden_dim": 128,
            "optimizer": {
                "class_path": "torch.optim.AdamW",
                "init_args": {"lr": 1e-3, "weight_decay": 0.01},
            },
            "schedule": {
                "class_path": "rnafm.modules.schedules.WarmupCosine",
                "init_args": {"warmup": 0.05, "final": 0.05},
            },
        },
    }
    if "pool" in spec:
        model["init_args"]["pool"] = spec["pool"]  # type: ignore[index]
    module = {"class_path": "rnafm.data.labelled.LabelledDataModule", "init_args": spec["data"]}
    monitor, mode = (
        ("val/spearman", "max")
        if "Regression" in str(spec["objective"])
        else ("val/macro_f1", "max")
    )
    trainer = {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": epochs,
        "limit_train_batches": share,
        "num_sanity_val_steps": 0,
        "gradient_clip_val": 1.0,
        "log_every_n_steps": 20,
        "logger": {
            "class_path": "lightning.pytorch.loggers.CSVLogger",
            "init_args": {"save_dir": str(folder.parent), "name": folder.name, "version": "run"},
        },
        "callbacks": [
            {
                "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                "init_args": {
                    "filename": "best",
                    "monitor": monitor,
                    "mode": mode,
                    "save_last": True,
                },
            }
        ],
    }
    path = folder / "recipe.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    recipe = {"seed_everything": options.seed, "model": model, "data": module, "trainer": trainer}
    path.write_text(json.dumps(recipe))  # JSON is YAML
    started = time.process_time()
    rnafm(["fit", f"--config={path}"])
    seconds = time.process_time() - started
    rnafm(
        ["test", f"--config={path}", f"--ckpt_path={folder / 'run' / 'checkpoints' / 'best.ckpt'}"]
    )
    found = json.loads((folder / "run" / "test" / "metrics.json").read_text())
    return {
        "epochs": epochs,
        "share_of_an_epoch": share,
        "cpu_seconds": round(seconds),
        "split": found["facts"]["split"],
        "leaks": found["facts"]["leaks"],
        "metrics": {name: each["value"] for name, each in found["metrics"].items()},
        "intervals": {name: [each["low"], each["high"]] for name, each in found["metrics"].items()},
        "floors": {
            name: {key: each["value"] for key, each in floor["metrics"].items()}
            for name, floor in found["floors"].items()
        },
        "groups": {
            column: {
                name: {key: each["value"] for key, each in group["metrics"].items()}
                for name, group in groups.items()
            }
            for column, groups in found["groups"].items()
            if column in ("exact_in_train", "partition")
        },
    }


def main() -> None:
    """Run what is missing in the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/labelled"))
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", help="only sets whose name begins so")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    results = json.loads(options.results.read_text()) if options.results.is_file() else {"rows": []}
    for name, spec in sets(options.data, options.runs).items():
        if options.sets and not any(name.startswith(start) for start in options.sets):
            continue
        for pretrained in (True, False):
            start = "pretrained" if pretrained else "scratch"
            done = any(
                (row["set"], row["start"], row["seed"]) == (name, start, options.seed)
                for row in results["rows"]
            )
            if done:
                continue
            folder = options.runs / f"{name}-{start}-{options.seed}".replace(" ", "_").replace(
                ",", ""
            )
            row = {"set": name, "start": start, "seed": options.seed, **describe()}
            row |= run(spec, options, folder, pretrained=pretrained)
            # Another process may have added rows in the meantime.
            if options.results.is_file():
                results = json.loads(options.results.read_text())
            results["rows"].append(row)
            write(options.results, results)


if __name__ == "__main__":
    main()
