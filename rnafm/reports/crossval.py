"""What several tests say together, and whether two of them differ."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.files import atomic
from rnafm.reports.bootstrap import MIN_UNITS, paired_difference
from rnafm.reports.records import read_values
from rnafm.reports.tables import number

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from rnafm.reports.bootstrap import Interval

# What per_sequence.csv may hold of each kind of task, the main one of each kind first, and whether
# less of it is better. Of other columns nobody knows what is good.
_COMPARED = {
    "f1": False,
    "correct": False,
    "accuracy": False,
    "squared_error": True,
    "rmse": True,
    "precision": False,
    "recall": False,
    "mcc": False,
    "flexible_precision": False,
    "flexible_recall": False,
    "flexible_f1": False,
    "pseudoknot_f1": False,
}
_LEAST_FOLDS = 3  # Student's interval of two means is thirteen times as wide as their distance
_WIDTH = 200  # where nothing says how wide the output is: no cell is cut


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
    floors = list(dict.fromkeys(name for run in runs.values() for name in run["floors"]))
    summary: dict[str, Any] = {"folds": folds, "seeds": seeds, "metrics": {}}
    table = Table(box=SIMPLE)
    table.add_column("metric")
    predictors = ["model", *floors]
    heads = ["mean", "sd", "95 % interval", *predictors[1:]]
    for head in heads:
        table.add_column(head, justify="right")
    for metric in dict.fromkeys(name for run in runs.values() for name in run["metrics"]):
        row = {}
        for predictor in predictors:
            row[predictor] = _over_runs(runs, metric, predictor)
        summary["metrics"][metric] = row
        own = row["model"]
        interval = f"{number(own['low'])} to {number(own['high'])}"
        others = [number(row[predictor]["mean"]) for predictor in predictors[1:]]
        table.add_row(metric, number(own["mean"]), number(own["sd"]), interval, *others)
    console = Console()
    if not console.is_terminal:
        console = Console(file=console.file, width=_WIDTH)
    console.print(f"{folds} folds x {seeds} seed{'s' * (seeds > 1)}: {folder}", soft_wrap=True)
    console.print(table)
    few = f"; none from fewer than {_LEAST_FOLDS} folds" if folds < _LEAST_FOLDS else ""
    console.print(f"sd: over all runs; interval: Student's, over the means of the folds{few}")
    # What is not defined is null.
    plain = json.loads(json.dumps(summary), parse_constant=lambda _: None)
    with atomic(folder / "summary.json") as temporary:
        temporary.write_text(json.dumps(plain, indent=2) + "\n")
    console.print(f"Summary: {folder / 'summary.json'}", soft_wrap=True)


def _over_runs(
    runs: Mapping[tuple[int, int], Mapping[str, Any]], metric: str, predictor: str
) -> dict[str, float]:
    """Mean, spread and interval of a metric of the model or of a floor, where it is defined."""
    from scipy.stats import t

    by_fold: dict[int, list[float]] = defaultdict(list)
    for (fold, _), run in runs.items():
        model = predictor == "model"
        found = run if model else run["floors"].get(predictor, {"metrics": {}})
        value = found["metrics"].get(metric, {}).get("value")
        if value is not None:
            by_fold[fold].append(value)
    values = np.array([value for each in by_fold.values() for value in each])
    means = np.array([np.mean(each) for each in by_fold.values()])
    mean = float(means.mean()) if len(means) else math.nan
    half = math.nan
    if len(means) >= _LEAST_FOLDS:
        half = float(t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / np.sqrt(len(means)))
    return {
        "mean": mean,
        "sd": float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        "low": mean - half,
        "high": mean + half,
        "num_folds": len(means),
    }


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
    metric = metric or _main_metric(_per_sequence_files(first)[0])
    (a, b), sizes = _paired(first, second, metric)
    if not len(a):
        raise ValueError(
            f"{first} and {second} have no sequence with a {metric} in common: nothing to compare"
        )
    found = paired_difference(a, b)
    apart = found.difference
    lines = [
        f"{metric} of {len(a):,} sequences{sizes}",
        f"  {first}: {number(float(a.mean()))}",
        f"  {second}: {number(float(b.mean()))}",
        f"  difference (first minus second) {apart.value:+.4g}, Wilcoxon p = {found.p_value:.2g}",
        f"  the first is higher on {found.higher:,} of them, lower on {found.lower:,}",
    ]
    if np.isfinite(apart.low):
        interval = f"{apart.low:+.4g} to {apart.high:+.4g}"
        lines.insert(4, f"  95 % interval {interval}, bootstrap over sequences")
    return "\n".join([*lines, f"  {_verdict(first, second, metric, apart)}"])


def _verdict(first: Path, second: Path, metric: str, apart: Interval) -> str:
    if not np.isfinite(apart.low):
        return f"fewer than {MIN_UNITS} sequences: too few to tell a difference"
    if apart.low <= 0 <= apart.high:
        return "the interval includes 0: these sequences show no difference"
    if metric not in _COMPARED:
        return f"{first if apart.value > 0 else second} is higher"
    lower = _COMPARED[metric]
    better = first if (apart.value > 0) != lower else second
    return f"{better} is better" + (" (less is better)" if lower else "")


def _main_metric(path: Path) -> str:
    """The column to compare where none is named."""
    with path.open(newline="", encoding="utf-8") as file:
        columns = next(csv.reader(file), [])
    found = [name for name in _COMPARED if name in columns]
    if not found:
        raise ValueError(
            f"{path}: has none of {', '.join(_COMPARED)}; name a column with --metric: "
            f"{', '.join(columns)}"
        )
    return found[0]


def _paired(
    first: Path, second: Path, metric: str
) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], str]:
    """Values of the sequences that have one in both, and what is to be said of the others."""
    one, two = (_values(_per_sequence_files(folder), metric) for folder in (first, second))
    lengths = [_values(_per_sequence_files(folder), "length") for folder in (first, second)]
    shared = sorted(one.keys() & two.keys())
    for name in shared:
        sizes = [int(known[name]) for known in lengths]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"{name!r} has {sizes[0]:,} nt in {first} and {sizes[1]:,} in {second}: sequences "
                "are matched by name, so both must be tests of the same data"
            )
    a, b = (np.array([values[name] for name in shared]) for values in (one, two))
    known = ~(np.isnan(a) | np.isnan(b))
    notes = []
    if alone := len(one.keys() ^ two.keys()):
        notes.append(f"{alone:,} more are in one of them only")
    if without := int((~known).sum()):
        notes.append(f"{without:,} more have no value")
    return (a[known], b[known]), f" ({'; '.join(notes)})" if notes else ""


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
    """The value of each sequence, its mean over the seeds where there are several."""
    found: dict[str, list[float]] = defaultdict(list)
    tested: dict[tuple[str, str], Path] = {}
    for path in files:
        seed = re.sub(r"^fold\d+-", "", path.parent.parent.name)
        try:
            values = read_values(path, metric)
        except ValueError as error:
            if "could not convert" not in str(error):
                raise
            raise ValueError(f"{path}: column {metric!r} has no numbers: {error}") from error
        for name, value in values.items():
            other = tested.setdefault((seed, name), path)
            if other != path:
                raise ValueError(
                    f"{name!r} is in {other} and in {path}: every sequence is in the test of one "
                    "fold; were they made by several commands?"
                )
            found[name].append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}
