"""``rnafm crossval``: folds times seeds of one recipe, and what they say together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any


def crossval(
    *options: str,
    config: Path,
    folds: int = 5,
    seeds: int = 1,
    out: Path | None = None,
) -> None:
    """Train and test a recipe on every fold and seed, and sum up.

    What is done already in the output folder is not done again, so a stopped command goes on.
    Words after ``--`` are options of ``rnafm fit``, such as --trainer.max_epochs=5.

    Args:
        *options: Of ``rnafm fit``.
        config: Recipe, whose data have a ``split`` (by hash, group or cluster).
        folds: Number of folds: every sequence is in the test of one of them.
        seeds: Runs of every fold, with seeds 0, 1, ...
        out: Folder for the runs and the summary; by default crossval/<recipe>.
    """
    from rich.console import Console
    from rich.progress import Progress

    from rnafm.reports.crossval import summarise

    if folds < 2 or seeds < 1:  # noqa: PLR2004
        raise ValueError(f"folds ({folds}) must be at least 2, seeds ({seeds}) at least 1")
    folder = out or Path("crossval") / config.stem
    runs = [(fold, seed) for seed in range(seeds) for fold in range(folds)]
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("runs", total=len(runs))
        for fold, seed in runs:
            run = folder / f"fold{fold}-seed{seed}"
            if not (run / "test" / "metrics.json").is_file():
                print(f"fold {fold}, seed {seed}: {run}", file=sys.stderr, flush=True)
                _fit_and_test(run, config, [*options], fold=fold, folds=folds, seed=seed)
            progress.advance(task)
    summarise(folder, folds=folds, seeds=seeds)


def _fit_and_test(
    run: Path, config: Path, options: list[str], *, fold: int, folds: int, seed: int
) -> None:
    logger = "--trainer.logger.init_args"
    common = [
        f"--config={config}",
        *options,
        f"--data.split.folds={folds}",
        f"--data.split.fold={fold}",
        f"--seed_everything={seed}",
        "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
        f"{logger}.save_dir={run.parent.parent}",
        f"{logger}.name={run.parent.name}",
        f"{logger}.version={run.name}",
    ]
    last = run / "checkpoints" / "last.ckpt"
    execute(["fit", *common, *([f"--ckpt_path={last}"] if last.is_file() else [])])
    execute(["test", *common, f"--ckpt_path={run / 'checkpoints' / 'best.ckpt'}"])


def execute(words: list[str]) -> Any:
    """Run a verb in a process of its own, which may use several devices and must leave nothing.

    Raises:
        ValueError: If it fails; what it printed says why.
    """
    result = subprocess.run([sys.executable, "-m", "rnafm", *words], check=False)  # noqa: S603
    if result.returncode:
        raise ValueError(
            f"rnafm {words[0]} ended with {result.returncode}: see above; run the same command "
            "again to go on from here"
        )
