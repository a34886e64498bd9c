"""A trained task applied to a file, chunk by chunk."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    import torch

    from rnafm.data.batch import Batch
    from rnafm.data.fasta import Record
    from rnafm.data.vocabulary import OnUnknown
    from rnafm.tasks import SupervisedTask

_CHUNK_LETTERS = 100_000  # read, predicted and written at a time: bounds the memory
_TABLES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")


class Predictor:
    """Predicts with a task, in batches by length.

    Args:
        checkpoint: See :func:`rnafm.tasks.loading.load_task`.
        task_module: Module to import first, for a task of the user's own.
        on_unknown: What to do about letters that the vocabulary lacks.
        tokens_per_batch: Tokens computed at once; by default 2,048 on a CPU, 65,536 on a GPU.
    """

    def __init__(
        self,
        checkpoint: Path,
        *,
        task_module: str | None = None,
        on_unknown: OnUnknown = "error",
        tokens_per_batch: int | None = None,
    ) -> None:
        import torch

        from rnafm.tasks.loading import load_task

        if task_module is not None:
            sys.path.insert(0, "")  # as python -m does: the module lies in the working directory
            importlib.import_module(task_module)
        self.task: SupervisedTask = load_task(checkpoint)
        cuda = torch.cuda.is_available()
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu"
        self.device = torch.device(name)
        self.task.to(self.device)
        self.on_unknown = on_unknown
        self.tokens_per_batch = tokens_per_batch or (65_536 if cuda else 2048)
        self.pairs_per_batch = 4_194_304 if cuda else 262_144
        self.windowed = 0

    def predict(self, records: Sequence[Record], place: Path) -> list[Any]:
        """Predictions in the order of the records; see the task's ``predict_step``."""
        import torch

        vocabulary = self.task.encoder.vocabulary
        tokens = [
            vocabulary.encode(
                record.sequence, on_unknown=self.on_unknown, name=f"{place}:{record.name}"
            )
            for record in records
        ]
        self.windowed += sum(len(ids) - 2 > self.task.encoder.config.max_length for ids in tokens)
        results: list[Any] = [None] * len(records)
        with torch.inference_mode():
            for numbers in self._packs([len(ids) for ids in tokens]):
                batch = _batch([tokens[number] for number in numbers], self.device)
                for number, result in zip(numbers, self.task.predict_step(batch), strict=True):
                    results[number] = result
        return results

    def say_windows(self) -> None:
        """Say how many sequences did not fit into the model at once."""
        if self.windowed:
            limit = self.task.encoder.config.max_length
            print(
                f"{self.windowed:,} sequences longer than {limit:,} nt were read in windows",
                file=sys.stderr,
            )

    def _packs(self, lengths: list[int]) -> Iterator[list[int]]:
        """Numbers of the sequences of each batch, by length."""
        if self.task.level == "pairs":
            costs, budget = [length**2 for length in lengths], self.pairs_per_batch
        else:
            costs, budget = lengths, self.tokens_per_batch
        pack: list[int] = []
        total = 0
        for number in sorted(range(len(lengths)), key=lengths.__getitem__):
            if pack and total + costs[number] > budget:
                yield pack
                pack, total = [], 0
            pack.append(number)
            total += costs[number]
        if pack:
            yield pack


def _batch(tokens: list[Any], device: torch.device) -> Batch:
    import torch

    from rnafm.data.batch import Batch

    bounds = np.cumsum([0, *(len(ids) for ids in tokens)])
    return Batch(
        torch.from_numpy(np.concatenate(tokens)).to(device),
        torch.from_numpy(bounds).to(device, torch.int32),
        max(len(ids) for ids in tokens),
        torch.arange(len(tokens)),
    )


def chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Some records at a time; where the cuts are depends on the file alone."""
    chunk: list[Record] = []
    letters = 0
    for record in records:
        chunk.append(record)
        letters += len(record.sequence)
        if letters >= _CHUNK_LETTERS:
            yield chunk
            chunk, letters = [], 0
    if chunk:
        yield chunk


def is_table(path: Path) -> bool:
    """Whether a file is a table, by its name; else it is FASTA."""
    return path.name.removesuffix(".gz").endswith(_TABLES)


def read_records(path: Path, sequence_column: str, id_column: str) -> Iterator[Record]:
    """Sequences of a FASTA file or a table, upper case and with U for T."""
    from rnafm.data.fasta import FastaFile, Record
    from rnafm.data.table import read_table, require

    if not is_table(path):
        for record in FastaFile(path):
            yield record._replace(sequence=record.sequence.upper().replace("T", "U"))
        return
    table = read_table(path)
    sequences = require(table, sequence_column, "sequence_column")
    names = table.columns.get(id_column, table.places)
    for number, (label, sequence) in enumerate(zip(names, sequences, strict=True)):
        if not isinstance(sequence, str) or not sequence:
            raise ValueError(f"{table.places[number]}: there is no sequence ({sequence!r})")
        yield Record(str(label), "", sequence.upper().replace("T", "U"))
