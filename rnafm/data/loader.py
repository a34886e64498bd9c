"""Packs as batches: sequences are sliced from stores, cropped and put end to end."""

from __future__ import annotations

import signal
from abc import abstractmethod
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from rnafm.data.batch import Batch
from rnafm.data.counter import fold, mix
from rnafm.data.cutting import Cuts
from rnafm.data.order import Order, ReadAhead, Shuffle
from rnafm.data.sampler import PackSampler

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from rnafm.data.mixture import Mixture


_CHUNK = 1 << 16  # sequences whose lengths are looked up together
_key = lru_cache(maxsize=8)(fold)  # asked for with every batch of an epoch


class Packable(Dataset[Batch]):
    """Sequences that a loader puts into packs.

    Attributes:
        order: The order of every epoch, as places in ``indices``.
        indices: Which sequences there are; int32 or int64, (n,).
    """

    order: Order
    indices: NDArray[Any]

    @abstractmethod
    def lengths(self) -> NDArray[np.integer]:
        """What each sequence takes of the budget of a pack, (n,)."""

    @abstractmethod
    def make(self, epoch: int, order: NDArray[np.int64]) -> Batch:
        """A batch of the sequences at these places of ``indices``, (b,)."""

    @cached_property
    def cuts(self) -> Cuts:
        """What cuts epochs into packs: one for all loaders, since it keeps what it has cut."""
        return Cuts(self.lengths(), self.order)

    def __getstate__(self) -> dict[str, Any]:
        """Without what a worker does not need or makes for itself."""
        return {k: value for k, value in vars(self).items() if k not in ("cuts", "_read")}

    def __getitem__(self, pack: tuple[int, int, int]) -> Batch:
        """The batch of a pack, given as (epoch, start, stop) in the epoch's order.

        An empty pack becomes a batch that counts for nothing, of the order's first sequence.
        """
        epoch, start, stop = pack
        if start == stop:
            return self.make(epoch, self.order(epoch, 0, 1))._replace(filler=True)
        return self.make(epoch, self._read(epoch, start, stop))

    @cached_property
    def _read(self) -> ReadAhead:
        return ReadAhead(self.order)


class PackDataset(Packable):
    """Makes the batch of any pack of an epoch, from the stores alone.

    Sequences longer than ``max_length`` are cropped to a window that (seed, epoch, number of the
    sequence) choose, all windows being equally likely.

    Args:
        stores: The sequences.
        indices: Which of them belong to this split; int32 or int64, (n,), ascending.
        max_length: Nucleotides (codons) that are kept of a sequence.
        order: The order of every epoch, which with its seed chooses windows and masks too; by
            default shuffled with seed 0.
    """

    def __init__(
        self,
        stores: Mixture,
        indices: NDArray[np.integer],
        max_length: int,
        order: Order | None = None,
    ) -> None:
        self.stores, self.indices, self.max_length = stores, indices, max_length
        self.order = Shuffle(len(indices), 0) if order is None else order

    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each sequence in a batch, special ones included; (n,)."""
        lengths = np.empty(len(self.indices), np.int32)
        for start, whole in self._whole():
            lengths[start : start + len(whole)] = np.minimum(whole, self.max_length) + 2
        return lengths

    def num_cropped(self) -> int:
        """How many sequences are longer than ``max_length``."""
        return sum(int((whole > self.max_length).sum()) for _, whole in self._whole())

    def _whole(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Lengths of sequences before they are cropped, in parts, each with its start."""
        for start in range(0, len(self.indices), _CHUNK):
            some = self.indices[start : start + _CHUNK].astype(np.int64)
            yield start, self.stores.places(some)[2]

    def make(self, epoch: int, order: NDArray[np.int64]) -> Batch:
        """A batch of the sequences at these places of ``indices``, (b,)."""
        again, places = np.divmod(order, len(self.indices))
        indices = self.indices[places].astype(np.int64)
        stores, begins, whole = self.stores.places(indices)
        lengths = np.minimum(whole, self.max_length)
        # Runs of equal lengths let attention without a packed kernel take them in one call.
        by_length = np.argsort(lengths, kind="stable")
        numbers = (indices + again * len(self.stores))[by_length]
        lengths = lengths[by_length]
        room = (whole[by_length] - lengths).astype(np.uint64) + np.uint64(1)
        key = np.uint64(_key(self.order.seed, epoch, 1))
        skipped = (mix(numbers.astype(np.uint64) ^ key) % room).astype(np.int64)
        cu_seqlens = np.zeros(len(lengths) + 1, np.int32)
        np.cumsum(lengths + 2, out=cu_seqlens[1:])
        windows = self.stores.windows(stores[by_length], begins[by_length] + skipped, lengths)
        vocabulary = self.stores.vocabulary
        return Batch(
            tokens=torch.from_numpy(_joined(windows, vocabulary.cls_id, vocabulary.eos_id)),
            cu_seqlens=torch.from_numpy(cu_seqlens),
            max_seqlen=int(lengths[-1]) + 2,
            indices=torch.from_numpy(numbers),
            key=_key(self.order.seed, epoch, 2),
        )


def _joined(windows: list[memoryview], cls_id: int, eos_id: int) -> NDArray[np.uint8]:
    """Sequences end to end, each between its special tokens; uint8, (N,)."""
    text = bytes([eos_id, cls_id]).join(windows)
    tokens = np.empty(len(text) + 2, np.uint8)
    tokens[0], tokens[-1] = cls_id, eos_id
    tokens[1:-1] = np.frombuffer(text, np.uint8)
    return tokens


class PackLoader:
    """Iterates over the packs of one rank; knows its length and where it stands.

    Not a torch ``DataLoader``, though it uses one: Lightning leaves it as it is, calls
    ``sampler.set_epoch`` and saves :meth:`state_dict` in every checkpoint. What it counts are the
    batches handed out here, not those that workers have prepared ahead.

    Args:
        dataset: Makes the batches.
        tokens_per_batch: Budget of a pack, in the unit of the dataset's ``lengths``.
        num_workers: Processes that prepare batches ahead; 0 prepares them when asked.
        pin_memory: Whether batches are put into pinned memory, for transfers to a GPU.
        **division: Rank, number of processes and the like: see :class:`PackSampler`.
    """

    batch_sampler = None  # Lightning looks for one wherever there is a sampler

    def __init__(
        self,
        dataset: Packable,
        tokens_per_batch: int,
        *,
        num_workers: int = 0,
        pin_memory: bool = False,
        **division: Any,
    ) -> None:
        self.dataset = dataset
        cuts = dataset.cuts
        self.sampler = PackSampler(
            cuts.lengths, tokens_per_batch, order=cuts.order, cuts=cuts, **division
        )
        self._loader = DataLoader(
            dataset,
            batch_size=None,
            sampler=self.sampler,
            num_workers=num_workers,
            pin_memory=pin_memory,
            collate_fn=_Arrays,
            persistent_workers=num_workers > 0,
            worker_init_fn=_outlive_a_signal,
        )
        self._batches = 0
        self.cut_anew = False

    def __len__(self) -> int:
        """Batches of the whole epoch."""
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the epoch that the sampler is set to, or what is left of it."""
        self._batches = self.sampler.done
        batches: Iterable[Batch | _Arrays] = self._loader
        if not self._loader.num_workers and not self._loader.pin_memory:  # it only takes time
            batches = map(self.dataset.__getitem__, self.sampler)
        for batch in batches:
            self._batches += 1
            yield batch if isinstance(batch, Batch) else batch.tensors()

    def state_dict(self) -> dict[str, Any]:
        """Where the data stand, the same on every rank."""
        return self.sampler.state(self._batches)

    def state_at(self, num_batches: int) -> dict[str, Any]:
        """Where the data stood when so many batches of the whole epoch were done."""
        sampler = self.sampler
        # A state of a complete epoch was loaded and nothing was handed out since.
        done = num_batches - sampler.skipped if sampler.left else sampler.done
        return sampler.state(done)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue behind the last batch that was handed out before the state was taken."""
        self.cut_anew = not self.sampler.load(state)
        self._batches = self.sampler.done


class _Arrays:
    """A batch on its way from a worker.

    Arrays come through the pipe in a quarter of the time of tensors, each of which would be a file
    in shared memory. No tuple, since torch would pin the parts of one by itself, but not arrays.

    Args:
        batch: The batch; its arrays share memory with it.
    """

    def __init__(self, batch: Any) -> None:  # for torch a list
        self.parts = [part.numpy() if isinstance(part, Tensor) else part for part in batch]

    def tensors(self, *, pinned: bool = False) -> Batch:
        """The batch, perhaps in pinned memory."""
        parts: list[Any] = []
        for part in self.parts:
            found = torch.from_numpy(part) if isinstance(part, np.ndarray) else part
            parts.append(found.pin_memory() if pinned and isinstance(found, Tensor) else found)
        return Batch(*parts)

    def pin_memory(self) -> Batch:
        """What torch calls, in a thread of its own where there are workers."""
        return self.tensors(pinned=True)


def _outlive_a_signal(_: int) -> None:
    """Leave it to the parent when a worker ends; torch's own handler dies of SIGTERM at once.

    A cluster sends it to all processes of a run. A second one works, in case that the parent is
    gone.
    """
    signal.signal(signal.SIGTERM, lambda number, _: signal.signal(number, signal.SIG_DFL))
