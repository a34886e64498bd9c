"""Tables of docs/benchmarks.md about the data: packs, start, growth, readers and stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from pages import table

RESULTS = Path(__file__).parent / "results"
LARGEST = 8  # times the least, from where the exponent of growth is taken as well


def data_loader() -> str:
    """How fast packs come from a store."""
    found = rows_of("loader")
    cells = [
        [
            row["what"],
            million(row["tokens_per_cpu_s"]),
            million(row["tokens_per_s"]),
            f"{100 * row['share_of_step']:.2f} %",
        ]
        for row in found
    ]
    heads = [
        "what",
        "M tokens per CPU second",
        "M tokens per second",
        "of a step at 600 k tokens/s",
    ]
    about = f"{found[0]['sequences']:,} sequences, {found[0]['tokens_of_store']:,} tokens"
    return f"{table(heads, cells)}\n\n{about}; {where(found)}."


def data_start() -> str:
    """From the start of a process to the first step."""
    found, cells = rows_of("start"), []
    for row in found:
        marks = row["marks"]
        step = marks.get("first step", {}).get("cpu_s")
        cells.append(
            [
                row["what"],
                f"{row['tokens'] / 1e6:,.0f} M",
                f"{marks['set up']['cpu_s']:.1f} s",
                f"{marks['first batch']['cpu_s']:.1f} s",
                "" if step is None else f"{step:.1f} s",
                f"{row['verify_cpu_s']:.2f} s",
                f"{1e3 * row['open_cpu_s']:.1f} ms",
                f"{row['own_mb']:.1f} MB",
            ]
        )
    heads = ["data", "tokens", "set up", "first batch", "first step", "of it verifying"]
    heads += ["opening the store", "memory of an open store"]
    imported = found[0]["marks"]["import"]["cpu_s"]
    return f"{table(heads, cells)}\n\nImporting Lightning: {imported:.1f} s. {where(found)}."


def data_growth() -> str:
    """Exponents of growth, and memory at both ends."""
    found, cells = rows_of("growth"), []
    for name in dict.fromkeys(row["what"] for row in found):
        own = [row for row in found if row["what"] == name]
        first, last = own[0], own[-1]
        cells.append(
            [
                name,
                f"{first['tokens']:,} to {last['tokens']:,}",
                f"{first['cpu_s']:.2f} to {last['cpu_s']:.2f} s",
                f"{exponent(own):.2f}",
                f"{exponent([row for row in own if row['factor'] >= LARGEST]):.2f}",
                f"{first['own_mb']:.0f} to {last['own_mb']:.0f} MB",
                f"{last['left_mb']:.0f} MB",
            ]
        )
    heads = ["work", "tokens", "CPU time", "exponent", f"from {LARGEST} times on", "memory"]
    heads.append("left at the end")
    return f"{table(heads, cells)}\n\n{where(found)}."


def data_readers() -> str:
    """FASTA readers and stores, each with its condition."""
    found = rows_of("readers")
    cells = [
        [
            row["what"],
            row["how"],
            row["condition"],
            f"{row['sequences_per_s']:,.0f}",
            million(row["nucleotides_per_s"]),
            "" if row["bytes_per_nt"] is None else f"{row['bytes_per_nt']:.2f}",
        ]
        for row in found
    ]
    heads = ["reader", "order", "condition", "sequences per CPU second", "M nt per CPU second"]
    versions = found[0]["versions"]
    names = ("pyfastx", "needletail", "dnaio", "litdata", "datasets", "pyarrow")
    about = f"{found[0]['input']}: {found[0]['sequences_of_input']:,} sequences, "
    about += f"{found[0]['nucleotides_of_input']:,} nt; {where(found)}; "
    about += ", ".join(f"{name} {versions[name]}" for name in names)
    return f"{table([*heads, 'bytes per nt'], cells)}\n\n{about}."


MAKERS = (data_loader, data_start, data_growth, data_readers)


def rows_of(name: str) -> list[dict[str, Any]]:
    """Rows of a benchmark."""
    rows: list[dict[str, Any]] = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    return rows


def exponent(rows: list[dict[str, Any]]) -> float:
    """How CPU time grows with tokens: 1 is linear."""
    tokens, seconds = ([row[name] for row in rows] for name in ("tokens", "cpu_s"))
    return float(np.polyfit(np.log(tokens), np.log(seconds), 1)[0])


def million(value: float) -> str:
    """A rate, in millions."""
    return f"{value / 1e6:,.1f}"


def where(rows: list[dict[str, Any]]) -> str:
    """Command, machine and date of some rows."""
    first = rows[0]
    return f"`{first['command']}`, {first['machine']}, {first['date']}"
