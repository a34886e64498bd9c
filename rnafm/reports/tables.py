"""A report as tables to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.reports.bootstrap import MIN_UNITS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from rnafm.reports.bootstrap import Interval
    from rnafm.reports.report import Group, Report

MAX_GROUPS = 30  # rows of a table; the file has all
_PLAIN_WIDTH = 100
_UNBOUNDED = 100_000
_PER_CLASS = ("precision", "recall", "f1")


def show(report: Report, headline: str | None = None, console: Console | None = None) -> None:
    """Print a report; where it does not go to a terminal, no line is cut or folded.

    Args:
        report: What to print.
        headline: The metric by which groups are shown; without it, the first.
        console: Where to; without it, standard output.
    """
    from rich.console import Console

    console = console or Console()
    shown = tables(report, headline)
    if not console.is_terminal:
        ruler = Console(width=_UNBOUNDED)
        widest = max(ruler.measure(table).maximum for table in shown)
        console = Console(file=console.file, width=max(widest, _PLAIN_WIDTH))
    for table in shown:
        console.print(table)


def tables(report: Report, headline: str | None = None) -> list[Table]:
    """Tables of a report: what was tested, all metrics beside the floors, groups, classes.

    Args:
        report: What to show.
        headline: The metric by which groups are shown; without it, the first.
    """
    metric = headline or next(iter(report.metrics))
    found = [_fact_table(report)] if report.facts else []
    found.append(_metric_table(report))
    for column, groups in report.groups.items():
        found.append(_group_table(column, groups, metric, report))
    if report.classes:
        found.append(_class_table(report))
    return found


def number(value: float) -> str:
    """Three decimals, or four digits of large numbers; a dash where it is not defined."""
    if not np.isfinite(value):
        return "-"
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.4g}"  # noqa: PLR2004


def bounds(interval: Interval, num_units: int | None = None) -> str:
    """The ends of an interval, or why there is none."""
    if np.isfinite(interval.low):
        return f"{number(interval.low)} to {number(interval.high)}"
    few = interval.num_units if num_units is None else num_units
    return "too few" if few < MIN_UNITS else "-"


def _metric_table(report: Report) -> Table:
    table = _table(
        f"Test on {len(report.records):,} sequences",
        "metric", "predictor", "value", _level(report), "n", "model minus floor", _level(report),
    )  # fmt: skip
    table.columns[1].justify = "left"
    for metric, interval in report.metrics.items():
        table.add_section()
        _add(table, metric, "model", number(interval.value), bounds(interval), _count(interval))
        for name, floor in report.floors.items():
            if (other := floor.metrics.get(metric)) is None:
                continue
            row = ["", name, number(other.value), bounds(other), _count(other)]
            if (apart := floor.differences.get(metric)) is not None:
                row += [_signed(apart.value), bounds(apart)]
            _add(table, *row)
    _caption(table, (f"{name}: {floor.about}" for name, floor in report.floors.items()))
    return table


def _group_table(column: str, groups: Mapping[str, Group], metric: str, report: Report) -> Table:
    made = [name for name, floor in report.floors.items() if metric in floor.metrics]
    table = _table(f"{metric} by {column}", column, "n", metric, _level(report), *made)
    several = {value: group for value, group in groups.items() if group.num_sequences > 1}
    for value, group in list(several.items())[:MAX_GROUPS]:
        interval = group.metrics[metric]
        beside = [number(group.floors[name].get(metric, np.nan)) for name in made]
        sizes = f"{interval.num_units:,}"
        _add(table, value or "(empty)", sizes, number(interval.value), bounds(interval), *beside)
    if left := len(groups) - min(len(several), MAX_GROUPS):
        _caption(table, [f"and {left:,} smaller groups in metrics.json"])
    return table


def _class_table(report: Report) -> Table:
    table = _table("Scores by class", "class", "n", *_PER_CLASS, _level(report))
    for name, group in report.classes.items():
        cells = [number(group.metrics[score].value) for score in _PER_CLASS]
        cells.append(bounds(group.metrics[_PER_CLASS[-1]], group.num_sequences))
        _add(table, name, f"{group.num_sequences:,}", *cells)
    _caption(table, ["n: sequences with the class; interval: of f1"])
    return table


def _fact_table(report: Report) -> Table:
    table = _table("What was tested", "", "")
    table.show_header = False
    table.columns[1].justify = "left"
    for name, value in report.facts.items():
        _add(table, name.replace("_", " "), _said(value))
    return table


def _table(title: str, *heads: str) -> Table:
    """Plain rules, numbers to the right, nothing ever cut."""
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=SIMPLE, title=Text(title, "bold"), title_justify="left", caption_justify="left"
    )
    for number_, head in enumerate(heads):
        table.add_column(Text(head), justify="right" if number_ else "left", overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row; brackets in names are no markup."""
    from rich.text import Text

    table.add_row(*map(Text, cells))


def _caption(table: Table, lines: Iterable[str]) -> None:
    from rich.text import Text

    table.caption = Text("\n".join(lines), "dim")


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_said(entry)}" for key, entry in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _level(report: Report) -> str:
    return f"{report.bootstrap.level * 100:g} % interval"


def _count(interval: Interval) -> str:
    return f"{interval.num_units:,}"


def _signed(value: float) -> str:
    return f"+{number(value)}" if value > 0 else number(value)
