"""Pretraining data: any number of FASTA files, such as RNAcentral's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.datamodule import RNADataModule
from rnafm.data.loader import PackDataset
from rnafm.data.splits import split_by_group, split_by_hash
from rnafm.data.store import Filters, SequenceStore, build_store

if TYPE_CHECKING:
    from rnafm.data.vocabulary import OnUnknown

logger = logging.getLogger(__name__)


class RNAcentralDataModule(RNADataModule):
    """Streams FASTA(.gz) files of RNAs (or coding sequences) into packs for pretraining.

    On first use the files are read once into a store of tokens beside the first of them
    (``rnafm prepare`` does the same ahead of time). The store is reused as long as files,
    vocabulary and filters stay the same.

    Args:
        fasta: FASTA files, plain or gzip.
        store: Folder of the token store; by default ``<first file>.<vocabulary>.store``.
        val_fraction: Share of the sequences (or groups) that is held out for validation.
        split_by: ``sequence`` holds out single sequences, by their hash: fine for watching the
            loss, but relatives of most of them are in training. The name of a header column holds
            out whole groups, such as families or types.
        columns: Names the columns of the header: a regular expression with named groups, applied
            to the whole header. By default ``key=value`` words are columns.
        filters: Which sequences are left out.
        on_unknown: What to do about letters that the vocabulary lacks: stop, or read ``<unk>``.
        **kwargs: See :class:`RNADataModule`.
    """

    def __init__(
        self,
        fasta: list[Path],
        *,
        store: Path | None = None,
        val_fraction: float = 0.01,
        split_by: str = "sequence",
        columns: str | None = None,
        filters: Filters = Filters(),
        on_unknown: OnUnknown = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction ({val_fraction}) must lie between 0 and 1")
        self.fasta = [Path(path) for path in fasta]
        default = self.fasta[0].with_name(f"{self.fasta[0].name}.{self.vocabulary.name}.store")
        self.path = default if store is None else Path(store)
        self.val_fraction, self.split_by = val_fraction, split_by
        self.columns, self.filters, self.on_unknown = columns, filters, on_unknown
        self.store: SequenceStore | None = None
        self._splits: dict[str, PackDataset] = {}

    def prepare_data(self) -> None:
        """Build the store unless it is there: once per node."""
        build_store(
            self.fasta,
            self.path,
            vocabulary=self.vocabulary,
            filters=self.filters,
            columns=self.columns,
            on_unknown=self.on_unknown,
        )

    def setup(self, stage: str) -> None:
        """Open the store and split it."""
        if self.store is not None:
            return
        self.store = SequenceStore.open(self.path)
        counts = dict(self.store.info["counts"])
        read, kept = counts.pop("read"), counts.pop("kept")
        left_out = ", ".join(f"{number:,} {rule}" for rule, number in counts.items() if number)
        logger.info(
            "%s: %s of %s sequences; left out: %s",
            self.path,
            f"{kept:,}",
            f"{read:,}",
            left_out or "none",
        )
        if self.split_by == "sequence":
            held_out = split_by_hash(self.store.hashes, self.val_fraction)
        else:
            held_out = split_by_group(*self.store.column(self.split_by), self.val_fraction)
        for name, chosen in (("train", ~held_out), ("val", held_out)):
            self._splits[name] = PackDataset(
                self.store, np.flatnonzero(chosen), self.max_length, self.seed
            )
            self._describe(name, self._splits[name])

    def splits(self) -> dict[str, PackDataset]:
        """``train`` and ``val``."""
        return self._splits

    def _describe(self, name: str, dataset: PackDataset) -> None:
        """Say what a split holds and what happens to sequences that are too long."""
        lengths = dataset.store.lengths[dataset.indices]
        longer = int((lengths > self.max_length).sum())
        logger.info(
            "%s: %s sequences, %s tokens; %s longer than %d are cropped to a random window",
            name,
            f"{len(lengths):,}",
            f"{int(dataset.lengths().sum()):,}",
            f"{longer:,}",
            self.max_length,
        )
