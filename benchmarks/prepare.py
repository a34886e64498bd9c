"""How long the token store of RNAcentral takes, from a generated file of its lengths.

python benchmarks/prepare.py FOLDER [--records 5000000]

The sequences are random and packed at level 1 (synthetic: 0.35 of the text, RNAcentral's about
0.26), the lengths are a mixture with RNAcentral's mean (660 nt) and share above 1,024 nt (18 %),
the headers are written like its own, in lines of 60. Measured are plain reading with pyfastx,
`rnafm prepare` with one and two processes, and going on after a kill half-way; wall and CPU
seconds, and the greatest sum of memory over all processes (proportional set size). What RNAcentral
would take is computed from that: each time grows with nucleotides or, if that is more, records;
what the table of duplicates takes beyond that, measured at 40 million entries, is added.
"""

from __future__ import annotations

import argparse
import gzip
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pyfastx

from rnafm.data.seen import Seen
from rnafm.data.store import SequenceStore

RECORDS, NUCLEOTIDES = 40_000_000, 30_000_000_000
# Share, and median and spread of a log-normal distribution of lengths.
KINDS = (
    (0.17, 27, 0.18, "piRNA"),
    (0.10, 76, 0.10, "tRNA"),
    (0.22, 150, 0.50, "misc_RNA"),
    (0.33, 560, 0.40, "rRNA"),
    (0.10, 1450, 0.06, "rRNA"),
    (0.08, 2400, 0.80, "lncRNA"),
)
LINE, LONG, SEVERAL = 60, 1024, 99
HERE = Path(__file__).parent


def lengths_like_rnacentral(count: int, rng: np.random.Generator) -> tuple[Any, Any]:
    """Lengths and kinds of some records."""
    kinds = rng.choice(len(KINDS), count, p=[kind[0] for kind in KINDS])
    medians = np.array([kind[1] for kind in KINDS])[kinds]
    spreads = np.array([kind[2] for kind in KINDS])[kinds]
    lengths = np.exp(rng.normal(np.log(medians), spreads)).astype(np.int64)
    return np.clip(lengths, 10, 1_000_000), kinds


def generate(path: Path, records: int) -> dict[str, Any]:
    """Write the file, unless it is there; what is in it."""
    rng, done, total, longer, step = np.random.default_rng(0), 0, 0, 0, 50_000
    there, letters = path.exists(), np.random.default_rng(1)
    temporary = path.with_suffix(".tmp")
    with gzip.open(temporary, "wb", compresslevel=1) as file:
        while done < records:
            count = min(step, records - done)
            lengths, kinds = lengths_like_rnacentral(count, rng)
            total, longer = total + int(lengths.sum()), longer + int((lengths > LONG).sum())
            if not there:
                file.write(_text(lengths, kinds, done, letters))
            done += count
    if there:
        temporary.unlink()
    else:
        temporary.rename(path)
    return {
        "records": records,
        "nucleotides": total,
        "mean_length": total / records,
        "share_above_1024": longer / records,
        "bytes": path.stat().st_size,
    }


def _text(lengths: Any, kinds: Any, first: int, rng: np.random.Generator) -> bytes:
    """Records as text: each takes whole lines of a sheet of random letters."""
    lines = -(-lengths // LINE)
    sheet = np.full((int(lines.sum()), LINE + 1), ord("\n"), np.uint8)
    letters = np.frombuffer(b"ACGT", np.uint8)
    sheet[:, :LINE] = letters[rng.integers(0, 4, (len(sheet), LINE), np.uint8)]
    data, starts = sheet.tobytes(), (np.cumsum(lines) - lines) * (LINE + 1)
    ends = starts + lengths + (lengths - 1) // LINE
    species = rng.integers(1, 400, len(lengths))
    parts = []
    for i, (start, end, kind, number) in enumerate(
        zip(starts.tolist(), ends.tolist(), kinds.tolist(), species.tolist(), strict=True), first
    ):
        about = (
            f"{KINDS[kind][3]} from {number} species" if number > SEVERAL else "Homo sapiens lncRNA"
        )
        parts.append(b">URS%010X %s\n%s\n" % (i, about.encode(), data[start:end]))
    return b"".join(parts)


def measured(work: Any) -> dict[str, float]:
    """Wall and CPU seconds of a function in this process."""
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": time.perf_counter() - start, "cpu_s": cpu}


def prepare(fasta: Path, store: Path, workers: int, kill_after: float = 0) -> dict[str, float]:
    """Run `rnafm prepare`, or kill it: seconds, and the greatest memory of all its processes."""
    words = ["-m", "rnafm", "prepare", str(fasta), "--out", str(store), "--quiet"]
    words += ["--num-workers", str(workers), "--columns", "rnacentral"]
    start, most, ended = time.perf_counter(), [0], threading.Event()
    process = subprocess.Popen([sys.executable, *words])  # noqa: S603

    def watch() -> None:
        while not ended.wait(0.25):
            most.append(_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    if kill_after:
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    ended.set()
    watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != (-signal.SIGKILL if kill_after else 0):
        sys.exit(f"rnafm prepare ended with {process.returncode}")
    return {
        "wall_s": time.perf_counter() - start,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": max(most) / 1e3,
    }


def _memory(pid: int) -> int:
    """Memory of a process and its children in kB; what they share counts once."""
    try:
        pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
        for task in Path(f"/proc/{pid}/task").iterdir():
            pids += map(int, (task / "children").read_text().split())
        rolled = [Path(f"/proc/{one}/smaps_rollup").read_text() for one in set(pids)]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    lines = [line.split() for text in rolled for line in text.splitlines()]
    return sum(int(words[1]) for words in lines if words[0] == "Pss:")


def read(fasta: Path) -> int:
    """Read with pyfastx and nothing else."""
    return sum(len(record[1]) for record in pyfastx.Fastx(str(fasta)))


def duplicates(records: int) -> dict[str, float]:
    """What the table of duplicates alone takes for so many records."""
    seen, rng = Seen(), np.random.default_rng(0)

    def fill() -> None:
        for _ in range(records // 20_000):
            hashes = rng.integers(1, 2**64, 20_000, np.uint64)
            seen.add(hashes, hashes.astype(np.uint32))

    found = measured(fill)
    return {**found, "records": len(seen), "bytes_per_record": seen.nbytes / len(seen)}


def extrapolate(run: dict[str, float], data: dict[str, Any], table: dict[str, float]) -> Any:
    """Hours for RNAcentral: times grow with nucleotides, or with records if that is more.

    The table of duplicates gets slower as it leaves the caches: what it takes at 40 million
    records beyond its share at the measured rate is added in full, though it overlaps with work.
    """
    factor = max(NUCLEOTIDES / data["nucleotides"], RECORDS / data["records"])
    extra = max(table["cpu_s"] - table["small_cpu_s"] * factor, 0.0)
    return {name: (run[name] * factor + extra) / 60 for name in ("wall_s", "cpu_s")}


def main() -> None:
    """Generate, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=5_000_000)
    options = parser.parse_args()
    fasta, folder = options.folder / f"rnacentral-{options.records}.fa.gz", options.folder
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    about = machine.describe()

    def add(what: str, **values: Any) -> None:
        rows.append({"what": what, **values, "load": os.getloadavg()[0], **about})
        print(what, values, flush=True)
        machine.write(HERE / "results" / "prepare.json", {"rows": rows})

    data = generate(fasta, options.records)
    add("data (synthetic)", **data)
    add("pyfastx.Fastx", **measured(lambda: read(fasta)))
    runs = {}
    for workers in (1, 2):
        store = folder / f"workers-{workers}.store"
        shutil.rmtree(store, ignore_errors=True)
        runs[workers] = prepare(fasta, store, workers)
        add(f"prepare, {workers} processes", **runs[workers])
    store = folder / "killed.store"
    shutil.rmtree(store, ignore_errors=True)
    before = prepare(fasta, store, 2, kill_after=runs[2]["wall_s"] / 2)
    after = prepare(fasta, store, 2)
    stores = [SequenceStore(folder / f"{name}.store") for name in ("workers-1", "killed")]
    for one in stores:
        one.verify()
    same = stores[0].info["digest"] == stores[1].info["digest"]
    add("killed half-way, gone on with", **after, before_s=before["wall_s"], same_bytes=same)
    table = duplicates(RECORDS)
    table["small_cpu_s"] = duplicates(options.records)["cpu_s"]
    add("table of duplicates", **table)
    for workers, run in runs.items():
        minutes = extrapolate(run, data, table)
        add(
            f"RNAcentral, {workers} processes (computed)",
            wall_min=minutes["wall_s"],
            cpu_min=minutes["cpu_s"],
        )


if __name__ == "__main__":
    main()
