"""The base of data modules with labels: split, checked for leaks, bound to what a task needs."""

from __future__ import annotations

import hashlib
import logging
from abc import abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from rnafm.data.datamodule import RNADataModule
from rnafm.data.label_cells import NO_CLASS
from rnafm.data.labelled_dataset import LabelledDataset
from rnafm.data.labels import describe_labels
from rnafm.data.leaks import apply_on_leak
from rnafm.data.loader import PackLoader
from rnafm.data.partition import Partition
from rnafm.data.rows import Rows, TooLong, divide, fitting, note_unknown, number_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rnafm.data.labels import LabelSpec
    from rnafm.data.leaks import OnLeak
    from rnafm.data.vocabulary import OnUnknown

logger = logging.getLogger(__name__)


class SupervisedDataModule(RNADataModule):
    """Splits labelled RNAs, reports leaks, and gives a task its labels in the form it needs.

    Args:
        split: How the rows are divided into training, validation and test. Where there are files
            for validation or test, these decide; without those for validation it is taken from the
            training files, as this says.
        on_leak: What to do about sequences of validation and test that are in training as well,
            exactly or nearly: report them, stop, or drop them from training.
        too_long: What to do about sequences longer than the encoder takes: read them in overlapping
            windows, stop, or leave them out and count them.
        on_unknown: What to do about letters that the vocabulary lacks: stop, or read ``<unk>``.
        tokens_per_batch: Budget of a batch on one device; a longer sequence goes alone.
        embedding_folder: Where embeddings of a frozen encoder are kept; by default beside the data.
        vocabulary: Name of the vocabulary that sequences are read with; by default that of the
            task, which a checkpoint brings.
        **kwargs: See :class:`RNADataModule`.

    Attributes:
        names: Of all rows.
        sequences: Of all rows, upper case, U for T.
        columns: All that the files say besides, as text; name of the column -> of all rows.
        rows: Row numbers of ``train``, ``val`` and ``test``; int64, ascending.
        spec: What the task needs, with names; None before :meth:`bind`.
        labels: Of all rows, as the task needs them; empty before :meth:`bind`.
        facts: What a report says about the data: plain values.
    """

    def __init__(
        self,
        *,
        split: Partition = Partition(),
        on_leak: OnLeak = "warn",
        too_long: TooLong = "window",
        on_unknown: OnUnknown = "error",
        tokens_per_batch: int = 4096,
        embedding_folder: Path | None = None,
        vocabulary: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(vocabulary or "rna", tokens_per_batch, max_length=0, **kwargs)
        self.follows_task = vocabulary is None
        if too_long not in get_args(TooLong):
            raise ValueError(f"too_long ({too_long}) must be one of {', '.join(get_args(TooLong))}")
        self.split, self.on_leak, self.too_long = split, on_leak, too_long
        self.on_unknown, self.embedding_folder = on_unknown, embedding_folder
        self.spec: LabelSpec | None = None
        self.names: list[str] = []
        self.sequences: list[str] = []
        self.columns: dict[str, list[str]] = {}
        self.rows: dict[str, NDArray[np.int64]] = {}
        self.labels: list[NDArray[Any]] = []
        self.facts: dict[str, Any] = {}
        self.similarity: dict[int, float] = {}  # of held-out rows to the nearest training row
        self._places: list[str] = []
        self._tokens: list[NDArray[np.uint8]] = []
        self._divided: dict[str, NDArray[np.int64]] = {}
        self._datasets: dict[str, LabelledDataset] = {}
        self._bound: tuple[LabelSpec, int] | None = None

    @property
    @abstractmethod
    def description(self) -> str:
        """What the data are, for reports."""

    @property
    @abstractmethod
    def first_file(self) -> Path:
        """The file or folder that the data are known by."""

    @abstractmethod
    def read(self) -> Rows:
        """Read all files."""

    @abstractmethod
    def encode(
        self, spec: LabelSpec, lengths: Sequence[int], used: NDArray[np.bool_]
    ) -> list[NDArray[Any]]:
        """The labels of all rows as arrays; refuses those that the task cannot learn from.

        Args:
            spec: What the task needs.
            lengths: Tokens of each sequence, without special ones.
            used: Which rows are in a split; what the others have as labels does not matter.
        """

    @property
    def cache_folder(self) -> Path:
        """Where embeddings of these sequences are kept."""
        beside = self.first_file.with_name(f"{self.first_file.name}.embeddings")
        return self.embedding_folder or beside

    @property
    def unit(self) -> str:
        """What a token stands for."""
        return "nucleotides" if self.vocabulary.letters_per_token == 1 else "codons"

    def setup(self, stage: str) -> None:
        """Read, split, and look for leaks; a second time it does nothing."""
        if self._divided:
            return
        task: Any = getattr(self.trainer, "lightning_module", None)
        if self.follows_task and hasattr(task, "encoder"):
            self.vocabulary = task.encoder.vocabulary
        rows = self.read()
        if not rows.sequences:
            raise ValueError(f"{self.description}: no RNA is left; {'; '.join(rows.notes)}")
        tokens = [
            self.vocabulary.encode(sequence, on_unknown=self.on_unknown, name=place)
            for sequence, place in zip(rows.sequences, rows.places, strict=True)
        ]
        self.names = number_names(rows.names, rows.notes)
        note_unknown(tokens, self.vocabulary, rows.notes)
        for note in rows.notes:
            logger.info("%s", note)
        result = divide(rows, self.split)
        logger.info("Split %s", result.how)
        for note in result.notes:
            logger.info("%s", note)
        divided, reports = apply_on_leak(result.rows, rows.sequences, self.on_leak)
        if len(divided["train"]):
            for name, report in reports.items():
                for line in report.lines(name):
                    logger.info("%s", line)
                own = divided[name].tolist()
                self.similarity.update(zip(own, report.similarity.tolist(), strict=True))
            self.facts["leaks"] = {name: report.numbers() for name, report in reports.items()}
        self.facts |= {
            "data": self.description,
            "vocabulary": self.vocabulary.name,
            "split": result.how,
            "notes": [*rows.notes, *result.notes],
        }
        self.sequences, self.columns, self._places = rows.sequences, rows.columns, rows.places
        self._tokens, self._divided, self.rows = tokens, divided, divided

    def bind(self, spec: LabelSpec, max_length: int) -> None:
        """Prepare the labels for a task, and check every one of them before anything is trained.

        Args:
            spec: What the task needs.
            max_length: Nucleotides (codons) of a sequence that the encoder takes at once.

        Raises:
            ValueError: If labels are missing or are not what the task can learn from.
        """
        self.setup("fit")
        if self._bound == (spec, max_length):
            return
        lengths = np.array([len(tokens) - 2 for tokens in self._tokens])
        self.rows, note = fitting(
            self._divided,
            lengths,
            max_length,
            too_long=self.too_long,
            unit=self.unit,
            places=self._places,
        )
        if note:
            logger.info("%s", note)
            self.facts["long_sequences"] = note
        used = np.isin(np.arange(len(lengths)), np.concatenate(list(self.rows.values())))
        self.labels = self.encode(spec, lengths.tolist(), used)
        self.spec = replace(spec, names=self.titles(spec))
        self._datasets = {
            split: LabelledDataset(
                self._tokens,
                rows,
                self.labels,
                level=spec.level,
                seed=self.seed,
                budget=self.budget,
            )
            for split, rows in self.rows.items()
        }
        self._describe(self.spec, lengths)
        self._bound = spec, max_length

    def titles(self, spec: LabelSpec) -> tuple[str, ...]:
        """Names of the outputs or classes, also where the task has none; may be empty."""
        return spec.names

    @property
    def fingerprint(self) -> str:
        """Names the sequences and how they are read."""
        digest = hashlib.blake2b(repr(self.vocabulary.to_dict()).encode(), digest_size=8)
        for sequence in self.sequences:
            digest.update(f"{sequence}\n".encode())
        return digest.hexdigest()

    def labels_of(self, split: str) -> NDArray[Any]:
        """All labels of a split, end to end: (n, C) or (n,).

        Raises:
            ValueError: If it has no rows.
        """
        parts = [np.atleast_1d(self.labels[row]) for row in self.rows[split]]
        if not parts:
            raise ValueError(
                f"there are no rows for {split}, whose labels are needed; name files for it, or "
                "give it a share of the split"
            )
        if self.spec is not None and self.spec.level == "sequence" and self.spec.kind != "class":
            return np.stack(parts)
        return np.concatenate(parts)

    def splits(self) -> dict[str, LabelledDataset]:
        """``train``, ``val`` and ``test``, as far as they have rows."""
        if not self._datasets:
            raise ValueError(
                f"{type(self).__name__} has labels for fine-tuning and no task has asked for them; "
                "use a task such as SequencePrediction, TokenPrediction or ContactPrediction"
            )
        return {name: data for name, data in self._datasets.items() if len(data.indices)}

    def num_tokens(self) -> NDArray[np.int64]:
        """Tokens of every sequence, special ones included, 0 for those in no split; (n,)."""
        lengths = np.zeros(len(self._tokens), np.int64)
        for row in self.used():
            lengths[row] = len(self._tokens[row])
        return lengths

    def used(self) -> list[int]:
        """Rows that are in a split, ascending."""
        return sorted({row for rows in self.rows.values() for row in rows.tolist()})

    def every_row(self) -> PackLoader:
        """Batches of all sequences that are in a split, each once, without labels."""
        rows = np.array(self.used())
        budget = self.tokens_per_batch
        data = LabelledDataset(self._tokens, rows, None, level="sequence", budget=budget)
        return PackLoader(data, budget, reshuffle=False)

    def _describe(self, spec: LabelSpec, lengths: NDArray[np.int64]) -> None:
        for name, rows in self.rows.items():
            if not len(rows):
                continue
            labels = [self.labels[row] for row in rows]
            shortest, longest = lengths[rows].min(), lengths[rows].max()
            logger.info(
                f"{name}: {len(rows):,} sequences of {shortest:,} to {longest:,} {self.unit}"  # noqa: G004
            )
            for line in _lines(labels, spec):
                logger.info("  %s", line)
            if name == "val" and spec.kind != "pairs" and not _any_known(labels):
                raise ValueError(
                    f"none of the {len(rows):,} validation sequences has a label, so nothing can "
                    "be scored; label some, or choose other rows with data.split"
                )
        self.facts["sequences"] = {name: len(rows) for name, rows in self.rows.items()}


def _lines(labels: list[NDArray[Any]], spec: LabelSpec) -> list[str]:
    """Classes in one line, outputs in one each."""
    lines = describe_labels(labels, spec)
    return ["; ".join(lines)] if spec.kind == "class" else lines


def _any_known(labels: list[NDArray[Any]]) -> bool:
    return any(
        bool((label != NO_CLASS).any() if label.dtype == np.int64 else (~np.isnan(label)).any())
        for label in labels
    )
