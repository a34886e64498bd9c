"""One-hot letters instead of an encoder: what the structure head reaches, and decoding on top.

python benchmarks/onehot.py --epochs 2 --longest 120

The head, the loss (pairs weigh ten times) and the scoring are those of sinc-lab (Zablocki et al.
2025), who report a strict F1 of 0.351 on TS0 after 15 epochs on all of TR0 at a rate of 1e-4. A CPU
does fewer epochs on the shorter sequences, at a higher rate; the result says how many.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from machine import describe, write
from rich.progress import track
from torch.optim import AdamW

from rnafm.callbacks import RunProgress
from rnafm.data.partition import Partition
from rnafm.data.structures import StructureDataModule
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import EncoderConfig, OneHotEncoder
from rnafm.modules.folding import PUBLISHED, Method, decode
from rnafm.tasks import Binary, ContactPrediction
from rnafm.tasks.pair_scores import score_pairs

RESULTS = Path(__file__).parent / "results" / "onehot.json"
ONE_HOT = EncoderConfig(num_layers=1, embed_dim=4, num_heads=1, ffn_dim=4)
SPLIT = {"train": ["TR0"], "val": ["VL0"], "test": ["TS0"]}


class OneHotContact(ContactPrediction):
    """Contacts from the letters alone."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(encoder=ONE_HOT, **kwargs)
        self.encoder = OneHotEncoder(Vocabulary.named("rna"))  # type: ignore[assignment]


def shorter(source: Path, target: Path, longest: int, num_val: int) -> None:
    """The training and validation rows up to a length, and all test rows."""
    counts = {"VL0": 0}
    with gzip.open(source, "rt") as file, target.open("w", newline="") as out:
        rows = csv.DictReader(file)
        writer = csv.DictWriter(out, rows.fieldnames or [])
        writer.writeheader()
        for row in rows:
            short = len(row["sequence"]) <= longest
            if row["partition"] == "VL0":
                counts["VL0"] += short
                short = short and counts["VL0"] <= num_val
            if row["partition"] == "TS0" or (row["partition"] in ("TR0", "VL0") and short):
                writer.writerow(row)


def trained(options: argparse.Namespace, data: StructureDataModule) -> tuple[Path, float]:
    """Train; the checkpoint of the last epoch, and CPU seconds."""
    task = OneHotContact(
        objective=Binary(pos_weight=10.0),
        decoders=["nested", "greedy"],
        optimizer=lambda groups: AdamW(groups, lr=options.lr, weight_decay=0.0),
    )
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=options.epochs,
        num_sanity_val_steps=0,
        gradient_clip_val=1.0,
        logger=False,
        default_root_dir=options.runs,
        callbacks=[RunProgress(60), ModelCheckpoint(options.runs, "last-{epoch}", save_top_k=-1)],
    )
    started = time.process_time()
    trainer.fit(task, datamodule=data, ckpt_path=options.resume)
    return Path(trainer.checkpoint_callback.best_model_path), time.process_time() - started  # type: ignore[union-attr]


def chosen(weights: Path, data: StructureDataModule, methods: list[Method]) -> OneHotContact:
    """The trained task with the best decoder of some kinds, chosen on validation."""
    task = OneHotContact(objective=Binary(pos_weight=10.0), decoders=methods)
    task.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.validate(task, datamodule=data)
    return task.eval()


def main() -> None:
    """Train, decode the test set in the published way and in ours, write the scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("data/labelled"))
    parser.add_argument("--runs", type=Path, default=Path("runs/onehot"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--longest", type=int, default=120)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--num-val", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--resume", type=Path, help="checkpoint of a training to go on with")
    parser.add_argument("--weights", type=Path, help="checkpoint of an earlier training to score")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.runs.mkdir(parents=True, exist_ok=True)
    table = options.runs / f"bprna_{options.longest}.csv"
    shorter(options.data / "contact" / "bprna.csv.gz", table, options.longest, options.num_val)
    pl.seed_everything(0)
    data = StructureDataModule(
        [str(table)],
        structure_column="structure_canonical",
        split=Partition(by="column", column="partition", names=SPLIT),
        pairs_per_batch=32_768,
        on_unknown="unk",
    )
    seconds = None
    if options.weights is None:
        options.weights, seconds = trained(options, data)
    content = torch.load(options.weights, weights_only=True)
    task = chosen(options.weights, data, ["nested", "greedy"])
    decoders = {
        "published rule": PUBLISHED,
        "ours": task.decoder,
        "hybrid": chosen(options.weights, data, ["hybrid"]).decoder,
    }
    found: dict[str, list[float]] = {name: [] for name in decoders}
    data.setup("test")
    loader = data.test_dataloader()
    for batch in track(loader, "scoring", len(loader)):
        with torch.inference_mode():
            folds = task.predict_step(batch)
        for row, fold in zip(batch.indices.tolist(), folds, strict=True):
            sequence, reference = data.sequences[row], data.labels[row]
            for name, decoder in decoders.items():
                pairs = decode(fold.probabilities, sequence, decoder)
                found[name].append(score_pairs(pairs, reference, len(sequence))["f1"])
    row = {
        **describe(),
        "steps": content["global_step"],
        "epochs": content["epoch"] + 1,
        "longest": options.longest,
        "lr": options.lr,
        "train_sequences": len(data.rows["train"]),
        "cpu_seconds": seconds and round(seconds),
        "test_sequences": len(found["ours"]),
        "decoders": {name: decoder.describe() for name, decoder in decoders.items()},
        "f1": {name: float(np.mean(scores)) for name, scores in found.items()},
        "published": {"one-hot, sinc-lab, 15 epochs on all of TR0": 0.351},
    }
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"rows": []}
    results["rows"].append(row)
    write(RESULTS, results)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
