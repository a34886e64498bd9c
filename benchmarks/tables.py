"""Write the tables of docs/benchmarks.md anew from the results.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
MODELS = {"one-hot": "one-hot", "rnafm": "RNA-FM", "RiNALMo": "RiNALMo", "ERNIE-RNA": "ERNIE-RNA"}
HEADLINES = {"mean ribosome load": "r2", "OpenVaccine": "mcrmse"}


def load(name: str) -> Any:
    """Results of a benchmark."""
    return json.loads((HERE / "results" / f"{name}.json").read_text())


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def protocol() -> str:
    """Published pair lists and ViennaRNA through our metrics, and the hybrid."""
    found = load("structure_protocol")
    parts = {
        "as published": "metrics",
        "ViennaRNA MFE, 1 kcal/mol a pair": "hybrid",
    }
    rows = []
    for dataset in ("ArchiveII", "TS0"):
        for model, title in MODELS.items():
            cells = [dataset, title]
            for name, part in parts.items():
                value = found.get(f"{part} | {dataset} | {model} | {name}")
                cells.append("" if value is None else f"{value['f1']:.3f}")
            rows.append(cells)
        alone = found[f"rnafold | {dataset} | none | ViennaRNA MFE"]["f1"]
        rows.append([dataset, "ViennaRNA alone", f"{alone:.3f}", ""])
    return table(["set", "pairs of", "F1 as they are", "F1 as bonuses for ViennaRNA"], rows)


def decoders() -> str:
    """Our decoders on published pair lists."""
    found = load("structure_protocol")
    names = ["canonical, min loop 3", "greedy", "nested", "matching"]
    rows = []
    for dataset in ("TS0", "ArchiveII"):
        for model, title in MODELS.items():
            values = [found.get(f"decoders | {dataset} | {model} | {name}") for name in names]
            if all(value is not None for value in values):
                raw = found[f"metrics | {dataset} | {model} | as published"]["f1"]
                rows.append(
                    [dataset, title, *(f"{f:.3f}" for f in [raw, *(v["f1"] for v in values)])]
                )
    return table(["set", "pairs of", "raw", *names], rows)


def onehot() -> str:
    """The structure head on letters alone."""
    rows = []
    for row in load("onehot")["rows"]:
        what = (
            f"{row['train_sequences']:,} RNAs up to {row['longest']} nt, {row['epochs']} epoch(s)"
        )
        for name, value in row["f1"].items():
            rows.append([what, row["decoders"][name], f"{value:.3f}"])
    rows.append(["published: all of TR0, 15 epochs", "the published rule", "0.351"])
    return table(["training", "decoder", "strict F1 on TS0"], rows)


def finetune() -> str:
    """From the pretrained checkpoint, from nothing, and floors."""
    by_set: dict[str, dict[str, Any]] = {}
    for row in load("finetune")["rows"]:
        by_set.setdefault(row["set"], {})[row["start"]] = row
    rows = []
    for name, starts in by_set.items():
        metric = HEADLINES.get(name, "accuracy")
        first = next(iter(starts.values()))
        epochs = first["epochs"] * first.get("share_of_an_epoch", 1.0)
        cells = [name, metric, f"{epochs:g}"]
        for start in ("scratch", "pretrained"):
            if start not in starts:
                cells.append("")
                continue
            low, high = starts[start]["intervals"][metric]
            cells.append(f"{starts[start]['metrics'][metric]:.3f} ({low:.3f} to {high:.3f})")
        floors = first["floors"].items()
        cells.append("; ".join(f"{floor} {scores[metric]:.3f}" for floor, scores in floors))
        rows.append(cells)
        copies = {start: row["groups"].get("exact_in_train") for start, row in starts.items()}
        if all(copies.values()):
            apart = [f"{copies[start]['False'][metric]:.3f}" for start in ("scratch", "pretrained")]
            rows.append([f"{name}, without exact copies", metric, f"{epochs:g}", *apart, ""])
    heads = ["set", "metric", "epochs", "from nothing", "pretrained `small`", "floors"]
    return table(heads, rows)


def adaptation() -> str:
    """What each way of adapting costs and gives."""
    rows = []
    for row in load("adaptation")["rows"]:
        score = row["metrics"]["accuracy"]
        rows.append(
            [
                row["way"],
                f"{row['trained_parameters']:,}",
                f"{row['cpu_seconds_of_fit']:.0f} s",
                f"{score['value']:.3f} ({score['low']:.3f} to {score['high']:.3f})",
            ]
        )
    return table(["way", "trained parameters", "CPU time of fit", "accuracy (95 % interval)"], rows)


def render(text: str) -> str:
    """A page with its tables made anew; each stands between two comments with its name."""
    makers = {each.__name__: each for each in (protocol, decoders, onehot, finetune, adaptation)}

    def new(found: re.Match[str]) -> str:
        return f"<!-- {found[1]} -->\n{makers[found[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end -->", new, text, flags=re.DOTALL)


def main() -> None:
    """Write the pages."""
    for page in (PAGE, PAGE.with_name("adaptation.md")):
        page.write_text(render(page.read_text()))


if __name__ == "__main__":
    main()
