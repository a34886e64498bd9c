"""The sequences that all packages get, what is hidden of them, and the ways to make batches."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnafm.data.batch import Batch
from rnafm.data.fasta import read_fasta
from rnafm.data.masking import Masking, mask_tokens
from rnafm.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

EXAMPLE = Path(__file__).parents[1] / "examples" / "ncrna_sample.fa.gz"
IGNORED = -100  # the label that cross-entropy leaves out, in all packages
USUAL = 16  # sequences of a batch, as tutorials have it
MASKING = Masking()
VOCABULARY = Vocabulary.named("rna")  # that of MultiMolecule's published RNA-FM

Batches = list[list[int]]


@dataclass(frozen=True)
class Sample:
    """Sequences in a given order, as ids with ``cls`` and ``eos``; B of them.

    Attributes:
        clean: Ids of each sequence, int64, (L,).
        masked: The same with tokens hidden, (L,).
        labels: What was hidden, -100 elsewhere, (L,).
        file_padding: Slots over tokens of all batches of 16 in the order of the whole file.
        key: Decides what is hidden, for rnafm, which hides on the device.
    """

    clean: list[Tensor]
    masked: list[Tensor]
    labels: list[Tensor]
    file_padding: float
    key: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each sequence."""
        return [len(ids) for ids in self.clean]

    @property
    def hidden(self) -> list[int]:
        """Hidden tokens of each sequence."""
        return [int((labels != IGNORED).sum()) for labels in self.labels]

    def pack(self, numbers: Sequence[int], device: str = "cpu") -> Batch:
        """Some sequences end to end, as the package's loaders give them."""
        return packed([self.clean[number] for number in numbers], numbers, self.key, device)

    def describe(self) -> dict[str, Any]:
        """What results say about the sequences."""
        lengths = self.lengths
        return {
            "sequences": len(lengths),
            "tokens": sum(lengths),
            "squares": sum(length * length for length in lengths),
            "hidden": sum(self.hidden),
            "median_tokens": sorted(lengths)[len(lengths) // 2],
            "padding_in_given_order": padding(lengths, in_order(USUAL)(lengths)),
            "padding_in_order_of_the_file": self.file_padding,
        }


def packed(parts: list[Tensor], numbers: Sequence[int], key: int, device: str = "cpu") -> Batch:
    """Ids of sequences end to end."""
    lengths = [len(ids) for ids in parts]
    bounds = torch.tensor([0, *lengths]).cumsum(0).int()
    tokens, indices = torch.cat(parts), torch.tensor(list(numbers))
    return Batch(
        move(tokens, device), move(bounds, device), max(lengths), move(indices, device), key
    )


def move(values: Tensor, device: str) -> Tensor:
    """To the device, for all packages in the way in which nobody waits."""
    return values.pin_memory().to(device, non_blocking=True) if device == "cuda" else values


def load(path: Path, count: int, seed: int = 0, max_length: int = 1022) -> Sample:
    """Sequences of a FASTA file: as many of each length as the file has, in random order.

    The file is sorted by length and every n-th sequence taken, so that a small sample has the
    lengths of the file. Longer ones are cropped to a random window.

    Args:
        path: FASTA file, plain or gzip.
        count: Number of sequences.
        seed: Of the order, the windows and the hidden tokens.
        max_length: Nucleotides that are kept of a sequence.

    Raises:
        ValueError: If the file has fewer sequences.
    """
    sequences = [record.sequence for record in read_fasta(path)]
    if len(sequences) < count:
        raise ValueError(f"{path} has {len(sequences)} sequences, fewer than the {count} asked for")
    lengths = [min(len(sequence), max_length) + 2 for sequence in sequences]
    file_padding = padding(lengths, in_order(USUAL)(lengths))
    rng = random.Random(seed)  # noqa: S311  # no secrets
    sequences.sort(key=len)
    chosen = [sequences[int((i + 0.5) * len(sequences) / count)] for i in range(count)]
    rng.shuffle(chosen)
    windows = [rng.randint(0, max(len(sequence) - max_length, 0)) for sequence in chosen]
    clean = [
        torch.from_numpy(VOCABULARY.encode(sequence[start : start + max_length])).long()
        for sequence, start in zip(chosen, windows, strict=True)
    ]
    return hide(clean, key=seed + 1, file_padding=file_padding)


def hide(clean: list[Tensor], key: int, file_padding: float = 1.0) -> Sample:
    """Hide 15 % of each sequence, as rnafm does when it trains."""
    batch = packed(clean, range(len(clean)), key)
    found = mask_tokens(batch, VOCABULARY, MASKING)
    real = found.labels != IGNORED
    labels = torch.full_like(found.tokens, IGNORED)
    labels[found.positions[real]] = found.labels[real]
    lengths = [len(ids) for ids in clean]
    parts = list(found.tokens.split(lengths)), list(labels.split(lengths))
    return Sample(clean, *parts, file_padding, key)


def in_order(size: int) -> Callable[[list[int]], Batches]:
    """Batches of so many sequences in the order given: the usual way."""

    def batches(lengths: list[int]) -> Batches:
        numbers = list(range(len(lengths)))
        return [numbers[start : start + size] for start in range(0, len(numbers), size)]

    return batches


def bucketed(slots: int) -> Callable[[list[int]], Batches]:
    """Sequences sorted by length, as many to a batch as fit into so many padded slots."""

    def batches(lengths: list[int]) -> Batches:
        found: Batches = []
        for number in sorted(range(len(lengths)), key=lambda number: -lengths[number]):
            if not found or (len(found[-1]) + 1) * lengths[found[-1][0]] > slots:
                found.append([])
            found[-1].append(number)
        return found

    return batches


def singly(lengths: list[int]) -> Batches:
    """One sequence at a time, the longest first."""
    return [[number] for number in sorted(range(len(lengths)), key=lambda i: -lengths[i])]


def packs(budget: int) -> Callable[[list[int]], Batches]:
    """Packs of whole sequences up to so many tokens, as rnafm's loader cuts the order given.

    Within a pack the sequences are sorted by length, as the loader does it.
    """

    def batches(lengths: list[int]) -> Batches:
        found: Batches = []
        room = 0
        for number, length in enumerate(lengths):
            if length > room:
                found.append([])
                room = budget
            found[-1].append(number)
            room -= length
        return [sorted(pack, key=lambda number: lengths[number]) for pack in found]

    return batches


def padding(lengths: list[int], batches: Batches) -> float:
    """Slots of padded batches over tokens."""
    slots = sum(len(batch) * max(lengths[number] for number in batch) for batch in batches)
    return slots / sum(lengths)
