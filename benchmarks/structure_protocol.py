"""Are the metrics and decoders right? Published pair lists and ViennaRNA through our code.

Four parts, each of which can run alone:

- metrics: the pairs that sinc-lab published, as they are. Their mean F1 must come out.
- rnafold: minimum free energy structures of ViennaRNA.
- hybrid: ViennaRNA with 1 kcal/mol for every published pair (p = 1).
- decoders: our decoders on the published lists. These have no probabilities: a pair weighs 1, plus
  1 for each of the two stacked neighbours on either side that are in the list, over 5; the
  threshold is 0.

No list was made with a threshold or decoder chosen here; the best of several decoders below was
chosen on the test set, so that it only bounds what choosing on validation can give.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import multiprocessing
import os
import platform
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from rnafm.data.structure import pairs_from_dot_bracket
from rnafm.files import atomic
from rnafm.modules.folding import Decoder, decode
from rnafm.tasks.pair_scores import score_pairs

ROOT = Path(__file__).parents[1]
MODELS = ("rnafm", "ERNIE-RNA", "one-hot", "RiNALMo")
FILES = {
    "TS0": ("contact/bprna.csv.gz", "structure_canonical", "published/ts0_pairs.csv.gz"),
    "ArchiveII": ("contact/archiveii.csv", "structure", "published/archiveii_famfold_pairs.csv.gz"),
}
LISTED = {"threshold": 0.0}  # every listed pair counts
DECODERS = {
    "metrics": {"as published": None},
    "rnafold": {"ViennaRNA MFE": Decoder("hybrid")},
    "hybrid": {"ViennaRNA MFE, 1 kcal/mol a pair": Decoder("hybrid", scale=1.0)},
    "decoders": {
        "canonical, min loop 3": Decoder("threshold", **LISTED),
        "greedy": Decoder("greedy", **LISTED),
        "nested": Decoder("nested", **LISTED),
        "matching": Decoder("matching", **LISTED),
    },
}
# Strict mean F1 as published (metrics, RNAfold on ArchiveII) or measured by other code before.
EXPECTED = {
    ("metrics", "TS0"): {"one-hot": 0.351, "rnafm": 0.522, "RiNALMo": 0.599, "ERNIE-RNA": 0.628},
    ("metrics", "ArchiveII"): {
        "one-hot": 0.247,
        "rnafm": 0.440,
        "RiNALMo": 0.697,
        "ERNIE-RNA": 0.722,
    },
    ("rnafold", "TS0"): {"none": 0.508},
    ("rnafold", "ArchiveII"): {"none": 0.581},
    ("hybrid", "TS0"): {"rnafm": 0.598, "ERNIE-RNA": 0.623, "one-hot": 0.550},
    ("hybrid", "ArchiveII"): {"rnafm": 0.680, "ERNIE-RNA": 0.791, "one-hot": 0.575},
}
TOLERANCE = {"metrics": 0.0006, "rnafold": 0.01, "hybrid": 0.01}


class Case(NamedTuple):
    """One RNA and what a model says about it."""

    sequence: str
    reference: np.ndarray
    family: str
    listed: np.ndarray


def read_cases(folder: Path, dataset: str, model: str) -> list[Case]:
    """RNAs of a data set in the order of the file; no listed pairs for the model ``none``."""
    file, column, published = FILES[dataset]
    lists = {}
    if model != "none":
        for row in _rows(folder / published):
            if row["model"] == model:
                pairs = np.array(json.loads(row["base_pairs"]), np.int64).reshape(-1, 2)
                lists[row["id"]] = pairs - 1
    nothing = np.zeros((0, 2), np.int64)
    return [
        Case(
            row["sequence"],
            pairs_from_dot_bracket(row[column], f"{file}: {row['id']}"),
            row.get("family", ""),
            nothing if model == "none" else lists[row["id"]],
        )
        for row in _rows(folder / file)
        if row.get("partition", "TS0") == "TS0"
    ]


def _rows(path: Path) -> list[dict[str, str]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", newline="") as file:
        csv.field_size_limit(2**30)
        return list(csv.DictReader(file))


def weigh(listed: np.ndarray, length: int, *, stacking: bool) -> np.ndarray:
    """A list as a matrix: 1 for a pair, or a fifth for itself and each near stacked neighbour."""
    padded = np.zeros((length + 4, length + 4))
    padded[listed[:, 0] + 2, listed[:, 1] + 2] = 1
    inner = padded[2:-2, 2:-2]
    if stacking:
        shifts = [(2 + k, 2 - k) for k in (-2, -1, 0, 1, 2)]
        around = sum(padded[i : i + length, j : j + length] for i, j in shifts)
        inner = inner * around / 5
    return np.maximum(inner, inner.T)


def score(case: Case, part: str, decoder: Decoder | None) -> dict[str, float]:
    """Scores of one RNA."""
    length = len(case.sequence)
    pairs = case.listed
    if decoder is not None:
        probabilities = weigh(case.listed, length, stacking=part == "decoders")
        pairs = decode(probabilities, case.sequence, decoder)
    return score_pairs(pairs, case.reference, length)


def measure(
    cases: list[Case], part: str, decoder: Decoder | None, title: str, processes: int
) -> dict[str, object]:
    """Means over RNAs, and mean F1 of every family."""
    start = time.perf_counter()
    with multiprocessing.Pool(processes, os.nice, (5,)) as pool:
        results = pool.imap(partial(score, part=part, decoder=decoder), cases, chunksize=16)
        scores = list(track(results, title, total=len(cases), console=Console(stderr=True)))
    families = defaultdict(list)
    for case, one in zip(cases, scores, strict=True):
        families[case.family].append(one["f1"])
    row = {
        "n": len(cases),
        "seconds": round(time.perf_counter() - start, 1),
        **{name: _mean([one[name] for one in scores]) for name in scores[0]},
        "f1_median": round(float(np.median([one["f1"] for one in scores])), 4),
    }
    if len(families) > 1:
        means = {family: float(np.mean(values)) for family, values in sorted(families.items())}
        row["family_mean_f1"] = round(float(np.mean(list(means.values()))), 4)
        row["family_f1"] = {family: round(mean, 4) for family, mean in means.items()}
    return row


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if not np.isnan(value)]
    return round(float(np.mean(known)), 4) if known else None


def describe_run(processes: int) -> dict[str, object]:
    """What made the numbers."""
    git = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, check=True)
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "command": shlex.join(["python", os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git(["git", "rev-parse", "HEAD"]).stdout.strip(),
        "uncommitted_changes": bool(git(["git", "status", "--porcelain"]).stdout),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("numpy", "networkx", "ViennaRNA")},
        "cpu": cpu[0].split(":")[1].strip() if cpu else platform.processor(),
        "processes": processes,
    }


def show(results: dict[str, dict[str, object]]) -> bool:
    """Print all rows; False if one is not what it must be."""
    table = Table(title="mean F1 over sequences (strict); references: structure_canonical of TS0")
    for name in ("part", "data", "model", "decoder", "n", "F1", "expected", "families", "seconds"):
        table.add_column(name)
    right = True
    for key, row in results.items():
        part, dataset, model, decoder = key.split(" | ")
        expected = EXPECTED.get((part, dataset), {}).get(model)
        off = expected is not None and abs(row["f1"] - expected) > TOLERANCE[part]
        right &= not off
        goal = "" if expected is None else f"{expected:.3f}{' MISSED' if off else ''}"
        families = f"{row['family_mean_f1']:.3f}" if "family_mean_f1" in row else ""
        cells = [part, dataset, model, decoder, str(row["n"]), f"{row['f1']:.3f}", goal, families]
        table.add_row(*cells, str(row["seconds"]))
    Console(width=max(120, Console().width)).print(table)
    return right


def main() -> int:
    """Run the chosen parts; results of other parts in the file stay."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=ROOT / "data/labelled")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "benchmarks/results/structure_protocol.json"
    )
    parser.add_argument("--parts", nargs="+", choices=list(DECODERS), default=list(DECODERS))
    parser.add_argument("--datasets", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    results = json.loads(args.out.read_text()) if args.out.exists() else {}
    for part in args.parts:
        run = describe_run(args.processes)
        for dataset in args.datasets:
            for model in ("none",) if part == "rnafold" else args.models:
                cases = read_cases(args.data, dataset, model)
                for name, decoder in DECODERS[part].items():
                    key = f"{part} | {dataset} | {model} | {name}"
                    row = measure(cases, part, decoder, key, args.processes)
                    line = {} if decoder is None else {"decoder": decoder.describe()}
                    results[key] = {**row, **line, "run": run}
                    with atomic(args.out) as path:
                        path.write_text(json.dumps(results, indent=1) + "\n")
    return 0 if show(results) else 1


if __name__ == "__main__":
    sys.exit(main())
