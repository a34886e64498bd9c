"""A trained task applied to a file, chunk by chunk."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
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

# Read, predicted and written at a time, which bounds the memory: letters, or for contacts their
# squares.
CHUNK = {"sequence": 100_000, "token": 100_000, "pairs": 1 << 24}


@dataclass(frozen=True)
class Survey:
    """What a look through all sequences says.

    Attributes:
        num_records: Number of sequences.
        num_long: How many of them do not fit into the model at once.
        costs: Work of each chunk, in letters or their squares.
    """

    num_records: int
    num_long: int
    costs: list[int]


class Predictor:
    """Predicts with a task, in batches by length.

    Args:
        checkpoint: See :func:`rnafm.tasks.loading.load_task`.
        task_module: Module to import first, for a task of the user's own.
        on_unknown: What to do about letters that the vocabulary lacks.
        tokens_per_batch: Tokens computed at once; by default 1,024 on a CPU, 65,536 on a GPU.
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

        from rnafm.modules.embed import tokens_at_once
        from rnafm.tasks.loading import load_task

        if task_module is not None:
            _import(task_module)
        self.task: SupervisedTask = load_task(checkpoint)
        cuda = torch.cuda.is_available()
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu"
        self.device = torch.device(name)
        self.task.to(self.device)
        self.checkpoint, self.on_unknown = checkpoint, on_unknown
        self.tokens_per_batch = tokens_per_batch or tokens_at_once(self.device)
        self.pairs_per_batch = 4_194_304 if cuda else 262_144

    @property
    def max_letters(self) -> int:
        """The longest sequence that the model takes at once, in nucleotides."""
        encoder = self.task.encoder
        return encoder.config.max_length * encoder.vocabulary.letters_per_token

    def cost(self, length: int) -> int:
        """Work and memory that a sequence takes."""
        return length**2 if self.task.level == "pairs" else length

    def chunks(self, records: Iterable[Record]) -> Iterator[list[Record]]:
        """Some records at a time; where the cuts are depends on the file alone."""
        chunk: list[Record] = []
        total = 0
        for record in records:
            chunk.append(record)
            total += self.cost(len(record.sequence))
            if total >= CHUNK[self.task.level]:
                yield chunk
                chunk, total = [], 0
        if chunk:
            yield chunk

    def survey(self, records: Iterable[Record], unique_for: Path | None = None) -> Survey:
        """Look through all sequences, so that what is wrong is not found after hours.

        Args:
            records: The sequences.
            unique_for: A file that needs different names.

        Raises:
            ValueError: If a letter is unknown, or a name is that of two sequences.
        """
        costs, num_records, num_long = [], 0, 0
        places: dict[str, str] = {}
        for chunk in self.chunks(records):
            self.task.encoder.vocabulary.encode_many(
                [record.sequence for record in chunk],
                names=[record.description for record in chunk],
                on_unknown=self.on_unknown,
            )
            for record in chunk if unique_for is not None else ():
                if record.name in places:
                    raise ValueError(
                        f"{record.description}: {record.name!r} is the name of "
                        f"{places[record.name]} as well, and {unique_for} needs different ones; "
                        "rename one"
                    )
                places[record.name] = record.description
            lengths = [len(record.sequence) for record in chunk]
            costs.append(sum(map(self.cost, lengths)))
            num_records += len(chunk)
            num_long += sum(length > self.max_letters for length in lengths)
        return Survey(num_records, num_long, costs)

    def predict(self, records: Sequence[Record]) -> list[Any]:
        """Predictions in the order of the records; see the task's ``predict_step``."""
        import torch

        from rnafm.modules.embed import packs_by_cost

        vocabulary = self.task.encoder.vocabulary
        tokens = [
            vocabulary.encode(
                record.sequence, on_unknown=self.on_unknown, name=record.description or record.name
            )
            for record in records
        ]
        results: list[Any] = [None] * len(records)
        with torch.inference_mode():
            costs = [self.cost(len(ids)) for ids in tokens]
            pairs = self.task.level == "pairs"
            budget = self.pairs_per_batch if pairs else self.tokens_per_batch
            for numbers in packs_by_cost(costs, budget):
                batch = _batch([tokens[number] for number in numbers], self.device)
                for number, result in zip(numbers, self.task.predict_step(batch), strict=True):
                    results[number] = result
        return results

    def say(self, survey: Survey) -> None:
        """Say on standard error what is to be known about predictions that will come."""
        source = self.task.source
        for note in source.notes if source is not None else ():
            print(f"{self.checkpoint}: {note}", file=sys.stderr)
        decoder = getattr(self.task, "decoder", None)
        if decoder is not None:
            print(f"decoder: {decoder.describe()}", file=sys.stderr)
        if survey.num_long:
            print(
                f"{survey.num_long:,} of {survey.num_records:,} sequences are longer than "
                f"{self.max_letters:,} nt, read in windows",
                file=sys.stderr,
            )


def _import(module: str) -> None:
    sys.path.insert(0, "")  # as python -m does: the module lies in the working directory
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # something that the module itself imports
        raise ValueError(
            f"task_module ({module}): there is no module {error.name} in this folder or among "
            "those installed; give its name as import does, without .py"
        ) from error


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
