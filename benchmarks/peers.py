"""rnafm, MultiMolecule, the official RNA-FM package and Hugging Face's ESM, side by side.

python benchmarks/peers.py --part inference
python benchmarks/peers.py --part training

All get the same sequences, the same random weights of RNA-FM's size (99.5 M) and, in training, the
same hidden tokens; a row counts only if its hidden states, or its loss and the norm of its
gradients, are those of the first row. Measured are CPU seconds on a CPU (float32) and the device's
own clock on a GPU (bfloat16 autocast). The first row is measured once more at the end. Each row
ends after its repetitions or its share of time, and is written at once; one that fails is a row
that says so. `requirements-peers.txt` says how the other packages are installed.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import machine
import torch
from peers_batches import EXAMPLE, VOCABULARY, load, padding
from peers_measure import TOLERANCE, Inference, Training, compare, flops, measure, reference
from peers_models import Ours, write_weights
from peers_rates import matmul_rate
from peers_rows import OURS, SIZES, SMALL, Row, choose, rows

from rnafm.modules import EncoderConfig

HERE = Path(__file__).parent
PACKAGES = ("multimolecule", "danling", "rna-fm", "transformers")
RNAFM = EncoderConfig(dropout=0.0, attention_dropout=0.0)
TINY = EncoderConfig(
    num_layers=2, embed_dim=64, num_heads=4, ffn_dim=128, dropout=0.0, attention_dropout=0.0
)
KINDS: dict[str, type[Inference | Training]] = {"inference": Inference, "training": Training}


class Bench:
    """One part, measured row by row.

    Args:
        part: ``inference`` or ``training``.
        options: As parsed by :func:`parse`.
        folder: Where the weights are.
    """

    def __init__(self, part: str, options: argparse.Namespace, folder: Path) -> None:
        self.part, self.options, self.folder = part, options, folder
        self.device = options.device
        self.sizes = SMALL if options.small else SIZES[part, self.device]
        count = options.sequences or self.sizes.sequences
        data = options.data / "ncrna.fa.gz" if options.data else EXAMPLE
        self.sample = load(data, count, max_length=254 if options.small else 1022)
        self.config = TINY if options.small else RNAFM
        self.about = {**self.sample.describe(), "data": data.name, **about(self.device)}
        self.rate = matmul_rate(self.device, small=options.small)
        self.expected: list[torch.Tensor] | None = None
        self.first: Any = None
        self.rows: list[dict[str, Any]] = []
        self.started = time.perf_counter()

    def run(self) -> list[dict[str, Any]]:
        """Measure all rows, and the first one again."""
        chosen = choose(rows(self.part, self.device, self.sizes), self.options.rows)
        for number, row in enumerate([*chosen, chosen[0]]):
            again = number == len(chosen)
            found = self.row(row, reserve=0.0 if again else self._took(chosen[0]))
            self.rows.append({"again": again, **found, **self.about})
            self.write()
            show(found)
        return self.rows

    def row(self, row: Row, reserve: float) -> dict[str, Any]:
        """Measure a row, or say why there is nothing to measure."""
        head = {"row": row.name, "package": row.package, "way": row.way, "usual": row.usual}
        spent = time.perf_counter() - self.started
        if spent + reserve > 60 * self.options.minutes:
            return {**head, "failed": f"left out: {spent / 60:.0f} minutes are over"}
        try:
            return {**head, **self._measured(row)}
        except Exception as error:  # noqa: BLE001  # whatever a peer may raise
            if self.options.trace:
                traceback.print_exc()
            return {**head, "failed": f"{type(error).__name__}: {first_line(error)}"}
        finally:
            gc.collect()
            if self.device == "cuda":
                torch.compiler.reset()  # so that rows do not share what was compiled
                torch.cuda.empty_cache()

    def _measured(self, row: Row) -> dict[str, Any]:
        batches = row.batches(self.sample.lengths)
        model = row.model(self.folder, self.device, **row.options)
        if row.compiled:
            model.compile(row.budget)
        work = KINDS[self.part](model, batches, self.sample, self.device)
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        work.warm()
        if self.device == "cuda":
            torch.cuda.synchronize()
        warm = time.perf_counter() - start
        options = self.options
        if self.device == "cpu":  # on a GPU it would be in the memory of all other rows
            self.first = self.first or work
        found = measure(work, self.device, options.repeat, options.cap, self.first)
        memory = torch.cuda.max_memory_allocated() / 2**30 if self.device == "cuda" else None
        difference = self._check(work.result())
        if difference > TOLERANCE[self.part, self.device]:
            what = "hidden states" if self.part == "inference" else "loss or gradients"
            raise ValueError(f"its {what} differ from those of rnafm by {difference:.1e}")
        seconds = found["seconds" if self.device == "cuda" else "cpu_seconds"]
        done = flops(self.part, self.config, self.about, len(VOCABULARY)) / seconds
        return {
            **found,
            "warm_up_seconds": warm,
            "tokens_per_second": self.about["tokens"] / seconds,
            "flops_per_second": done,
            "share_of_matmul_rate": done / self.rate,
            "share_of_989_tflops": done / 989e12 if self.device == "cuda" else None,
            "padding": padding(self.sample.lengths, batches) if padded(row) else 1.0,
            "batches": len(batches),
            "difference": difference,
            "peak_memory_gib": memory,
            "load": os.getloadavg()[0],
        }

    def _check(self, result: list[torch.Tensor]) -> float:
        """How far a row is from the reference: rnafm itself, on a GPU in float32."""
        if self.expected is None:
            self.expected = result if self.device == "cpu" else self._in_float32()
        return compare([each.cpu() for each in result], self.expected)

    def _in_float32(self) -> list[torch.Tensor]:
        """On the host, where it takes no memory from the rows."""
        found = reference(self.part, Ours(self.folder, self.device), self.sample)
        return [each.cpu() for each in found]

    def _took(self, row: Row) -> float:
        """Wall seconds that one repetition of a row takes, with what comes before it."""
        found = [each for each in self.rows if each["row"] == row.name and "failed" not in each]
        return float(sum(each["wall_seconds"] + each["warm_up_seconds"] for each in found))

    def write(self) -> None:
        """Write all rows so far."""
        name = f"peers_{self.part}_{self.device}{'_data' if self.options.data else ''}.json"
        result = {"matmul_flops_per_second": self.rate, "rows": self.rows}
        machine.write(self.options.out / name, result)


def about(device: str) -> dict[str, Any]:
    """Machine, versions, command and date, with the peers' versions and the threads."""
    found = machine.describe()
    for name in PACKAGES:
        try:
            found["versions"][name] = version(name)
        except PackageNotFoundError:
            found["versions"][name] = "not installed"
    found["threads"] = torch.get_num_threads()
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name()
    return found


def padded(row: Row) -> bool:
    """Whether a row computes padding."""
    return not (row.package == OURS or "Nested" in row.way or "Flattening" in row.way)


def first_line(error: Exception) -> str:
    """The start of a message, without the paths of a machine."""
    text = re.sub(r"(?<!\w)/(?:[\w.+-]+/)+[\w.+-]*", "...", str(error).strip().partition("\n")[0])
    return text[:300] or "no message"


def show(row: dict[str, Any]) -> None:
    """Print a row."""
    if "failed" in row:
        print(f"{row['row']:<62} {row['failed']}", flush=True)
        return
    unit = "seconds" if "seconds" in row else "cpu_seconds"
    print(
        f"{row['row']:<62} {row[unit]:9.3f} {unit.replace('_', ' ')}, "
        f"{row['tokens_per_second']:10,.0f} tokens/s, {row['repetitions']} x, "
        f"off by {row['difference']:.0e}",
        flush=True,
    )


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """Options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--part", choices=("inference", "training", "both"), default="both")
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--data", type=Path, help="folder with ncrna.fa.gz; else the sample in examples/")
    add("--sequences", type=int, help="how many; else what the device takes")
    add("--rows", default="", help="only rows whose names match this expression")
    add("--repeat", type=int, default=3, help="repetitions of a row, at most")
    add("--cap", type=float, default=90, help="seconds of a row's repetitions, CPU's or GPU's")
    add("--minutes", type=float, default=12, help="of a part; rows beyond are left out")
    add("--threads", type=int, default=2, help="of the CPU")
    add("--memory", type=float, default=14, help="GiB for a CPU run; 0: no limit")
    add("--out", type=Path, default=HERE / "results", help="folder of the results")
    add("--small", action="store_true", help="a tiny model: does everything run?")
    add("--trace", action="store_true", help="show where failed rows fail")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    """Measure and write."""
    options = parse(words)
    torch.set_num_threads(options.threads)
    quiet()
    if options.device == "cpu" and options.memory:  # a row that needs more says so
        limit = int(options.memory * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    options.out.mkdir(parents=True, exist_ok=True)
    parts = KINDS if options.part == "both" else [options.part]
    with tempfile.TemporaryDirectory() as name:
        write_weights(Path(name), TINY if options.small else RNAFM)
        for part in parts:
            Bench(part, options, Path(name)).run()


def quiet() -> None:
    """No bars and hints of the peers between the rows, and no look at a network."""
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # threads that spin while they wait count as work
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606
    main()
