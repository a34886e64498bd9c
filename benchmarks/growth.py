"""What time and memory do when there is more to do: from 1 to 64 times as many tokens.

python benchmarks/growth.py FOLDER [--largest 64]

FOLDER is for scratch. Synthetic files with lengths like RNAcentral's are prepared into stores, and
the loader goes through each store once, in packs of 65,536 tokens; a tiny encoder embeds, and is
trained on, packs of 2,048 tokens, more and more of them. Every measurement is a fork of this
process with one thread: CPU seconds, and the greatest memory of its own beyond what it began with,
looked at every 10 ms; mapped files do not count. What is left of it at the end is looked at when
the C library has given back what it kept of freed memory. Up to 8 times the least, the median of
three. Writes the picture docs/images/growth.png.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import multiprocessing
import os
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import data_tables
import machine
import numpy as np
import prepare
import sources
import torch
from watch import memory

from rnafm.data.loader import PackDataset, PackLoader
from rnafm.data.masking import Masking, mask_tokens
from rnafm.data.mixture import Mixture
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules.encoder import Encoder, EncoderConfig
from rnafm.modules.heads import MaskedLMHead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rnafm.data.batch import Batch
    from rnafm.data.store import SequenceStore

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "growth.json"
PICTURE = HERE.parent / "docs" / "images" / "growth.png"
RECORDS = 20_000  # of the smallest file: 13 million tokens
PACKS = 4  # that the encoder sees where there is least to do
REPEATS, SOON = 3, 8
SMALL, LARGE, WINDOW = 2048, 65_536, 128
RNA = Vocabulary.named("rna")


def batches(store: SequenceStore, budget: int, window: int) -> Iterator[Batch]:
    """The packs of an epoch."""
    indices = np.arange(len(store))
    return iter(PackLoader(PackDataset(Mixture([store]), indices, window), budget))


def prepared(fasta: Path, folder: Path, _: int) -> int:
    """Make a store of a file."""
    return int(sources.store_of(fasta, folder).info["tokens"])


def loaded(fasta: Path, folder: Path, _: int) -> int:
    """Go through all packs of the store."""
    store = sources.store_of(fasta, folder)
    return sum(len(batch.tokens) for batch in batches(store, LARGE, 1022))


def embedded(fasta: Path, folder: Path, factor: int) -> int:
    """Embed some packs."""
    encoder, total = tiny().eval(), 0
    with torch.inference_mode():
        for batch in packs(fasta, folder, factor):
            tokens = batch.tokens.long()
            total += len(encoder(tokens, batch.cu_seqlens, batch.max_seqlen))
    return total


def trained(fasta: Path, folder: Path, factor: int) -> int:
    """Train on some packs."""
    encoder, total, masking = tiny(), 0, Masking()
    head = MaskedLMHead(encoder.config.embed_dim, len(RNA))
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    for batch in packs(fasta, folder, factor):
        masked = mask_tokens(batch, RNA, masking)
        hidden = encoder(masked.tokens, batch.cu_seqlens, batch.max_seqlen)
        logits = head(hidden[masked.positions], encoder.embed_tokens.weight)
        torch.nn.functional.cross_entropy(logits, masked.labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        total += len(batch.tokens)
    return total


def tiny() -> Encoder:
    """The encoder of configs/encoder/tiny.yaml, with random weights."""
    config = EncoderConfig(num_layers=4, embed_dim=96, num_heads=3, ffn_dim=384, max_length=WINDOW)
    return Encoder(config, RNA)


def packs(fasta: Path, folder: Path, factor: int) -> Iterator[Batch]:
    """Packs for the encoder."""
    store = sources.store_of(fasta, folder)
    return itertools.islice(batches(store, SMALL, WINDOW), PACKS * factor)


WORK: dict[str, Callable[[Path, Path, int], int]] = {
    "prepare": prepared,
    "loader, one epoch": loaded,
    "embedding": embedded,
    "training": trained,
}


def measured(name: str, fasta: Path, folder: Path, factor: int) -> dict[str, float]:
    """Tokens, CPU seconds and memory, in a process of its own."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_measure, args=(queue, name, fasta, folder, factor))
    process.start()
    process.join()
    if process.exitcode:
        raise ChildProcessError(f"{name}, {factor} times: ended with {process.exitcode}")
    found: dict[str, float] = queue.get()
    return found


def repeated(name: str, fasta: Path, folder: Path, factor: int) -> dict[str, float]:
    """The same, as the median of several where one is soon done."""
    runs = []
    for _ in range(REPEATS if factor <= SOON else 1):
        if name == "prepare":
            sources.remove(fasta, folder)
        runs.append(measured(name, fasta, folder, factor))
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def _measure(queue: Any, name: str, fasta: Path, folder: Path, factor: int) -> None:
    """What the process does."""
    if name != "prepare":
        WORK[name](fasta, folder, 1)  # what is done only once does not count
    ended, before, most = threading.Event(), memory(), [0.0]

    def watch() -> None:
        while not ended.wait(0.01):
            most.append(memory() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.process_time()
    tokens = WORK[name](fasta, folder, factor)
    seconds = time.process_time() - start
    ended.set()
    watcher.join()
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc keeps freed memory otherwise
        libc.malloc_trim(0)
    left = max(memory() - before, 0.0)
    queue.put({"tokens": tokens, "cpu_s": seconds, "own_mb": max(most), "left_mb": left})


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw time and memory over tokens."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, 2)
    ticks = sorted({row["factor"] for row in rows})
    for name, colour in zip(WORK, ("#1f5fa8", "#2a9d8f", "#e9a03b", "#d1495b"), strict=True):
        own = [row for row in rows if row["what"] == name]
        times = [row["tokens"] / own[0]["tokens"] for row in own]
        for axis, key, one in ((axes[0], "cpu_s", own[0]["cpu_s"]), (axes[1], "own_mb", 1.0)):
            values = [row[key] / one for row in own]
            axis.plot(times, values, marker="o", markersize=4, color=colour, label=name)
    most = max(ticks)
    axes[0].plot([1, most], [1, most], color="0.6", linewidth=1, linestyle=":", label="linear")
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks, [f"{tick}" for tick in ticks])
        axis.set_xlabel("tokens, times the least")
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_yscale("log", base=2)
    axes[0].set_yticks(ticks, [f"{tick}" for tick in ticks])
    axes[0].set_ylabel("CPU seconds, times those of the least")
    axes[1].set(ylabel="greatest memory beyond the start, MB", ylim=(0, None))
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Measure, write after each row, draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--largest", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    about, rows = machine.describe(), []
    factors = [1 << i for i in range(options.largest.bit_length())]
    for factor in factors:
        fasta = options.folder / f"growth-{RECORDS * factor}.fa.gz"
        prepare.generate(fasta, RECORDS * factor)
        folder = options.folder / "stores"
        for name in WORK:
            found = repeated(name, fasta, folder, factor)
            rows.append({"what": name, "factor": factor, **found})
            rows[-1] |= {"load": os.getloadavg()[0], **about}
            print(name, factor, found, flush=True)
            machine.write(options.out, {"rows": rows})
    for name in WORK:
        own = [row for row in rows if row["what"] == name]
        print(name, f"CPU time grows with tokens to the power {data_tables.exponent(own):.2f}")
    draw(rows, options.picture)


if __name__ == "__main__":
    main()
