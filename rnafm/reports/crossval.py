"""What several tests say together, and whether two of them differ."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.files import atomic
from rnafm.reports.bootstrap import paired_difference
from rnafm.reports.records import read_values
from rnafm.reports.tables import number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# What per_sequence.csv may hold of each kind of task, and whether less is better.
_COMPARED = {"f1": False, "correct": False, "accuracy": False, "squared_error": True, "rmse": True}


def summarise(folder: Path, folds: int, seeds: int) -> None:
    """Print and write mean, spread and interval of every metric over folds and seeds.

    The interval is Student's over the means of the folds: seeds of a fold are tested on the same
    sequences, so they are no more evidence about new ones.

    Args:
        folder: With a folder ``fold<i>-seed<j>`` for each run.
        folds: Number of folds.
        seeds: Runs of each.
    """
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    runs = {
        (fold, seed): json.loads(
            (folder / f"fold{fold}-seed{seed}" / "test" / "metrics.json").read_text()
        )
        for fold in range(folds)
        for seed in range(seeds)
    }
    first = next(iter(runs.values()))
    summary: dict[str, Any] = {"folds": folds, "seeds": seeds, "metrics": {}}
    table = Table(
        title=f"{folds} folds x {seeds} seeds: {folder}",
        title_justify="left",
        box=SIMPLE,
        caption="sd: over all runs; interval: Student's, over the means of the folds",
        caption_justify="left",
    )
    table.add_column("metric")
    predictors = ["model", *first["floors"]]
    heads = ["mean", "sd", "95 % interval", *predictors[1:]]
    for head in heads:
        table.add_column(head, justify="right")
    for metric in first["metrics"]:
        row = {}
        for predictor in predictors:
            row[predictor] = _over_runs(runs, metric, predictor)
        summary["metrics"][metric] = row
        own = row["model"]
        interval = f"{number(own['low'])} to {number(own['high'])}"
        others = [number(row[predictor]["mean"]) for predictor in predictors[1:]]
        table.add_row(metric, number(own["mean"]), number(own["sd"]), interval, *others)
    console = Console()
    console.print(table)
    # What is not defined is null.
    plain = json.loads(json.dumps(summary), parse_constant=lambda _: None)
    with atomic(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(plain, indent=2) + "\n")
    console.print(f"Summary: {folder / 'summary.json'}")


def _over_runs(
    runs: Mapping[tuple[int, int], Mapping[str, Any]], metric: str, predictor: str
) -> dict[str, float]:
    """Mean, spread and interval of a metric of the model or of a floor."""
    from scipy.stats import t

    by_fold: dict[int, list[float]] = defaultdict(list)
    for (fold, _), run in runs.items():
        found = run["metrics"] if predictor == "model" else run["floors"][predictor]["metrics"]
        value = found.get(metric, {}).get("value")
        if value is not None:
            by_fold[fold].append(value)
    values = np.array([value for each in by_fold.values() for value in each])
    means = np.array([np.mean(each) for each in by_fold.values()])
    if len(means) < 2:  # noqa: PLR2004  # one value has no spread
        mean = float(means.mean()) if len(means) else float("nan")
        return {"mean": mean, "sd": float("nan"), "low": float("nan"), "high": float("nan")}
    half = float(t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
    mean = float(means.mean())
    return {"mean": mean, "sd": float(values.std(ddof=1)), "low": mean - half, "high": mean + half}


def compare_runs(first: Path, second: Path, metric: str | None = None) -> str:
    """Compare two tests, or two cross-validations, on the sequences that both have.

    Args:
        first: Folder of a test, or of a cross-validation.
        second: The other.
        metric: Column of ``per_sequence.csv``; by default the main one.

    Returns:
        A few lines to print.

    Raises:
        ValueError: If a folder has no results, or they share no sequence or column.
    """
    files = {folder: _per_sequence_files(folder) for folder in (first, second)}
    if metric is None:
        with files[first][0].open(newline="", encoding="utf-8") as file:
            columns = next(csv.reader(file))
        metric = next((name for name in _COMPARED if name in columns), None)
        if metric is None:
            raise ValueError(f"{files[first][0]}: there is no column to compare; name a metric")
    a, b = (_values(files[folder], metric) for folder in (first, second))
    shared = sorted(a.keys() & b.keys())
    if not shared:
        raise ValueError(f"{first} and {second} have no sequence in common: nothing to compare")
    found = paired_difference(
        np.array([a[name] for name in shared]), np.array([b[name] for name in shared])
    )
    apart = found.difference
    lower = _COMPARED.get(metric, False)
    if apart.low <= 0 <= apart.high or not np.isfinite(apart.low):
        verdict = "the interval includes 0: these sequences show no difference"
    else:
        better = first if (apart.value > 0) != lower else second
        verdict = f"{better} is better"
    left = len(a.keys() ^ b.keys())
    unshared = f" ({left:,} sequences are in one of them only)" if left else ""
    return "\n".join(
        [
            f"{metric} of {len(shared):,} sequences{unshared}",
            f"  {first}: {number(float(np.nanmean([a[name] for name in shared])))}",
            f"  {second}: {number(float(np.nanmean([b[name] for name in shared])))}",
            f"  difference {apart.value:+.4f}, Wilcoxon p = {found.p_value:.2g}",
            f"  95 % interval {apart.low:+.4f} to {apart.high:+.4f}, bootstrap over sequences",
            f"  the first is higher on {found.higher:,}, lower on {found.lower:,}",
            f"  {verdict}" + (" (less is better)" if lower else ""),
        ]
    )


def _per_sequence_files(folder: Path) -> list[Path]:
    patterns = ("per_sequence.csv", "test/per_sequence.csv", "fold*-seed*/test/per_sequence.csv")
    for pattern in patterns:
        if found := sorted(folder.glob(pattern)):
            return found
    raise ValueError(
        f"{folder} has no per_sequence.csv; give the folder of a run after rnafm test, or of "
        "rnafm crossval"
    )


def _values(files: list[Path], metric: str) -> dict[str, float]:
    """The value of each sequence, its mean where it was tested several times."""
    found: dict[str, list[float]] = defaultdict(list)
    for path in files:
        for name, value in read_values(path, metric).items():
            found[name].append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}
