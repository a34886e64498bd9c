"""The base of all data modules."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

from rnafm.data.loader import Packable, PackLoader
from rnafm.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping


class RNADataModule(pl.LightningDataModule):
    """Gives a task its batches; a subclass says what the splits hold.

    Args:
        vocabulary: Name of the vocabulary that sequences are read with: ``rna``, ``rna-28``,
            ``official-rna``, ``codon`` or ``official-codon``. The task's must be the same.
        tokens_per_batch: Budget of a batch on one device, special tokens included.
        max_length: Nucleotides (codons) of a sequence that fit into the model.
        seed: Chooses order, crop windows and masks, with the epoch.
        num_workers: Processes that prepare batches ahead; 0 or 1 feeds any device.
    """

    def __init__(
        self,
        vocabulary: str = "rna",
        tokens_per_batch: int = 65_536,
        max_length: int = 1022,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.vocabulary = Vocabulary.named(vocabulary)
        self.tokens_per_batch, self.max_length = tokens_per_batch, max_length
        self.seed, self.num_workers = seed, num_workers

    @property
    def budget(self) -> int:
        """What a batch may cost, in the unit of the datasets' ``lengths``."""
        return self.tokens_per_batch

    @abstractmethod
    def splits(self) -> Mapping[str, Packable]:
        """The datasets by name: ``train``, ``val``, ``test`` or ``predict``."""

    def train_dataloader(self) -> PackLoader:
        """Batches in a new order every epoch."""
        return self._loader("train", reshuffle=True)

    def val_dataloader(self) -> PackLoader:
        """The same batches every time."""
        return self._loader("val")

    def test_dataloader(self) -> PackLoader:
        """The same batches every time."""
        return self._loader("test")

    def predict_dataloader(self) -> PackLoader:
        """The same batches every time."""
        return self._loader("predict")

    def _loader(self, split: str, **options: Any) -> PackLoader:
        splits = self.splits()
        if split not in splits:
            raise ValueError(
                f"{type(self).__name__} has no {split!r} split (it has: {', '.join(splits)})"
            )
        trainer = self.trainer
        return PackLoader(
            splits[split],
            self.budget,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
            **{"reshuffle": False, **options},
        )
