"""Redundancy by containment: is it linear, how fast is it, and what do other tools keep?

Sequences are the first ones of a FASTA file, which should be shuffled. Rates are letters per second
of processor time, with one thread, compiled beforehand. Sizes beyond the file are copies of it in
which one letter in a hundred is drawn anew. ``cd-hit-est -c 1.0`` and ``mmseqs easy-linclust`` get
the same sequences; where the kept sets differ, each sequence is looked for in all others.
"""

from __future__ import annotations

import argparse
import re
import resource
import shlex
import shutil
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from machine import describe, write

from rnafm.data.containment import KINDS, complement_of, find_redundant
from rnafm.data.fasta import FastaFile
from rnafm.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rnafm.data.containment import Redundancy

    Packed = tuple[NDArray[np.uint8], NDArray[np.int64]]

RESULTS = Path(__file__).parent / "results" / "redundancy.json"
RNA = Vocabulary.named("rna")
CD_HIT = "cd-hit-est -i in.fa -o cd_hit.fa -c 1.0 -n 10 -M 0 -d 0 -T 1"
LINCLUST = (
    "mmseqs easy-linclust in.fa linclust tmp --min-seq-id 1 -c 1 --cov-mode 1 --threads 1 -v 1"
)


def packed(path: Path) -> Packed:
    """All sequences of a file."""
    tokens, lengths = [], [np.zeros(1, np.int64)]
    for batch in FastaFile(path).batches():
        found = RNA.encode_many([sequence for _, sequence, _ in batch])
        tokens.append(found[0])
        lengths.append(found[1])
    return np.concatenate(tokens), np.cumsum(np.concatenate(lengths))


def copies(data: Packed, number: int) -> Packed:
    """The sequences and changed copies of them."""
    tokens, offsets = data
    generator, size = np.random.default_rng(0), len(tokens)
    many = np.tile(tokens, number)
    for i in range(1, number):
        places = i * size + generator.integers(0, size, size // 100)
        many[places] = generator.choice(RNA.standard_ids, len(places))
    return many, np.append(0, np.cumsum(np.tile(np.diff(offsets), number)))


def search(data: Packed, number: int | None, num_threads: int) -> tuple[Redundancy, dict[str, Any]]:
    """Search the first sequences; what is found and what it takes."""
    tokens, offsets = data[0], data[1][: number and number + 1]
    started, used = time.perf_counter(), time.process_time()
    found = find_redundant(
        tokens[: offsets[-1]],
        offsets,
        complement=complement_of(RNA),
        num_threads=num_threads,
        progress=False,
    )
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return found, {
        "sequences": len(offsets) - 1,
        "mnt": round(float(offsets[-1]) / 1e6, 2),
        "threads": num_threads,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "mnt_per_cpu_second": round(float(offsets[-1]) / 1e6 / cpu, 1),
        "mnt_per_second": round(float(offsets[-1]) / 1e6 / seconds, 1),
        "table_bytes_per_sequence": round(found.peak_bytes / (len(offsets) - 1), 1),
        "kinds": dict(zip(KINDS, np.bincount(found.kinds, minlength=4).tolist(), strict=True)),
    }


def other_tool(command: str, kept_in: str, folder: Path) -> tuple[set[int], float]:
    """Names that a program keeps, and the processor time it takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(shlex.split(command), cwd=folder, check=True, capture_output=True)  # noqa: S603
    used = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    lines = (folder / kept_in).read_text().splitlines()
    return {int(line[1:].split()[0]) for line in lines if line.startswith(">")}, round(used, 2)


def compared(data: Packed, number: int, *, linclust: bool) -> list[dict[str, Any]]:
    """What other tools keep of the first sequences."""
    tokens, offsets = data
    sequences = [RNA.decode(tokens[offsets[i] : offsets[i + 1]]) for i in range(number)]
    found, ours = search(data, number, 1)
    kept = {*np.flatnonzero(found.kinds == 0).tolist()}
    plain = [re.sub("[^ACGU]", "N", text) for text in sequences]
    swapped = str.maketrans("ACGU", "UGCA")
    everything = " ".join([*plain, *(text[::-1].translate(swapped) for text in plain)])
    rows = []
    tools = [("cd-hit-est", CD_HIT, "cd_hit.fa")]
    tools += [("mmseqs easy-linclust", LINCLUST, "linclust_rep_seq.fasta")] * linclust
    with tempfile.TemporaryDirectory() as name:
        text = "".join(f">{i}\n{sequence}\n" for i, sequence in enumerate(sequences))
        Path(name, "in.fa").write_text(text)
        for tool, command, kept_in in tools:
            theirs, seconds = other_tool(command, kept_in, Path(name))
            differing = sorted(kept ^ theirs)
            rows.append(
                {
                    "tool": tool,
                    "command": command,
                    "sequences": number,
                    "cpu_seconds": seconds,
                    "our_cpu_seconds": ours["cpu_seconds"],
                    "kept": len(theirs),
                    "kept_by_us": len(kept),
                    "same_set": not differing,
                    "only_they_keep": len(theirs - kept),
                    # Every sequence stands once in all of them for itself; twice means it is held.
                    "of_those_held_by_another": sum(
                        everything.count(plain[i]) > 1 for i in theirs - kept
                    ),
                    "only_we_keep": len(kept - theirs),
                    "of_those_not_held": sum(
                        everything.count(plain[i]) == 1 for i in kept - theirs
                    ),
                }
            )
            print(rows[-1])
    return rows


def versions() -> dict[str, str]:
    """Of what is compared."""
    found = {name: version(name) for name in ("numba", "numpy")}
    said = subprocess.run(["cd-hit-est", "-h"], capture_output=True, text=True, check=False)  # noqa: S607
    if match := re.search(r"version ([\d.]+)", said.stdout):
        found["cd-hit-est"] = match[1]
    said = subprocess.run(["mmseqs", "version"], capture_output=True, text=True, check=False)  # noqa: S607
    return {**found, "mmseqs": said.stdout.strip()}


def main() -> None:
    """Measure all sizes, compare, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fasta", type=Path, help="such as ncrna.fa.gz")
    parser.add_argument("--sizes", type=int, nargs="+", default=[5_000, 20_000, 50_000, 100_000])
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--compare", type=int, nargs="+", default=[5_000, 20_000])
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for program in ("cd-hit-est", "mmseqs"):
        if not shutil.which(program):
            parser.error(f"{program} is not installed; install cd-hit and mmseqs2")
    data = packed(options.fasta)
    _, compiling = search(data, 50, 1)
    rows = []
    for number in (*options.sizes, None):
        rows.append(search(data, number, 1)[1])
        print(rows[-1])
    rows.append(search(data, None, options.threads)[1])
    print(rows[-1])
    many = copies(data, options.copies)
    rows.append({**search(many, None, options.threads)[1], "copies": options.copies})
    print(rows[-1])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    comparisons = [
        row
        for number in options.compare
        for row in compared(data, number, linclust=number == max(options.compare))
    ]
    run = describe()
    result = {
        **run,
        "versions": {**run["versions"], **versions()},
        "source": options.fasta.name,
        "compile_cpu_seconds": compiling["cpu_seconds"],
        "sizes": rows,
        "peak_rss_bytes": memory,
        "of_which_tokens": int(many[0].nbytes + data[0].nbytes),
        "comparisons": comparisons,
    }
    write(RESULTS, {"rows": [result]})


if __name__ == "__main__":
    main()
