"""Pictures of scores: confusion matrix, calibration, predicted against measured, by group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.reports.pictures import BLUE, RED, fitted, new_figure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from rnafm.reports.bootstrap import Interval
    from rnafm.reports.report import Group

MAX_BARS = 40
_LIGHT, _DARK = "#9db7d5", "#444444"
_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85}
_SMALL: dict[str, Any] = {"va": "center", "fontsize": 8}
_MANY_POINTS = 2000
_MAX_NUMBERS = 30  # classes; of more the numbers would not be read
_ROUND = 0.995  # what 100 % stands for in a cell


def confusion_matrix(
    counts: NDArray[np.integer], names: Sequence[str], title: str = "Confusion matrix"
) -> Figure:
    """Which true class was predicted as which: per cent of the true class, and its size.

    Args:
        counts: Row: true class, column: predicted class; (C, C).
        names: Names of the classes, C.
        title: What was tested.
    """
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    size = float(np.clip(2.6 + 0.42 * len(names), 4.5, 16))
    figure = new_figure(size + 1.2, size)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= _MAX_NUMBERS:
        for row, column in np.argwhere(counts):
            share = shares[row, column]
            text = f"{share:.0%}"[:-1] if share >= 1 - _ROUND else "<1"
            ink = "white" if share > 0.55 else _DARK  # noqa: PLR2004 - half of the colours are dark
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    labels = [f"{name} ({total:,})" for name, total in zip(names, totals[:, 0], strict=True)]
    axes.set_yticks(range(len(names)), labels)
    axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#e6e9ec", lw=0.6)
    axes.tick_params(which="minor", length=0)
    axes.set(xlabel="predicted class", ylabel="true class (how many)")
    right = counts.trace() / max(counts.sum(), 1)
    figure.suptitle(f"{fitted(title, size)}\naccuracy {right:.1%}, n = {counts.sum():,}")
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label="% of the true class")
    bar.set_ticks(np.linspace(0, 1, 6).tolist(), labels=[f"{n}" for n in range(0, 101, 20)])
    return figure


def calibration(
    probabilities: NDArray[np.floating],
    labels: NDArray[Any],
    title: str = "Calibration",
    num_bins: int = 10,
) -> Figure:
    """How often what was predicted with some probability is true.

    The expected calibration error (ECE) is the mean gap between the two, weighted by how many
    predictions lie in each of the equally wide bins (Naeini et al. 2015, Guo et al. 2017).

    Args:
        probabilities: Of a flag, (n,), or of classes, (n, C); of these the highest is shown.
        labels: Flags 0 or 1, (n,), NaN or negative where missing; or classes, int (n,).
        title: What was tested.
        num_bins: Number of bins.
    """
    known = np.asarray(labels) >= 0  # neither -100 nor NaN
    chances, truth = np.asarray(probabilities)[known], np.asarray(labels)[known]
    several = chances.ndim > 1
    right = chances.argmax(1) == truth if several else truth == 1
    chances = chances.max(1) if several else chances
    bins = np.minimum((chances * num_bins).astype(np.int64), num_bins - 1)
    counts = np.bincount(bins, minlength=num_bins)
    filled = counts > 0
    said = np.bincount(bins, chances, num_bins)[filled] / counts[filled]
    found = np.bincount(bins, right, num_bins)[filled] / counts[filled]
    error = float((counts[filled] * abs(said - found)).sum() / max(counts.sum(), 1))
    figure = new_figure(5.6, 6.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=_DARK, ls="--", lw=1, label="perfectly calibrated")
    upper.vlines(said, said, found, color=RED, lw=1.5, alpha=0.6, label="gap")
    upper.plot(said, found, "o-", color=BLUE, lw=1.6, label="predictions")
    what = "share that is right" if several else "share that is positive"
    upper.set(ylabel=f"observed {what}", ylim=(-0.02, 1.02), xlim=(-0.02, 1.02))
    upper.legend(frameon=False)
    edges = np.arange(num_bins) / num_bins
    bars = lower.bar(edges, counts, 1 / num_bins, align="edge", color=_LIGHT, ec=BLUE, lw=0.6)
    lower.bar_label(bars, [f"{count:,}" if count else "" for count in counts], fontsize=7)
    lower.margins(y=0.2)
    of = "of the predicted class" if several else "of the flag"
    lower.set(xlabel=f"predicted probability {of}", ylabel="predictions")
    _plain_axes(upper, lower)
    figure.suptitle(f"{fitted(title, 5.6)}\nECE {error:.3f}, {counts.sum():,} predictions")
    return figure


def scatter(
    measured: NDArray[np.floating],
    predicted: NDArray[np.floating],
    name: str,
    unit: str = "",
    title: str = "",
) -> Figure:
    """Predicted against measured values, with the line on which both are equal.

    Args:
        measured: (n,), NaN where missing.
        predicted: (n,).
        name: What was measured.
        unit: Its unit.
        title: What was tested; beside it stand n, Spearman's correlation and R2.
    """
    from scipy.stats import spearmanr

    known = ~(np.isnan(measured) | np.isnan(predicted))
    x, y = measured[known].astype(np.float64), predicted[known].astype(np.float64)
    figure = new_figure(6.2 if len(x) > _MANY_POINTS else 5.4, 5.4)
    axes = figure.subplots()
    if len(x) > _MANY_POINTS:
        points = axes.hexbin(x, y, gridsize=55, mincnt=1, bins="log", cmap="viridis", lw=0.1)
        figure.colorbar(points, ax=axes, shrink=0.8, label="how many (logarithmic)")
    else:
        size, alpha = (18, 0.7) if len(x) < 300 else (10, 0.5)  # noqa: PLR2004
        axes.scatter(x, y, s=size, alpha=alpha, color=BLUE, lw=0)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    edge = 0.03 * (high - low or 1)
    axes.plot([low, high], [low, high], color=RED, ls="--", lw=1.2, label="predicted = measured")
    axes.set(xlim=(low - edge, high + edge), ylim=(low - edge, high + edge), aspect="equal")
    of = f"{name} ({unit})" if unit else name
    axes.set(xlabel=f"measured {of}", ylabel=f"predicted {of}")
    axes.legend(frameon=False, loc="upper left")
    varied = bool(np.ptp(x)) and bool(np.ptp(y))
    rank = f"{spearmanr(x, y).statistic:.3f}" if varied else "-"
    spread = ((x - x.mean()) ** 2).sum()
    r2 = f"{1 - ((x - y) ** 2).sum() / spread:.3f}" if spread else "-"
    _plain_axes(axes)
    said = f"Spearman {rank}, R2 {r2}, n = {len(x):,}"
    figure.suptitle("\n".join([*([fitted(title, 5.4)] if title else []), said]))
    return figure


def score_by_group(
    groups: Mapping[str, Group],
    metric: str,
    title: str = "",
    *,
    overall: Interval | None = None,
) -> Figure:
    """Scores of groups as bars with their intervals, the highest on top.

    Groups of one sequence are not shown, and of more than 40 groups the largest.

    Args:
        groups: By name; those without a score are left out.
        metric: Which of their scores.
        title: What was tested, and by what it is grouped.
        overall: The score of all sequences, as a line.
    """
    known = {name: one for name, one in groups.items() if np.isfinite(one.metrics[metric].value)}
    several = [name for name, one in known.items() if one.num_sequences > 1]
    largest = sorted(several, key=lambda name: -known[name].num_sequences)[:MAX_BARS]
    order = sorted(largest, key=lambda name: known[name].metrics[metric].value)
    left = len(known) - len(order)
    said = f"{title}\n{left:,} smaller groups are not shown" if left else title
    return _bars({name: known[name] for name in order}, metric, said, overall)


def score_by_length(
    bins: Mapping[str, Group],
    metric: str,
    title: str = "",
    *,
    overall: Interval | None = None,
) -> Figure:
    """Scores of bins of length as bars with their intervals, the first on top.

    Args:
        bins: By name, from short to long.
        metric: Which of their scores.
        title: What was tested.
        overall: The score of all sequences, as a line.
    """
    return _bars(dict(reversed(list(bins.items()))), metric, title, overall)


def _bars(groups: Mapping[str, Group], metric: str, title: str, overall: Interval | None) -> Figure:
    """Horizontal bars, the last on top."""
    figure = new_figure(7.5, 1.6 + 0.32 * max(len(groups), 2))
    axes = figure.subplots()
    ends = [(one.low, one.value, one.high) for one in (g.metrics[metric] for g in groups.values())]
    lows, values, highs = np.array(ends, np.float64).reshape(-1, 3).T
    places = np.arange(len(groups))
    axes.barh(places, np.nan_to_num(values), color=_LIGHT, height=0.7)
    drawn = np.isfinite(lows)
    reach = np.stack([values - lows, highs - values]).clip(0)[:, drawn]
    axes.errorbar(values[drawn], places[drawn], xerr=reach, fmt="none", ecolor=BLUE, capsize=3)
    if overall is not None:
        label = f"all: {overall.value:.3f} (n = {overall.num_units:,})"
        axes.axvline(overall.value, color=RED, ls="--", lw=1.2, label=label)
        figure.legend(loc="outside lower center", frameon=False)
    for place, value, high in zip(places, values, highs, strict=True):
        end = np.nanmax([value, high, 0])
        said = f"{value:.3f}" if np.isfinite(value) else "no value"
        axes.annotate(said, (end, place), (5, 0), textcoords="offset points", bbox=_WHITE, **_SMALL)
    named = [f"{name or '(empty)'} (n = {one.num_sequences:,})" for name, one in groups.items()]
    axes.set_yticks(places, named)
    axes.set(xlabel=f"{metric} (lines: 95 % interval)" if drawn.any() else metric)
    axes.margins(x=0.14, y=0.02)
    _plain_axes(axes, grid="x")
    figure.suptitle("\n".join(fitted(line, 7.5) for line in title.splitlines()))
    return figure


def _plain_axes(*all_axes: Axes, grid: str = "both") -> None:
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, axis=grid)  # type: ignore[arg-type]
        axes.set_axisbelow(True)
