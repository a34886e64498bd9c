"""Pictures of predicted base pairs beside the true ones, and how every picture is saved."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.files import atomic

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

# told apart by people who confuse red and green
BLUE, RED, AMBER, GREY = "#1f5fa8", "#d1495b", "#e69f00", "#9aa3ad"
NUCLEOTIDES = {"A": "#3c8d40", "C": "#1f5fa8", "G": "#b8860b", "U": "#d1495b", "T": "#d1495b"}
MAX_LETTERS = 120  # of longer sequences letters would not be read
_MAX_PIXELS = 1200
_MIN_CELL = 2.5  # points
_SHOWN = 0.05  # lower probabilities are not enlarged
_FLATNESS = 0.6  # below 1 lifts short arcs; below 0.5 nested arcs would cross


def save(figure: Figure, path: Path) -> None:
    """Write a picture.

    Args:
        figure: What to draw.
        path: A PNG file; replaced as a whole.
    """
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of some size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def fitted(title: str, width: float) -> str:
    """A title in lines that are no wider than a figure of some inches."""
    return "\n".join(textwrap.wrap(title, int(width * 9)))


def compare_pairs(
    predicted: NDArray[np.integer], reference: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of both, pairs only predicted, pairs only in the reference; each (P, 2), sorted."""
    found = {(int(i), int(j)) for i, j in predicted}
    true = {(int(i), int(j)) for i, j in reference}
    right, wrong, missed = (
        np.array(sorted(pairs), np.int64).reshape(-1, 2)
        for pairs in (found & true, found - true, true - found)
    )
    return right, wrong, missed


def contact_map(
    probabilities: NDArray[np.floating],
    reference: NDArray[np.integer] | None = None,
    title: str = "",
) -> Figure:
    """Predicted probabilities above the diagonal, true pairs below it.

    Args:
        probabilities: Symmetric, (L, L), 0 to 1. More than 1200 nucleotides are shown as the
            highest probability of each few neighbours.
        reference: True pairs, (P, 2), 0-based; without them the prediction is shown twice.
        title: Name and family.
    """
    from matplotlib.colors import LinearSegmentedColormap

    length = len(probabilities)
    step = -(-length // _MAX_PIXELS)
    shown = np.array(probabilities, np.float64)
    if reference is not None:
        shown[np.tril_indices(length)] = np.nan
    size = float(np.clip(5 + length / 150, 6, 9))
    figure = new_figure(size * 1.12, size)
    axes = figure.subplots()
    edge = length + 0.5
    image = axes.imshow(
        _pooled(shown, step),
        cmap=LinearSegmentedColormap.from_list("pairs", ["#ffffff", "#9db7d5", BLUE, "#0b2545"]),
        vmin=0,
        vmax=1,
        interpolation="nearest",
        extent=(0.5, 0.5 + step * -(-length // step), 0.5 + step * -(-length // step), 0.5),
    )
    cell = 72 * size * 0.8 / length  # points
    if cell < _MIN_CELL and reference is not None:  # as large as the true ones
        i, j = np.nonzero(np.nan_to_num(shown) >= _SHOWN)
        order = np.argsort(shown[i, j])
        marks: dict[str, Any] = {"s": _MIN_CELL**2, "marker": "s", "lw": 0}
        axes.scatter(
            j[order] + 1,
            i[order] + 1,
            c=shown[i, j][order],
            cmap=image.cmap,
            vmin=0,
            vmax=1,
            **marks,
        )
    if reference is not None:
        low, high = (np.asarray(reference, np.int64).reshape(-1, 2) + 1).T
        axes.scatter(low, high, s=max(cell, _MIN_CELL) ** 2, marker="s", color=RED, lw=0)
        for colour, label in (
            (BLUE, "predicted, above the diagonal"),
            (RED, f"true pairs ({len(low):,}), below the diagonal"),
        ):
            axes.scatter([], [], marker="s", color=colour, lw=0, label=label)
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    axes.plot([0.5, edge], [0.5, edge], color="#c4c9cf", lw=0.8)
    axes.set(xlim=(0.5, edge), ylim=(edge, 0.5), xlabel="nucleotide", ylabel="nucleotide")
    axes.set_title(fitted(title, size))
    _number_nucleotides(axes, length, both=True)
    figure.colorbar(image, ax=axes, shrink=0.8, label="predicted probability of a pair")
    return figure


def arc_diagram(
    sequence: str,
    predicted: NDArray[np.integer],
    reference: NDArray[np.integer] | None = None,
    title: str = "",
) -> Figure:
    """Predicted pairs as arcs above the sequence, true pairs below it.

    Args:
        sequence: The RNA, L nucleotides; written out up to 120.
        predicted: Pairs, (P, 2), 0-based.
        reference: True pairs, (P, 2); without them only the prediction is drawn.
        title: Name and family.
    """
    length = len(sequence)
    figure = new_figure(float(np.clip(length * 0.11, 8, 14)), 5 if reference is not None else 3.2)
    axes = figure.subplots()
    sides: list[tuple[str, NDArray[Any], str, tuple[int, ...]]]
    if reference is None:
        sides = [(f"predicted ({len(predicted)} pairs)", np.asarray(predicted), BLUE, (1,))]
    else:
        right, wrong, missed = compare_pairs(predicted, reference)
        sides = [
            (f"predicted and true ({len(right)})", right, BLUE, (1, -1)),
            (f"predicted, not true ({len(wrong)})", wrong, RED, (1,)),
            (f"true, not predicted ({len(missed)})", missed, AMBER, (-1,)),
        ]
    widest = max(
        [1, *(int((pairs[:, 1] - pairs[:, 0]).max()) for _, pairs, _, _ in sides if len(pairs))]
    )
    gap = 0.05
    for label, pairs, colour, directions in sides:
        for direction in directions:
            arcs = _arcs(pairs, widest, gap, direction)
            arcs.set(color=colour, lw=float(np.clip(150 / length, 0.8, 1.8)))
            arcs.set_label(label if direction == directions[0] else "")
            axes.add_collection(arcs)
    axes.set(xlim=(0, length + 1), ylim=(-1.1 if reference is not None else -0.2, 1.1))
    axes.set_title(fitted(title, figure.get_figwidth()))
    if length <= MAX_LETTERS:
        for place, letter in enumerate(sequence, 1):
            colour = NUCLEOTIDES.get(letter.upper(), "#444444")
            axes.text(place, 0, letter, ha="center", va="center", fontsize=7, color=colour)
    else:
        axes.plot([1, length], [0, 0], color="#444444", lw=1.2)
    if reference is not None:
        axes.text(0.005, 0.97, "predicted", transform=axes.transAxes, va="top", color="#444444")
        axes.text(0.005, 0.03, "true", transform=axes.transAxes, color="#444444")
    _number_nucleotides(axes, length)
    axes.set_xlabel("nucleotide")
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _arcs(pairs: NDArray[np.integer], widest: int, gap: float, direction: int) -> LineCollection:
    """Half ellipses over pairs; the widest reaches 1."""
    from matplotlib.collections import LineCollection

    angles = np.linspace(0, np.pi, 61)
    low, high = (np.asarray(pairs, np.float64).reshape(-1, 2) + 1).T
    middle, radius = (low + high)[:, None] / 2, (high - low)[:, None] / 2
    heights = gap + (2 * radius / widest) ** _FLATNESS * (1 - gap) * np.sin(angles)
    points = np.stack([middle + radius * np.cos(angles), direction * heights], axis=-1)
    return LineCollection(list(points))


def _number_nucleotides(axes: Axes, length: int, *, both: bool = False) -> None:
    """Ticks at round numbers, the first and the last nucleotide; counted from 1."""
    steps = [step for step in (5, 10, 20, 50, 100, 200, 500, 1000) if length / step <= 11]  # noqa: PLR2004
    step = steps[0] if steps else 2000
    inner = [place for place in range(step, length, step) if length - place > step * 0.4]
    axes.set_xticks([1, *inner, length])
    if both:
        axes.set_yticks([1, *inner, length])


def _pooled(values: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """The highest of each step x step values; NaN only where all are."""
    if step == 1:
        return values
    blocks = -(-len(values) // step)
    padded = np.full((blocks * step,) * 2, -np.inf)
    padded[: len(values), : len(values)] = np.where(np.isnan(values), -np.inf, values)
    highest = padded.reshape(blocks, step, blocks, step).max((1, 3))
    return np.where(np.isinf(highest), np.nan, highest)
