"""Pretraining data: any number of FASTA files, such as RNAcentral's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.datamodule import RNADataModule
from rnafm.data.loader import PackDataset
from rnafm.data.mixture import Mixture
from rnafm.data.order import Shuffle
from rnafm.data.sampling import Sampling
from rnafm.data.splits import split_by_group, split_by_hash
from rnafm.data.store import Filters, SequenceStore, build_store

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rnafm.data.vocabulary import OnUnknown

logger = logging.getLogger(__name__)

_GROUPS = ("cluster", "family", "clan")  # columns whose groups are relatives
_BLOCK = 1 << 16  # sequences that are looked at together


class RNAcentralDataModule(RNADataModule):
    """Streams FASTA(.gz) files of RNAs (or coding sequences) into packs for pretraining.

    On first use the files are read once into a store of tokens beside the first of them
    (``rnafm prepare`` does the same ahead of time). The store is reused as long as files,
    vocabulary and filters stay the same.

    Args:
        fasta: FASTA files, plain or gzip. Not needed where ``store`` names stores that are ready.
        store: Folder of the token store; by default ``<first file>.<vocabulary>.store``. Several
            stores, made by ``rnafm prepare``, are mixed: ``{a.store: 1, b.store: 0.5}``, each with
            the number of times that an epoch visits its sequences.
        val_fraction: Share of the sequences (or groups) that is held out for validation.
        split_by: ``sequence`` holds out single sequences, by their hash: fine for watching the
            loss, but relatives of most of them are in training. The name of a column of the store
            holds out whole groups, such as families, clans or clusters.
        columns: Names the columns of the header: a regular expression with named groups, applied
            to the whole header. By default ``key=value`` words are columns.
        filters: Which sequences are left out of the store.
        sampling: Which sequences of the store are used, and how often.
        on_unknown: What to do about letters that the vocabulary lacks: stop, or read ``<unk>``.
        scratch: A folder on a fast disk of each node: stores are copied there first, once per
            node, and read from there.
        **kwargs: See :class:`RNADataModule`.
    """

    def __init__(  # noqa: PLR0913  # one option each
        self,
        fasta: list[Path] | None = None,
        *,
        store: Path | dict[str, float] | None = None,
        val_fraction: float = 0.01,
        split_by: str = "sequence",
        columns: str | None = None,
        filters: Filters = Filters(),
        sampling: Sampling = Sampling(),
        on_unknown: OnUnknown = "error",
        scratch: Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction ({val_fraction}) must lie between 0 and 1")
        self.fasta = [Path(path) for path in fasta or []]
        self.stores = self._stores(store)
        self.val_fraction, self.split_by = val_fraction, split_by
        self.columns, self.filters, self.on_unknown = columns, filters, on_unknown
        self.sampling, self.scratch = sampling, scratch
        self.mixture: Mixture | None = None
        self._splits: dict[str, PackDataset] = {}

    def prepare_data(self) -> None:
        """Build the store unless it is there, verify it, copy it to scratch: once per node."""
        if self.fasta:
            build_store(
                self.fasta,
                next(iter(self.stores)),
                vocabulary=self.vocabulary,
                filters=self.filters,
                columns=self.columns,
                on_unknown=self.on_unknown,
            )
        for path in self.stores:
            SequenceStore.open(self._local(path)).verify()

    def setup(self, stage: str) -> None:
        """Open the stores and split their sequences."""
        if self.mixture is not None:
            return
        self.mixture = Mixture([SequenceStore.open(self._local(path)) for path in self.stores])
        if self.mixture.vocabulary != self.vocabulary:
            raise ValueError(
                f"{self.path}: is in the vocabulary {self.mixture.vocabulary.name!r}, "
                f"data.vocabulary is {self.vocabulary.name!r}; set it to that of the store"
            )
        for store in self.mixture.stores:
            _say_what_is_in(store)
        held_out, chosen = self._held_out(self.mixture), self.sampling.chosen(self.mixture)
        train, val = _places(chosen & ~held_out), _places(chosen & held_out)
        for name, indices in (("train", train), ("val", val)):
            if not len(indices):
                raise ValueError(
                    f"data.sampling.keep and drop leave no sequence for {name}; loosen them, or "
                    f"change val_fraction ({self.val_fraction})"
                )
        passes = list(self.stores.values())
        order, notes = self.sampling.order(self.mixture, train, passes, self.seed)
        self._splits = {
            "train": PackDataset(self.mixture, train, self.max_length, order),
            "val": PackDataset(self.mixture, val, self.max_length, Shuffle(len(val), self.seed)),
        }
        for name, dataset in self._splits.items():
            self._describe(name, dataset)
        for note in notes:
            logger.info("train: %s", note)

    @property
    def store(self) -> SequenceStore:
        """The first store."""
        assert self.mixture is not None  # noqa: S101  # opened by setup
        return self.mixture.stores[0]

    @property
    def path(self) -> Path:
        """Folder of the first store."""
        return next(iter(self.stores))

    def splits(self) -> dict[str, PackDataset]:
        """``train`` and ``val``."""
        return self._splits

    def _describe(self, name: str, dataset: PackDataset) -> None:
        """Say what a split holds and what happens to sequences that are too long."""
        lengths = dataset.cuts.lengths
        logger.info(
            "%s: %s sequences, %s tokens; %s longer than %d are cropped to a random window",
            name,
            f"{len(lengths):,}",
            f"{int(lengths.sum(dtype=np.int64)):,}",
            f"{dataset.num_cropped():,}",
            self.max_length,
        )

    def _held_out(self, mixture: Mixture) -> NDArray[np.bool_]:
        """Which sequences are for validation, (B,)."""
        if self.split_by != "sequence":
            return split_by_group(*mixture.column(self.split_by), self.val_fraction)
        columns = mixture.stores[0].columns
        groups = [name for name in _GROUPS if name in columns] or columns
        logger.info(
            "val: single sequences, by their hash. Most have relatives in training, so their loss "
            "says little about new families: for that set data.split_by to a column (%s)",
            ", ".join(groups) or "there is none",
        )
        return split_by_hash(mixture.hashes, self.val_fraction)

    def _local(self, path: Path) -> Path:
        """Where a store is read from."""
        if self.scratch is None:
            return path
        from rnafm.data.scratch import copy_store

        return copy_store(path, self.scratch)

    def _stores(self, store: Path | dict[str, float] | None) -> dict[Path, float]:
        """Folders of the stores, with their passes in an epoch."""
        if isinstance(store, dict):
            if self.fasta or not store:
                raise ValueError(
                    "data.store mixes stores that are ready: leave data.fasta out, and name at "
                    "least one; make each with: rnafm prepare"
                )
            for path, passes in store.items():
                if not 0 < passes < np.inf:
                    raise ValueError(
                        f"data.store.{path} ({passes}) must be above 0: how often an epoch visits "
                        "the sequences of this store"
                    )
            return {Path(path): float(passes) for path, passes in store.items()}
        if store is not None:
            return {Path(store): 1.0}
        if not self.fasta:
            raise ValueError("there are no data: set data.fasta, or data.store")
        first = self.fasta[0]
        return {first.with_name(f"{first.name}.{self.vocabulary.name}.store"): 1.0}


def _places(chosen: NDArray[np.bool_]) -> NDArray[Any]:
    """Where something is chosen; int32, half the memory of int64, wherever that can say it."""
    kind = np.int32 if len(chosen) <= np.iinfo(np.int32).max else np.int64
    places, end = np.empty(np.count_nonzero(chosen), kind), 0
    for start in range(0, len(chosen), _BLOCK):  # int64 of all would take longer than the search
        found = np.flatnonzero(chosen[start : start + _BLOCK]) + start
        places[end : end + len(found)] = found
        end += len(found)
    return places


def _say_what_is_in(store: SequenceStore) -> None:
    """How many sequences a store has, and why it has no more."""
    counts = dict(store.info["counts"])
    read, kept = counts.pop("read"), counts.pop("kept")
    left_out = ", ".join(f"{number:,} {rule}" for rule, number in counts.items() if number)
    logger.info(
        "%s: %s of %s sequences; left out: %s",
        store.path,
        f"{kept:,}",
        f"{read:,}",
        left_out or "none",
    )
