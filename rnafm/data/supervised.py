"""The base of data modules with labels: split, checked for leaks, bound to what a task needs."""

from __future__ import annotations

import hashlib
import logging
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from rnafm.data.datamodule import RNADataModule
from rnafm.data.labelled_dataset import LabelledDataset
from rnafm.data.labels import describe_labels
from rnafm.data.leaks import apply_on_leak
from rnafm.data.loader import PackLoader
from rnafm.data.partition import Partition, partition

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rnafm.data.labels import LabelSpec
    from rnafm.data.leaks import OnLeak
    from rnafm.data.vocabulary import OnUnknown

logger = logging.getLogger(__name__)

TooLong = Literal["window", "error", "drop"]
FILE_COLUMN = "partition of the files"  # no column of a table has this name by chance


@dataclass
class Rows:
    """Labelled RNAs as they were read.

    Attributes:
        names: Of each RNA.
        sequences: Upper case, U for T.
        places: File and line of each, for messages.
        columns: All other columns, as text.
        notes: Sentences about what was left out.
    """

    names: list[str]
    sequences: list[str]
    places: list[str]
    columns: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class SupervisedDataModule(RNADataModule):
    """Splits labelled RNAs, reports leaks, and gives a task its labels in the form it needs.

    Args:
        split: How the rows are divided into training, validation and test.
        on_leak: What to do about sequences of validation and test that are in training as well,
            exactly or nearly: report them, stop, or drop them from training.
        too_long: What to do about sequences longer than the encoder takes: read them in overlapping
            windows, stop, or leave them out and count them.
        on_unknown: What to do about letters that the vocabulary lacks: stop, or read ``<unk>``.
        tokens_per_batch: Budget of a batch on one device; a longer sequence goes alone.
        **kwargs: See :class:`RNADataModule`.
    """

    def __init__(
        self,
        *,
        split: Partition = Partition(),
        on_leak: OnLeak = "warn",
        too_long: TooLong = "window",
        on_unknown: OnUnknown = "error",
        tokens_per_batch: int = 4096,
        **kwargs: Any,
    ) -> None:
        super().__init__(tokens_per_batch=tokens_per_batch, max_length=0, **kwargs)
        self.split, self.on_leak, self.too_long = split, on_leak, too_long
        self.on_unknown = on_unknown
        self.spec: LabelSpec | None = None
        self.names: list[str] = []
        self.sequences: list[str] = []
        self.columns: dict[str, list[str]] = {}
        self.rows: dict[str, NDArray[np.int64]] = {}
        self.labels: list[NDArray[Any]] = []
        self.facts: dict[str, Any] = {}
        self._datasets: dict[str, LabelledDataset] = {}

    @property
    @abstractmethod
    def description(self) -> str:
        """What the data are, for reports."""

    @property
    @abstractmethod
    def cache_folder(self) -> Path:
        """Where embeddings of these sequences may be kept."""

    @abstractmethod
    def read(self) -> Rows:
        """Read all files. A column ``FILE_COLUMN`` says which split the files are for."""

    @abstractmethod
    def encode(self, spec: LabelSpec, lengths: Sequence[int]) -> list[NDArray[Any]]:
        """The labels of all rows as arrays; refuses those that the task cannot learn from.

        Args:
            spec: What the task needs.
            lengths: Tokens of each sequence, without special ones.
        """

    def setup(self, stage: str) -> None:
        """Read, split, and look for leaks."""
        if self.sequences:
            return
        rows = self._raw = self.read()
        for note in rows.notes:
            logger.info("%s", note)
        self.names, self.sequences, self.columns = rows.names, rows.sequences, rows.columns
        split = self.split
        if FILE_COLUMN in rows.columns:
            split = Partition(by="column", column=FILE_COLUMN, val=split.val, seed=split.seed)
        result = partition(split, rows.sequences, rows.columns)
        self.rows, reports = apply_on_leak(result.rows, rows.sequences, self.on_leak)
        rows.columns.pop(FILE_COLUMN, None)
        logger.info("split: %s", result.how)
        for line in result.notes:
            logger.info("%s", line)
        for name, report in reports.items():
            for line in report.lines(name):
                logger.info("%s", line)
        self.facts |= {
            "data": self.description,
            "split": result.how,
            "leaks": {name: report.numbers() for name, report in reports.items()},
        }
        self._tokens = [
            self.vocabulary.encode(sequence, on_unknown=self.on_unknown, name=place)
            for sequence, place in zip(rows.sequences, rows.places, strict=True)
        ]

    def bind(self, spec: LabelSpec, max_length: int) -> None:
        """Prepare the labels for a task, and check every one of them before anything is trained.

        Args:
            spec: What the task needs.
            max_length: Nucleotides (codons) of a sequence that the encoder takes at once.

        Raises:
            ValueError: If labels are missing or are not what the task can learn from.
        """
        lengths = [len(tokens) - 2 for tokens in self._tokens]
        self._check_lengths(np.array(lengths), max_length)
        self.labels, self.spec = self.encode(spec, lengths), spec
        for split, rows in self.rows.items():
            self._datasets[split] = LabelledDataset(
                self._tokens,
                rows,
                self.labels,
                level=spec.level,
                seed=self.seed,
                budget=self.budget,
            )
        self._describe(spec, np.array(lengths))

    @property
    def fingerprint(self) -> str:
        """Names the sequences and how they are read."""
        digest = hashlib.blake2b(repr(self.vocabulary.to_dict()).encode(), digest_size=8)
        for sequence in self.sequences:
            digest.update(f"{sequence}\n".encode())
        return digest.hexdigest()

    def labels_of(self, split: str) -> NDArray[Any]:
        """All labels of a split, end to end: (n, C) or (n,)."""
        parts = [np.atleast_1d(self.labels[row]) for row in self.rows[split]]
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
        """Tokens of every sequence, special ones included; (n,)."""
        return np.array([len(tokens) for tokens in self._tokens])

    def every_row(self) -> PackLoader:
        """Batches of all sequences, each once, without labels."""
        rows = np.arange(len(self.sequences))
        data = LabelledDataset(self._tokens, rows, None, level="sequence", seed=0)
        longest = int(data.lengths().max())
        return PackLoader(data, max(self.tokens_per_batch, longest), reshuffle=False)

    def _check_lengths(self, lengths: NDArray[np.int64], max_length: int) -> None:
        longer = np.flatnonzero(lengths > max_length)
        used = np.concatenate(list(self.rows.values()))
        longer = np.intersect1d(longer, used)
        if not len(longer):
            return
        if self.too_long == "error":
            first = int(longer[0])
            raise ValueError(
                f"{self._raw.places[first]}: {self.names[first]!r} has {lengths[first]:,} tokens, "
                f"the encoder takes {max_length:,} at once ({len(longer):,} rows are longer); set "
                "data.too_long to window or drop"
            )
        if self.too_long == "window":
            logger.info(
                "%s sequences longer than %s are read in overlapping windows",
                f"{len(longer):,}",
                f"{max_length:,}",
            )
            return
        self.rows = {name: np.setdiff1d(rows, longer) for name, rows in self.rows.items()}
        logger.info(
            "%s sequences longer than %s are left out", f"{len(longer):,}", f"{max_length:,}"
        )

    def _describe(self, spec: LabelSpec, lengths: NDArray[np.int64]) -> None:
        counts = {}
        for name, rows in self.rows.items():
            if len(rows):
                own = lengths[rows]
                logger.info(
                    "%s: %s sequences of %s to %s tokens",
                    name,
                    f"{len(rows):,}",
                    f"{own.min():,}",
                    f"{own.max():,}",
                )
                lines = describe_labels([self.labels[row] for row in rows], spec)
                logger.info("  %s", "; ".join(lines))
            counts[name] = len(rows)
        self.facts["sequences"] = counts
