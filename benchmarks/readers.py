"""Readers of FASTA files, and what is read from in training, beside those of others.

python benchmarks/readers.py FOLDER [--data DATA] [--repeats 5]

Needs what benchmarks/requirements-readers.txt lists, in an environment of its own that has rnafm.
FOLDER is for scratch. Read are `ncrna.fa.gz` in DATA, or the repository's sample twenty times over.
One process, one thread of Python, files in the page cache; CPU seconds of all threads, the median
of the repeats, of which a reader that takes long has fewer. Every reader has to give the right
numbers of sequences and nucleotides, and, from what is read at random, the same sequences. What is
read at random are token ids, which the stores of others hold as bytes; pyfastx gives text, which
would still have to be encoded. The first row is repeated last.
"""

from __future__ import annotations

import argparse
import gzip
import os
import shutil
import statistics
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import dnaio
import machine
import needletail
import numpy as np
import pyfastx
import readers_stores
import sources

from rnafm.data.fasta import FastaFile
from rnafm.data.mixture import Mixture
from rnafm.data.order import Shuffle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "readers.json"
COPIES = 20
PACK = 344  # sequences of the corpus in a pack of 65,536 tokens
LONGEST = 2.0  # CPU seconds after which no more sequences are read at random
EVERYTHING: dict[str, Any] = {"redundancy": "none", "max_ambiguous": 1.0}
NAMES = ("pyfastx", "needletail", "dnaio", "litdata", "datasets", "pyarrow")


class Row(NamedTuple):
    """A reader at work: what it gives are lengths of sequences, one after another."""

    what: str
    how: str
    condition: str
    read: Callable[[], Iterable[int]]
    paths: tuple[Path, ...] = ()  # what it reads: how large that is


def inputs(folder: Path, data: Path | None) -> tuple[Path, Path]:
    """The file, plain and gzip."""
    folder.mkdir(parents=True, exist_ok=True)
    plain, packed = folder / "input.fa", folder / "input.fa.gz"
    if data is not None:
        shutil.copyfile(sources.fasta_of(data), packed)
        with gzip.open(packed) as file, plain.open("wb") as out:
            shutil.copyfileobj(file, out, 1 << 22)
        return plain, packed
    with gzip.open(sources.SAMPLE) as file:
        text = file.read()
    with plain.open("wb") as out, gzip.open(packed, "wb") as packed_out:
        for copy in range(COPIES):
            some = text.replace(b">", b">%d." % copy)
            out.write(some)
            packed_out.write(some)
    return plain, packed


def streamed(path: Path) -> dict[str, Callable[[], Iterable[int]]]:
    """Everything in the order of the file."""

    def ours() -> Iterator[int]:
        for records in FastaFile(path).batches():
            for _, sequence, _ in records:
                yield len(sequence)

    def with_dnaio() -> Iterator[int]:
        with dnaio.open(path, open_threads=0) as file:
            for record in file:
                yield len(record.sequence)

    return {
        "rnafm FastaFile": ours,
        "pyfastx.Fastx": lambda: (len(record[1]) for record in pyfastx.Fastx(str(path))),
        "needletail": lambda: (len(one.seq) for one in needletail.parse_fastx_file(str(path))),
        "dnaio": with_dnaio,
    }


def built(fasta: Path, folder: Path) -> Callable[[], Iterator[int]]:
    """A store is made of it: checked, encoded, named, written, and synchronised with the disk."""

    def read() -> Iterator[int]:
        sources.remove(fasta, folder / "new")
        store = sources.store_of(fasta, folder / "new", **EVERYTHING)
        yield from store.lengths.tolist()

    return read


def picked(fasta: Path, order: list[int]) -> Callable[[], Iterator[int]]:
    """Some sequences at random through the index of pyfastx."""
    reader = pyfastx.Fasta(str(fasta))
    return lambda: (len(reader[i].seq) for i in order)


def packed_from(mixture: Mixture, order: list[int]) -> Callable[[], Iterator[int]]:
    """The same from our store, in packs as a loader makes them."""
    indices = np.array(order)

    def read() -> Iterator[int]:
        for start in range(0, len(indices), PACK):
            found = mixture.places(indices[start : start + PACK])
            windows = mixture.windows(*found)
            b"\2\1".join(windows)
            yield from map(len, windows)

    return read


def measured(row: Row, repeats: int, expected: np.ndarray | None) -> dict[str, Any]:
    """CPU seconds of some reads; of a slow reader only as many sequences as ``LONGEST`` allows."""
    seconds, sequences, nucleotides = [], 0, 0
    for _ in range(repeats):
        sequences = nucleotides = 0
        start = time.process_time()
        for length in row.read():
            sequences, nucleotides = sequences + 1, nucleotides + length
            slow = expected is not None and not sequences % 64
            if slow and time.process_time() - start > LONGEST:
                break
        seconds.append(time.process_time() - start)
        if expected is not None and nucleotides != int(expected[:sequences].sum()):
            raise ValueError(f"{row.what}, {row.how}: gave {nucleotides} nucleotides")
    cpu = statistics.median(seconds)
    return {
        "cpu_s": cpu,
        "spread": (max(seconds) - min(seconds)) / cpu,
        "sequences": sequences,
        "nucleotides": nucleotides,
        "sequences_per_s": sequences / cpu,
        "nucleotides_per_s": nucleotides / cpu,
    }


def main() -> None:
    """Measure, write after each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    folder = options.folder
    plain, packed = inputs(folder, options.data)
    ours = sources.store_of(packed, folder, **EVERYTHING)
    total, tokens = len(ours), int(ours.info["tokens"])
    about = machine.describe()
    about["versions"] |= {name: version(name) for name in NAMES}
    about |= {"sequences_of_input": total, "nucleotides_of_input": tokens}
    about["input"] = "ncrna.fa.gz" if options.data else f"the sample, {COPIES} times"
    rows: list[dict[str, Any]] = []

    def add(row: Row, expected: np.ndarray | None = None) -> None:
        found = measured(row, options.repeats, expected)
        if expected is None and (found["sequences"], found["nucleotides"]) != (total, tokens):
            raise ValueError(f"{row.what}: {found} of {total} sequences with {tokens} nucleotides")
        size = sum(map(readers_stores.size, row.paths)) / tokens if row.paths else None
        labels = {"what": row.what, "how": row.how, "condition": row.condition}
        rows.append({**labels, **found, "bytes_per_nt": size, "load": os.getloadavg()[0], **about})
        print(labels, f"{found['nucleotides_per_s'] / 1e6:.1f} M nt/s", flush=True)
        machine.write(options.out, {"rows": rows})

    order = Shuffle(total, 0)(0, 0, total).tolist()
    lengths = ours.lengths[order]
    mixture = Mixture([ours])
    first = Row(
        "rnafm store", "at random", f"packs of {PACK}", packed_from(mixture, order), (ours.path,)
    )
    add(first, lengths)
    for path, kind in ((plain, "plain"), (packed, "gzip")):
        for name, read in streamed(path).items():
            add(Row(name, "in order", f"FASTA, {kind}", read, (path,)))
    for path, kind in ((plain, "plain"), (packed, "gzip")):
        add(Row("rnafm prepare", "in order", f"FASTA, {kind}; into a store", built(path, folder)))
    everything = packed_from(mixture, list(range(total)))
    add(Row("rnafm store", "in order", f"packs of {PACK}", everything, (ours.path,)))
    for path, kind in ((plain, "plain"), (packed, "gzip")):
        read = picked(path, order)
        files = (path, Path(f"{path}.fxi"))
        condition = f"one at a time, {kind}; text"
        add(Row("pyfastx.Fasta", "at random", condition, read, files), lengths)
    for other in readers_stores.OTHERS:
        store = other(folder / other.__name__, ours)
        store.check(ours, order[:5])
        for condition, read in store.at_random(order).items():
            add(Row(store.title, "at random", condition, read, (store.path,)), lengths)
        if (shuffled := store.shuffled()) is not None:
            add(Row(store.title, "at random", "shuffled by itself", shuffled, (store.path,)))
        add(Row(store.title, "in order", store.in_order, store.read, (store.path,)))
    add(first, lengths)


if __name__ == "__main__":
    main()
