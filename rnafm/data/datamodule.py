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
        tokens_per_step: Tokens of an optimizer step on all devices together. Gradients of as many
            batches are accumulated as come nearest to it, so that a run keeps its global batch
            when the number of devices changes. Without it, ``accumulate_grad_batches`` counts.
    """

    def __init__(
        self,
        vocabulary: str = "rna",
        tokens_per_batch: int = 65_536,
        max_length: int = 1022,
        seed: int = 0,
        num_workers: int = 0,
        tokens_per_step: int | None = None,
    ) -> None:
        super().__init__()
        self.vocabulary = Vocabulary.named(vocabulary)
        self.tokens_per_batch, self.max_length = tokens_per_batch, max_length
        self.seed, self.num_workers = seed, num_workers
        self.tokens_per_step = tokens_per_step

    @property
    def budget(self) -> int:
        """What a batch may cost, in the unit of the datasets' ``lengths``."""
        return self.tokens_per_batch

    def accumulate(self, world_size: int) -> int | None:
        """Batches whose gradients make one step of ``tokens_per_step``; None where it is not set.

        Raises:
            ValueError: If one batch on every device is far more than a step.
        """
        if self.tokens_per_step is None:
            return None
        together = self.tokens_per_batch * world_size
        if together > 1.5 * self.tokens_per_step:  # what rounding allows
            raise ValueError(
                f"data.tokens_per_step ({self.tokens_per_step:,}) is less than one batch of "
                f"tokens_per_batch ({self.tokens_per_batch:,}) on each of {world_size} devices; "
                "lower tokens_per_batch, or raise tokens_per_step"
            )
        return max(1, round(self.tokens_per_step / together))

    @abstractmethod
    def splits(self) -> Mapping[str, Packable]:
        """The datasets by name: ``train``, ``val``, ``test`` or ``predict``."""

    def train_dataloader(self) -> PackLoader:
        """Batches in a new order every epoch."""
        accumulate = self.trainer.accumulate_grad_batches if self.trainer else 1
        return self._loader("train", reshuffle=True, accumulate=accumulate)

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
