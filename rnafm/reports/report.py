"""Test results as people should see them: with intervals, floors, and by group."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.files import atomic
from rnafm.reports.bootstrap import MIN_UNITS, draw_mean, draw_statistic
from rnafm.reports.records import group_rows, length_bins

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from rnafm.reports.bootstrap import Draws, Interval
    from rnafm.reports.records import Records
    from rnafm.reports.scores import ClassScores

Statistics = Callable[..., "float | Mapping[str, float]"] | Mapping[str, Any]
"""The metrics of some sequences, numbers int64 (n,) with repeats: one function that gives all by
name, or for each name a function, or an array (B,) whose mean is the metric (NaN: left out)."""


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn.

    Args:
        resamples: Number of draws.
        seed: Of the draws.
        level: Share of the draws inside an interval.
    """

    resamples: int = 1000
    seed: int = 0
    level: float = 0.95


@dataclass(frozen=True)
class FloorScores:
    """A floor's numbers on the same sequences.

    Args:
        about: What it is, or why it has no numbers.
        metrics: Its metrics.
        differences: The model's minus its own; from the same draws, so narrower than the
            two intervals suggest.
    """

    about: str
    metrics: dict[str, Interval] = field(default_factory=dict)
    differences: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Numbers of some of the sequences.

    Args:
        num_sequences: How many; with fewer than 10 there are no intervals.
        metrics: The model's metrics.
        floors: The metrics of each floor.
    """

    num_sequences: int
    metrics: dict[str, Interval]
    floors: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Everything that is said about a test.

    Args:
        records: What is known of each sequence.
        facts: What was tested on what: data, split, decoder, checkpoint, leaks; plain values.
        metrics: The model's metrics over all sequences.
        floors: By name.
        groups: By column (or ``length``), then by value.
        classes: By name; metrics precision, recall and f1.
        bootstrap: How intervals were drawn.
    """

    records: Records
    facts: Mapping[str, Any]
    metrics: dict[str, Interval]
    floors: dict[str, FloorScores]
    groups: dict[str, dict[str, Group]]
    classes: dict[str, Group]
    bootstrap: Bootstrap

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain values; None for what is not defined."""
        drawn = {**asdict(self.bootstrap), "units": "sequences", "method": "percentile"}
        values: dict[str, Any] = _plain(
            {
                "facts": self.facts,
                "num_sequences": len(self.records),
                "bootstrap": {**drawn, "fewest_for_an_interval": MIN_UNITS},
                "metrics": self.metrics,
                "floors": self.floors,
                "groups": self.groups,
                "classes": self.classes,
            }
        )
        return values

    def write(self, folder: Path) -> None:
        """Write ``metrics.json`` and ``per_sequence.csv``; each is replaced as a whole."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        with atomic(folder / "metrics.json") as temporary:
            temporary.write_text(f"{text}\n", encoding="utf-8")
        self.records.write(folder / "per_sequence.csv")


def make_report(
    records: Records,
    statistics: Statistics,
    *,
    facts: Mapping[str, Any] | None = None,
    floors: Mapping[str, tuple[str, Statistics | None]] | None = None,
    group_by: Sequence[str] | None = None,
    classes: ClassScores | None = None,
    bootstrap: Bootstrap | None = None,
) -> Report:
    """Work out all numbers of a report.

    Args:
        records: What is known of each sequence.
        statistics: The model's metrics for numbers of sequences, int64 (n,), with repeats.
        facts: See `Report`.
        floors: For each floor what it is, and its metrics by the same names; None where it could
            not be made.
        group_by: Columns of the records to group by; without it, all of them.
        classes: Counts of the classes, for scores of each.
        bootstrap: How intervals are drawn.

    Raises:
        ValueError: If a column to group by is missing, or there is no sequence.
    """
    drawn = bootstrap or Bootstrap()
    made = {name: found for name, (_, found) in (floors or {}).items() if found is not None}
    everything = np.arange(len(records))
    model = _measure(statistics, everything, drawn)
    scored = {name: FloorScores(about) for name, (about, _) in (floors or {}).items()}
    for name, floor in made.items():
        found = _measure(floor, everything, drawn)
        both = {metric: model[metric].minus(found[metric]) for metric in model if metric in found}
        scored[name] = FloorScores(
            scored[name].about, _intervals(found, drawn), _intervals(both, drawn)
        )
    columns = records.columns if group_by is None else _chosen(records, group_by)
    groups = {name: group_rows(entries) for name, entries in columns.items()}
    groups["length"] = length_bins(records.lengths)
    return Report(
        records=records,
        facts=facts or {},
        metrics=_intervals(model, drawn),
        floors=scored,
        groups={
            name: {value: _score(rows, statistics, made, drawn) for value, rows in found.items()}
            for name, found in groups.items()
            if 1 < len(found) < len(records)  # one group is all of them; all alone say nothing
        },
        classes=_score_classes(classes, drawn) if classes else {},
        bootstrap=drawn,
    )


def _score(
    rows: NDArray[np.int64],
    statistics: Statistics,
    floors: Mapping[str, Statistics],
    bootstrap: Bootstrap,
) -> Group:
    """Intervals of the model, and only the numbers of the floors."""
    beside = {name: _measure(floor, rows, None) for name, floor in floors.items()}
    return Group(
        len(rows),
        _intervals(_measure(statistics, rows, bootstrap), bootstrap),
        {name: {key: found.value for key, found in all_.items()} for name, all_ in beside.items()},
    )


def _score_classes(classes: ClassScores, bootstrap: Bootstrap) -> dict[str, Group]:
    """Scores of each class; without intervals where fewer than 10 sequences have the class."""
    found = _intervals(_measure(classes, np.arange(len(classes.actual)), bootstrap), bootstrap)
    groups = {}
    for name, cases in zip(classes.names, (classes.actual > 0).sum(0).tolist(), strict=True):
        scores = {key: found[f"{name}/{key}"] for key in ("precision", "recall", "f1")}
        if cases < MIN_UNITS:
            scores = {key: replace(one, low=np.nan, high=np.nan) for key, one in scores.items()}
        groups[name] = Group(cases, scores)
    return groups


def _measure(
    statistics: Statistics, rows: NDArray[np.int64], bootstrap: Bootstrap | None
) -> dict[str, Draws]:
    """All metrics of some sequences; without draws if there is no bootstrap."""
    how = (bootstrap.resamples, bootstrap.seed) if bootstrap else (0, 0)
    if not isinstance(statistics, Mapping):
        return draw_statistic(statistics, rows, *how)
    found = {}
    for name, statistic in statistics.items():
        if callable(statistic):
            found[name] = next(iter(draw_statistic(statistic, rows, *how).values()))
        else:
            found[name] = draw_mean(np.asarray(statistic)[rows], *how)
    return found


def _intervals(draws: Mapping[str, Draws], bootstrap: Bootstrap) -> dict[str, Interval]:
    return {name: found.interval(bootstrap.level) for name, found in draws.items()}


def _chosen(records: Records, names: Sequence[str]) -> dict[str, Sequence[str]]:
    missing = [name for name in names if name not in records.columns]
    if missing:
        raise ValueError(
            f"group_by ({', '.join(missing)}): no such column; there are "
            f"{', '.join(records.columns) or 'none'}"
        )
    return {name: records.columns[name] for name in names}


def _plain(value: Any) -> Any:
    """Values that JSON knows; None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(vars(value))
    if isinstance(value, (list, tuple, set, np.ndarray)):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
