"""Write the tables of docs/benchmarks.md anew from the results.

python benchmarks/tables.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import data_tables
from pages import replaced, table

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
MODELS = {"one-hot": "one-hot", "rnafm": "RNA-FM", "RiNALMo": "RiNALMo", "ERNIE-RNA": "ERNIE-RNA"}
PARTS = ("inference", "training")
HEADLINES = {"mean ribosome load": "r2", "OpenVaccine": "mcrmse"}


def load(name: str) -> Any:
    """Results of a benchmark."""
    return json.loads((HERE / "results" / f"{name}.json").read_text())


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


def peers() -> str:
    """How many times rnafm's CPU time the other packages take, as the best and the usual way."""
    found = {part: ratios(load(f"peers_{part}_cpu")["rows"]) for part in PARTS}
    rows = []
    for package in dict.fromkeys(name for part in found.values() for name in part):
        cells = [
            "" if value is None else f"{value:.2f}"
            for part in PARTS
            for value in found[part].get(package, (None, None))
        ]
        rows.append([package, *cells])
    heads = ["package", *(f"{part}, {way}" for part in PARTS for way in ("best way", "usual way"))]
    return table(heads, rows)


def peers_inference() -> str:
    """Hidden states, row by row."""
    rows = load("peers_inference_cpu")["rows"]
    return f"{peers_rows(rows)}\n\n{spread(rows)}"


def peers_training() -> str:
    """Training steps, row by row."""
    rows = load("peers_training_cpu")["rows"]
    return f"{peers_rows(rows)}\n\n{spread(rows)}"


def peers_rows(rows: list[dict[str, Any]]) -> str:
    """Rows of one part; those that gave no result say why."""
    cells = []
    for row in rows:
        head = [row["package"], row["way"] + (", once more" if row["again"] else "")]
        if "failed" in row:
            cells.append([*head, row["failed"].replace("|", "/"), "", "", "", ""])
            continue
        seconds, speed = row["cpu_seconds"], row["tokens_per_second"]
        numbers = [f"{seconds:.2f}", f"{speed:.0f}", f"{times(row, rows[0]):.2f}"]
        cells.append([*head, *numbers, f"{row['padding']:.2f}", f"{row['repetitions']}"])
    heads = ["CPU seconds", "tokens per CPU second", "times the first"]
    return table(["package", "way", *heads, "slots per token", "repetitions"], cells)


def ratios(rows: list[dict[str, Any]]) -> dict[str, tuple[float | None, float | None]]:
    """For each peer its fastest and its usual way, in units of the first row."""
    found: dict[str, tuple[float | None, float | None]] = {}
    measured = [row for row in rows if "failed" not in row]
    for package in dict.fromkeys(row["package"] for row in measured):
        if package.startswith("rnafm"):
            continue
        own = [row for row in measured if row["package"] == package]
        each = [times(row, rows[0]) for row in own]
        usual = [time for time, row in zip(each, own, strict=True) if row["usual"]]
        found[package] = (min(each), usual[0] if usual else None)
    return found


def times(row: dict[str, Any], first: dict[str, Any]) -> float:
    """How many times the CPU time of the first row a row takes, if possible of the same minutes."""
    return float(row.get("times_the_first", row["cpu_seconds"] / first["cpu_seconds"]))


def spread(rows: list[dict[str, Any]]) -> str:
    """How far the first row, measured twice, is from itself, and where all this was measured."""
    first = rows[0]
    words = [f"`{first['command']}`"]
    words.append(f"{first['sequences']} sequences, {first['tokens']:,} tokens")
    apart = [
        times(row, first) for row in rows if row["row"] == first["row"] and "failed" not in row
    ]
    off = max(abs(ratio - 1) for ratio in apart)
    words.append(f"the first row, measured twice, differs from itself by {100 * off:.0f} %")
    versions = first["versions"]
    names = ("torch", "multimolecule", "danling", "rna-fm", "transformers")
    words.append(f"{first['machine']}, {first['threads']} threads, {first['date']}")
    words.append(", ".join(f"{name} {versions[name]}" for name in names))
    return f"{'; '.join(words)}."


def render(text: str) -> str:
    """A page with its tables made anew; each stands between two comments with its name."""
    pages = (protocol, decoders, onehot, finetune, adaptation)
    compared = (peers, peers_inference, peers_training)
    makers = {each.__name__: each for each in (*pages, *compared, *data_tables.MAKERS)}
    return replaced(text, makers)


def main() -> None:
    """Write the pages and the chart of the peers."""
    import peers_plot

    rows = {part: load(f"peers_{part}_cpu")["rows"] for part in PARTS}
    peers_plot.draw(rows, PAGE.parent / "images" / "peers.png")
    for page in (PAGE, PAGE.with_name("adaptation.md")):
        page.write_text(render(page.read_text()))


if __name__ == "__main__":
    main()
