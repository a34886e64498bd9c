"""How fast packs come from a store: cropped, collated, masked; and the usual padded way beside it.

python benchmarks/loader.py FOLDER [--data DATA] [--batches 400]

FOLDER is for scratch. Sequences are those of `ncrna.fa.gz` in DATA, or of the repository's sample;
windows of 1,022 nt in packs of 65,536 tokens. One thread of torch; CPU seconds of the main process
(and, with workers, wall seconds as well, which is what counts there); the median of five passes
over as many packs, after one that is not counted. Tokens are real ones: padding counts for nothing.
The padded collator masks the way of Hugging Face's `DataCollatorForLanguageModeling`; it is given
the same sequences in the same batches, encoded and cropped already. The first row is repeated last.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine
import numpy as np
import sources
import torch
from torch.nn.utils.rnn import pad_sequence

from rnafm.data.loader import PackDataset, PackLoader
from rnafm.data.masking import Masking, mask_tokens
from rnafm.data.mixture import Mixture
from rnafm.data.order import Shuffle
from rnafm.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "loader.json"
BUDGET, LONGEST = 65_536, 1022
PASSES = 5
STEP = BUDGET / 600e3  # seconds of a step of one GPU at the speed that is aimed for
RNA = Vocabulary.named("rna")


def sequences(dataset: PackDataset, pack: tuple[int, int, int]) -> list[NDArray[np.uint8]]:
    """The sequences of a pack one by one, encoded and cropped."""
    batch = dataset[pack]
    ends = batch.cu_seqlens[1:-1].tolist()
    return np.split(batch.tokens.numpy(), ends)


def padded(examples: list[NDArray[np.uint8]]) -> int:
    """Pad, mask 80/10/10 as Hugging Face does; the number of real tokens."""
    rows = [torch.from_numpy(example).long() for example in examples]
    inputs = pad_sequence(rows, batch_first=True, padding_value=RNA.pad_id)
    attention_mask = inputs != RNA.pad_id
    labels, chance = inputs.clone(), torch.full(inputs.shape, 0.15)
    special = torch.isin(inputs, torch.tensor(RNA.special_ids))
    chance.masked_fill_(special, 0.0)
    masked = torch.bernoulli(chance).bool()
    labels[~masked] = -100
    replaced = torch.bernoulli(torch.full(labels.shape, 0.8)).bool() & masked
    inputs[replaced] = RNA.mask_id
    other = torch.bernoulli(torch.full(labels.shape, 0.5)).bool() & masked & ~replaced
    inputs[other] = torch.randint(len(RNA), labels.shape)[other]
    return int(attention_mask.sum())


def measured(work: Callable[[], int]) -> dict[str, Any]:
    """Tokens per CPU second of this process and per second, the median of some passes."""
    cpu, wall = [], []
    work()
    tokens = 0
    for _ in range(PASSES):
        start, watch = time.process_time(), time.perf_counter()
        tokens = work()
        cpu.append(time.process_time() - start)
        wall.append(time.perf_counter() - watch)
    seconds = statistics.median(cpu)
    return {
        "tokens": tokens,
        "tokens_per_cpu_s": tokens / seconds,
        "tokens_per_s": tokens / statistics.median(wall),
        "spread": (max(cpu) - min(cpu)) / seconds,
    }


def taken(loader: PackLoader, batches: int) -> Iterator[Any]:
    """Some batches from the start of the next epoch."""
    loader.sampler.set_epoch(loader.sampler.epoch + 1)
    return itertools.islice(loader, batches)


def ways(dataset: PackDataset, batches: int) -> Iterator[tuple[str, Callable[[], int]]]:
    """What is measured."""
    plain = PackLoader(dataset, BUDGET)
    batches = min(batches, len(plain))
    packs, masking = list(itertools.islice(plain.sampler, batches)), Masking()

    def packed() -> int:
        return sum(len(batch.tokens) for batch in taken(plain, batches))

    def masked() -> int:
        total = 0
        for batch in taken(plain, batches):
            total += len(mask_tokens(batch, RNA, masking).tokens)
        return total

    yield "packs: cropped and collated", packed
    yield "the same, and masked on the CPU", masked
    some = [sequences(dataset, pack) for pack in packs[: max(1, batches // 10)]]
    yield "padded, and masked as by Hugging Face", lambda: sum(map(padded, some))
    pinned = (False, True) if torch.cuda.is_available() else (False,)
    for pin, workers in itertools.product(pinned, (0, 1, 2)):
        if not workers and not pin:
            continue  # the first row
        loader = PackLoader(dataset, BUDGET, num_workers=workers, pin_memory=pin)
        name = f"packs from {workers} worker{'s' * (workers != 1)}{', pinned' * pin}"
        yield name, lambda used=loader: sum(len(b.tokens) for b in taken(used, batches))
    yield "packs: cropped and collated", packed


def main() -> None:
    """Measure, write after each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--batches", type=int, default=400)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    store = sources.store_of(sources.fasta_of(options.data), options.folder)
    dataset = PackDataset(Mixture([store]), np.arange(len(store)), LONGEST, Shuffle(len(store), 0))
    about = machine.describe()
    about |= {"sequences": len(store), "tokens_of_store": int(store.info["tokens"])}
    rows: list[dict[str, Any]] = []
    for what, work in ways(dataset, options.batches):
        found = measured(work)
        share = BUDGET / found["tokens_per_cpu_s"] / STEP
        rows.append({"what": what, **found, "share_of_step": share})
        rows[-1] |= {"load": os.getloadavg()[0], **about}
        print(what, f"{found['tokens_per_cpu_s'] / 1e6:.1f} M tokens/CPU s", flush=True)
        machine.write(options.out, {"rows": rows})


if __name__ == "__main__":
    main()
