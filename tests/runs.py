"""Small training runs through the command line."""

import csv
import subprocess
import sys
from pathlib import Path

import torch

from rnafm.cli import main

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "examples" / "ncrna_sample.fa.gz"


def write_fasta(path, count=400, seed=0):
    """Random sequences, some longer than the runs below take."""
    generator = torch.Generator().manual_seed(seed)
    with path.open("w") as file:
        for number in range(count):
            length = int(torch.randint(10, 90, (1,), generator=generator))
            letters = torch.randint(4, (length,), generator=generator).tolist()
            file.write(f">s{number}\n{''.join('ACGU'[i] for i in letters)}\n")
    return path


def words(folder, fasta, *more):
    """Options of a run of seconds; its files go to ``folder/run/version_<n>``."""
    return [
        "fit",
        f"--config={ROOT / 'configs' / 'pretrain' / 'tiny.yaml'}",
        f"--config={ROOT / 'configs' / 'trainer' / 'cpu.yaml'}",
        f"--data.fasta=[{fasta}]",
        "--data.tokens_per_batch=1500",
        "--data.max_length=60",
        "--data.val_fraction=0.1",
        "--model.encoder={num_layers: 1, embed_dim: 16, num_heads: 2, ffn_dim: 32}",
        "--model.schedule=rnafm.modules.schedules.InverseSqrt",
        "--model.schedule.init_args.warmup_steps=10",
        "--trainer.val_check_interval=5",
        "--trainer.log_every_n_steps=1",
        f"--trainer.logger.init_args.save_dir={folder}",
        "--trainer.logger.init_args.name=run",
        *more,
    ]


def fit(folder, fasta, *more):
    """Run in this process; the folder of the run."""
    main(words(folder, fasta, *more))
    return newest(folder)


def fit_outside(folder, fasta, *more):
    """Run in a process of its own, which may start more; the folder of the run."""
    command = [sys.executable, "-m", "rnafm", *words(folder, fasta, *more)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    return newest(folder)


def newest(folder):
    """Folder of the latest run."""
    return max((folder / "run").glob("version_*"), key=lambda path: int(path.name.split("_")[1]))


def weights(run):
    """State dict of the last checkpoint, which loads without executing anything."""
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def curve(run, name):
    """Step -> value of a logged metric."""
    with (run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get(name)]
    return {int(row["step"]): float(row[name]) for row in rows}
