"""A plan to read."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from rnafm.planning.costs import GIB

if TYPE_CHECKING:
    from rnafm.planning.plan import Plan

MIB = GIB >> 10
_PREFIXES = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"))


def show(plan: Plan) -> None:
    """Print the tables on standard output, and what was found on standard error."""
    console = Console(soft_wrap=True, highlight=False)
    for title, rows in plan.tables.items():
        if not rows:
            continue
        table = Table(title=title, title_style="bold", show_header=False, title_justify="left")
        table.add_column(style="bold")
        table.add_column(justify="right")
        for name, value in rows.items():
            in_bytes = "memory" in title or "bytes" in name
            table.add_row(name, readable(value, flops="FLOPs" in name, in_bytes=in_bytes))
        console.print(table)
    for kind, texts in (("note", plan.notes), ("error", plan.errors)):
        for text in texts:
            print(f"{kind}: {text}", file=sys.stderr)  # noqa: T201
    if plan.errors:
        print(f"rnafm plan: {len(plan.errors)} error(s); the run would fail", file=sys.stderr)  # noqa: T201


def readable(value: Any, *, flops: bool = False, in_bytes: bool = False) -> str:
    """A number as people write it.

    Args:
        value: A number, or text that stays as it is.
        flops: Whether it counts operations.
        in_bytes: Whether it counts bytes.

    Examples:
        >>> readable(596_000_000, flops=True), readable(3 << 29, in_bytes=True)
        ('596 M', '1.50 GiB')
        >>> readable(3 << 19, in_bytes=True)
        '1.5 MiB'
        >>> readable(12345), readable(0.996), readable(None)
        ('12,345', '0.996', 'no end')
    """
    if value is None:
        return "no end"
    if isinstance(value, str):
        return value
    if flops:
        for size, prefix in _PREFIXES:
            if value >= size:
                return f"{value / size:,.3g} {prefix}"
    if in_bytes:
        return f"{value / GIB:,.2f} GiB" if value >= GIB else f"{value / MIB:,.1f} MiB"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"
