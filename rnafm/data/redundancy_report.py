"""What was left out of a store as redundant, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from rnafm.data.store import SequenceStore

_MOST_ROWS = 20


def redundancy_of_store(store: SequenceStore) -> Table | None:
    """What was left out as redundant, by type where headers say one; None if nothing was sought."""
    counts, found = store.info["counts"], store.info.get("redundancy", {})
    if store.info["settings"]["filters"]["redundancy"] == "none":
        return None
    table = Table(title="redundancy", title_style="bold", caption_justify="left")
    table.add_column(found.get("column", ""))
    for head in ("kept", "duplicates", "contained", "contained, reverse complement"):
        table.add_column(head, justify="right")
    rows = [
        (name or "(none said)", list(kinds.values()))
        for name, kinds in found.get("types", {}).items()
    ]
    rows.sort(key=lambda row: -sum(row[1]))
    if len(rows) > _MOST_ROWS:
        others = [
            sum(numbers) for numbers in zip(*(row[1] for row in rows[_MOST_ROWS:]), strict=True)
        ]
        rows = [*rows[:_MOST_ROWS], (f"{len(rows) - _MOST_ROWS} others", others)]
    kinds = ("kept", "duplicate", "contained", "contained reverse complement")
    for name, numbers in [*rows, ("all", [counts.get(kind, 0) for kind in kinds])]:
        table.add_row(name, *(f"{number:,}" for number in numbers))
    memory = store.info.get("made", {}).get("memory_bytes")
    if memory is not None:
        table.caption = f"memory of the search for contained ones: {memory / 1e6:,.1f} MB"
    return table
