"""The bar chart of the comparison with other packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

OURS, PADDED, PEERS, USUAL = "#1f77b4", "#9ecae1", "#9a9a9a", "#d0d0d0"
TITLES = {
    "inference": "Hidden states",
    "training": "Training step",
}


def draw(parts: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Time of every row, in units of the first one, fastest on top; one panel for each part."""
    shown = {part: _rows(rows) for part, rows in parts.items()}
    most = max(len(rows) for rows in shown.values())
    figure = Figure(figsize=(11, 1.3 + 0.3 * most), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for axes, (part, rows) in zip(panels, shown.items(), strict=True):
        bars = axes.barh(
            [f"{row['package']}: {row['way']}" for row in rows],
            [row["times"] for row in rows],
            color=[_colour(row) for row in rows],
        )
        axes.bar_label(bars, [f"{row['times']:.2f}" for row in rows], padding=3, fontsize=8)
        axes.invert_yaxis()
        axes.axvline(1, color="black", linewidth=0.6)
        axes.set_xlim(0, 1.2 * max(row["times"] for row in rows))
        axes.set_xlabel("CPU time, rnafm = 1 (less is better)", fontsize=9)
        axes.set_title(TITLES[part], fontsize=10, loc="left")
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    one = rows[0]["cpu_seconds"]
    measured = [row for row in rows if "failed" not in row and not row["again"]]
    found = [
        {**row, "times": row.get("times_the_first", row["cpu_seconds"] / one)} for row in measured
    ]
    return sorted(found, key=lambda row: row["times"])


def _colour(row: dict[str, Any]) -> str:
    if row["package"].startswith("rnafm"):
        return OURS if row["package"] == "rnafm" else PADDED
    return colors.to_hex(USUAL if row["usual"] else PEERS)
