"""Packs as batches: sequences are sliced from a store, cropped and put end to end."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from rnafm.data.batch import Batch
from rnafm.data.counter import fold, mix
from rnafm.data.sampler import PackSampler, epoch_order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from rnafm.data.store import SequenceStore


class Packable(Dataset[Batch]):
    """Sequences that a loader puts into packs.

    Attributes:
        seed: Chooses the order, with the epoch.
        indices: Which sequences there are; int64, (n,).
    """

    seed: int
    indices: NDArray[np.int64]

    @abstractmethod
    def lengths(self) -> NDArray[np.integer]:
        """What each sequence takes of the budget of a pack, (n,)."""

    @abstractmethod
    def __getitem__(self, pack: tuple[int, int, int]) -> Batch:
        """The batch of a pack, given as (epoch, start, stop) in the epoch's order."""


class PackDataset(Packable):
    """Makes the batch of any pack of an epoch, from the store alone.

    Sequences longer than ``max_length`` are cropped to a window that (seed, epoch, number of the
    sequence) choose, all windows being equally likely.

    Args:
        store: The sequences.
        indices: Which of them belong to this split; int64, (n,), ascending.
        max_length: Nucleotides (codons) that are kept of a sequence.
        seed: Chooses order, windows and masks, with the epoch.
    """

    def __init__(
        self,
        store: SequenceStore,
        indices: NDArray[np.int64],
        max_length: int,
        seed: int,
    ) -> None:
        self.store, self.indices = store, indices
        self.max_length, self.seed = max_length, seed

    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each sequence in a batch, special ones included; (n,)."""
        lengths = np.minimum(self.store.lengths[self.indices], self.max_length)
        return np.add(lengths, 2, dtype=np.int32)

    def __getitem__(self, pack: tuple[int, int, int]) -> Batch:
        """The batch of a pack, given as (epoch, start, stop) in the epoch's order."""
        epoch, start, stop = pack
        order = epoch_order(start, stop, len(self.indices), seed=self.seed, epoch=epoch)
        indices = self.indices[order]
        begins, ends = self.store.offsets[indices], self.store.offsets[indices + 1]
        lengths = np.minimum(ends - begins, self.max_length)
        # Runs of equal lengths let attention without a packed kernel take them in one call.
        by_length = np.argsort(lengths, kind="stable")
        indices, begins, ends, lengths = (
            part[by_length] for part in (indices, begins, ends, lengths)
        )
        room = (ends - begins - lengths).astype(np.uint64) + np.uint64(1)
        key = np.uint64(fold(self.seed, epoch, 1))
        begins = begins + (mix(indices.astype(np.uint64) ^ key) % room).astype(np.int64)
        return self._pack(indices, begins, lengths, key=fold(self.seed, epoch, 2))

    def _pack(
        self,
        indices: NDArray[np.int64],
        begins: NDArray[np.int64],
        lengths: NDArray[np.int64],
        key: int,
    ) -> Batch:
        cu_seqlens = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths + 2, out=cu_seqlens[1:])
        source, vocabulary = self.store.tokens, self.store.vocabulary
        cls, eos = np.array([vocabulary.cls_id, vocabulary.eos_id], np.uint8).reshape(2, 1)
        parts = []
        for begin, length in zip(begins.tolist(), lengths.tolist(), strict=True):
            parts += [cls, source[begin : begin + length], eos]
        return Batch(
            tokens=torch.from_numpy(np.concatenate(parts)),
            cu_seqlens=torch.from_numpy(cu_seqlens),
            max_seqlen=int(lengths.max()) + 2,
            indices=torch.from_numpy(indices),
            key=key,
        )


class PackLoader:
    """Iterates over the packs of one rank; knows its length and where it stands.

    Not a torch ``DataLoader``, though it uses one: Lightning leaves it as it is, calls
    ``sampler.set_epoch`` and saves :meth:`state_dict` in every checkpoint. What it counts are the
    batches handed out here, not those that workers have prepared ahead.

    Args:
        dataset: Makes the batches.
        tokens_per_batch: Budget of a pack, in the unit of the dataset's ``lengths``.
        reshuffle: Whether every epoch is different; validation is always the same.
        rank: Number of this process.
        world_size: Number of processes.
        num_workers: Processes that prepare batches ahead; 0 prepares them when asked.
        pin_memory: Whether batches are put into pinned memory, for transfers to a GPU.
    """

    batch_sampler = None  # Lightning looks for one wherever there is a sampler

    def __init__(
        self,
        dataset: Packable,
        tokens_per_batch: int,
        *,
        reshuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.dataset = dataset
        self.sampler = PackSampler(
            dataset.lengths(),
            tokens_per_batch,
            seed=dataset.seed,
            reshuffle=reshuffle,
            rank=rank,
            world_size=world_size,
        )
        self._loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=self.sampler,
            num_workers=num_workers,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
        )
        self._batches = 0

    def __len__(self) -> int:
        """Batches of the whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the epoch that the sampler is set to, or what is left of it."""
        self._batches = self.sampler.done
        for batch in self._loader:
            self._batches += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Epoch, position and length of the epoch, the same on every rank."""
        return self.sampler.state(self._batches)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue behind the last batch that was handed out before the state was taken."""
        self.sampler.load(state)
        self._batches = state["batches"]
