"""Drawings of secondary structures in the plane; the layout is ViennaRNA's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.reports.floors import MISSING_VIENNARNA
from rnafm.reports.pictures import (
    AMBER,
    BLUE,
    GREY,
    MAX_LETTERS,
    RED,
    compare_pairs,
    fitted,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

LOOPS = {
    "stem": "#1f5fa8",
    "hairpin": "#d1495b",
    "bulge or internal": "#e69f00",
    "multiloop": "#2a9d8f",
    "external": GREY,
}
CORRECTNESS = {
    "right pair": BLUE,
    "wrong pair": RED,
    "misses its pair": AMBER,
    "unpaired in both": GREY,
}
_LONGEST_SIDE = 8.0  # inches
_OVERLAP = 0.8  # backbone steps; the nucleotides are drawn 0.85 wide
_CENTRED: dict[str, Any] = {"ha": "center", "va": "center"}


def draw_structure(
    sequence: str,
    pairs: NDArray[np.integer],
    reference: NDArray[np.integer] | None = None,
    title: str = "",
) -> Figure:
    """Draw a structure, coloured by what is right, or without a reference by loop.

    Pairs that cross the others (pseudoknots) are drawn as curves over the nested layout, true
    pairs that were not predicted as dashed curves.

    Args:
        sequence: The RNA, L nucleotides; letters are written up to 120.
        pairs: Pairs to draw, (P, 2), 0-based.
        reference: True pairs, (P, 2).
        title: Name and family.

    Raises:
        ValueError: If ViennaRNA is not installed, or the sequence is empty.
    """
    nested, _ = split_crossing(pairs)
    places = _layout(len(sequence), nested)
    width, height = np.ptp(places, axis=0) + 3
    step = float(
        np.clip(_LONGEST_SIDE / max(width, height), 0.012, 0.4)
    )  # inches along the backbone
    figure = new_figure(max(5.5, width * step + 0.4), max(3.5, height * step + 1.2))
    axes = figure.subplots()
    axes.plot(*places.T, color="#b9bfc6", lw=1.0, zorder=1)
    if reference is None:
        shades, kinds = LOOPS, [(np.asarray(pairs), "#7a828b", "-")]
        states = _loops(len(sequence), nested)
    else:
        right, wrong, missed = compare_pairs(pairs, reference)
        shades = CORRECTNESS
        kinds = [(right, BLUE, "-"), (wrong, RED, "-"), (missed, AMBER, "--")]
        states = np.full(len(sequence), "unpaired in both", object)
        for some, state in zip((missed, wrong, right), list(CORRECTNESS)[2::-1], strict=True):
            states[some.ravel()] = state
    straight = {(int(i), int(j)) for i, j in nested}
    for some, colour, style in kinds:
        _join(axes, places, some, straight, color=colour, linestyle=style)
    size = min(step * 72 * 0.85, 15.0)  # points
    for name, colour in shades.items():
        found = places[states == name]
        label = f"{name} ({len(found)} nt)"
        if not len(found):
            continue
        axes.scatter(found[:, 0], found[:, 1], s=size**2, color=colour, lw=0, zorder=3, label=label)
    if len(sequence) <= MAX_LETTERS:
        for place, letter, state in zip(places, sequence, states, strict=True):
            ink = "#222222" if shades[state] in (GREY, AMBER) else "white"
            axes.text(place[0], place[1], letter, size=size * 0.62, color=ink, **_CENTRED, zorder=4)
    _mark(axes, places, max(0.17 / step, 1.5 if len(sequence) <= MAX_LETTERS else 2.8))
    axes.set_aspect("equal")
    axes.margins(0.06)
    axes.axis("off")
    figure.suptitle(fitted(title, figure.get_figwidth()))
    figure.legend(
        loc="outside lower center", ncols=3, frameon=False, fontsize=8, markerscale=min(1, 6 / size)
    )
    return figure


def split_crossing(
    pairs: NDArray[np.integer],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Part pairs into a nested structure and the rest, each (P, 2).

    The pair in most conflicts (crossing, or a shared nucleotide) goes first, so that of two
    crossing stems the longer one stays.
    """
    left = np.asarray(pairs, np.int64).reshape(-1, 2)
    left = left[np.lexsort(left.T[::-1])]
    low, high = left.T
    inside = (low[:, None] < low) & (low < high[:, None]) & (high > high[:, None])
    shared = (left[:, None, :, None] == left[None, :, None, :]).any((2, 3))
    np.fill_diagonal(shared, val=False)
    conflicts = inside | inside.T | shared
    kept = np.ones(len(left), bool)
    while (counts := conflicts[kept][:, kept].sum(1)).any():
        kept[np.flatnonzero(kept)[counts.argmax()]] = False
    return left[kept], left[~kept]


def _layout(length: int, nested: NDArray[np.int64]) -> NDArray[np.float64]:
    """Where the nucleotides lie, (L, 2); the median step along the backbone is 1.

    Of ViennaRNA's layouts that in which the fewest nucleotides lie on each other.
    """
    try:
        import RNA
    except ImportError as error:
        raise ValueError(f"a drawing of a structure {MISSING_VIENNARNA}") from error
    if not length:
        raise ValueError("sequence (''): nothing to draw; give at least one nucleotide")
    text = np.full(length, ".")
    text[nested[:, 0]], text[nested[:, 1]] = "(", ")"
    before = RNA.cvar.rna_plot_type  # a global of the library
    found = []
    try:
        for layout in (RNA.PLOT_TYPE_PUZZLER, RNA.PLOT_TYPE_NAVIEW, RNA.PLOT_TYPE_SIMPLE):
            RNA.cvar.rna_plot_type = layout
            drawn = RNA.get_xy_coordinates("".join(text))
            places = np.array([(drawn.get(i).X, drawn.get(i).Y) for i in range(length)])
            steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
            found.append(places / (np.median(steps) if length > 1 else 1))
    finally:
        RNA.cvar.rna_plot_type = before
    places = min(found, key=_overlaps)
    if np.ptp(places[:, 1]) > np.ptp(places[:, 0]) * 1.2:  # screens and slides are wide
        places = places[:, ::-1] * [1, -1]
    return places


def _overlaps(places: NDArray[np.float64]) -> int:
    """How many pairs of nucleotides lie on each other."""
    near = np.linalg.norm(places[:, None] - places, axis=2) < _OVERLAP
    return int(np.triu(near, 1).sum())


def _loops(length: int, nested: NDArray[np.int64]) -> NDArray[np.object_]:
    """The loop that each nucleotide lies in, by the names of `LOOPS`, (L,)."""
    partner = np.full(length, -1)
    partner[nested[:, 0]], partner[nested[:, 1]] = nested[:, 1], nested[:, 0]
    states = np.full(length, "external", object)
    for low, high in nested[np.argsort(nested[:, 0] - nested[:, 1])].tolist():  # widest first
        free, branches, place = [], 0, low + 1
        while place < high:
            if partner[place] < 0:
                free.append(place)
                place += 1
            else:
                branches += 1
                place = int(partner[place]) + 1
        states[free] = ("hairpin", "bulge or internal", "multiloop")[min(branches, 2)]
    states[partner >= 0] = "stem"
    return states


def _join(
    axes: Axes,
    places: NDArray[np.float64],
    pairs: NDArray[np.int64],
    straight: set[tuple[int, int]],
    **style: str,
) -> None:
    """Lines between pairs: straight within the layout, curves over it."""
    from matplotlib.collections import LineCollection

    share = np.linspace(0, 1, 30)[:, None]
    lines = []
    for i, j in pairs.tolist():
        start, end = places[i], places[j]
        if (i, j) in straight:
            lines.append(np.stack([start, end]))
            continue
        across = (end - start)[::-1] * [-1, 1]
        middle = (start + end) / 2 + across * 0.25
        lines.append((1 - share) ** 2 * start + 2 * share * (1 - share) * middle + share**2 * end)
    many = len(places) > MAX_LETTERS and style["linestyle"] != "-"
    width, alpha = (0.7, 0.6) if many else (1.3, 1.0)
    axes.add_collection(LineCollection(lines, lw=width, alpha=alpha, zorder=2, **style))


def _mark(axes: Axes, places: NDArray[np.float64], reach: float) -> None:
    """The ends, and every so many nucleotides its number, where there is most room."""
    length = len(places)
    every = next((n for n in (10, 20, 50, 100, 200) if length / n <= 12), 500)  # noqa: PLR2004
    numbers = [
        (n - 1, str(n), 8.0) for n in range(every, length + 1, every) if length - n >= 0.3 * every
    ]
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], 1)
    taken = places
    for place, text, size in [(0, "5'", 11.0), (length - 1, "3'", 11.0), *numbers]:
        spots = places[place] + around * reach
        room = np.linalg.norm(spots[:, None] - taken, axis=2).min(1)
        spot = spots[room.argmax()]
        taken = np.concatenate([taken, [spot]])
        if text.isdigit():
            axes.plot(*np.stack([places[place], spot]).T, color="#b9bfc6", lw=0.6, zorder=0)
        axes.text(spot[0], spot[1], text, size=size, color="#444444", **_CENTRED, zorder=5)
