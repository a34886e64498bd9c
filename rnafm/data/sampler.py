"""Which sequences go into which batch: packs under a token budget.

The order of an epoch is a permutation of all sequences, cut into packs from front to back: a pack
takes sequences as long as they fit. Both are pure functions of (seed, epoch, lengths), computed
without a list of the permutation, so 40 million sequences cost no memory and a few seconds.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.counter import fold, mix

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_ROUNDS = 6
_WINDOW = 1 << 20  # sequences planned at a time: bounds the memory of planning


def permute(positions: NDArray[np.uint64], size: int, key: int) -> NDArray[np.uint64]:
    """Where a keyed permutation of ``range(size)`` sends the given positions.

    A Feistel network over the next power of two, walked until the result lies inside the range
    (Black and Rogaway 2002, doi:10.1007/3-540-45760-7_9): any part of the permutation can be
    computed alone.

    Args:
        positions: Numbers below ``size``; uint64, (n,).
        size: Length of the permutation.
        key: Chooses the permutation.

    Returns:
        Distinct numbers below ``size``; uint64, (n,).
    """
    bits = max(2, (size - 1).bit_length())
    result = _feistel(positions, bits, key)
    outside = np.flatnonzero(result >= size)
    while outside.size:
        result[outside] = _feistel(result[outside], bits, key)
        outside = outside[result[outside] >= size]
    return result


def _feistel(values: NDArray[np.uint64], bits: int, key: int) -> NDArray[np.uint64]:
    low_bits = np.uint64(bits // 2)
    low_mask = np.uint64((1 << (bits // 2)) - 1)
    high_mask = np.uint64((1 << (bits - bits // 2)) - 1)
    high, low = values >> low_bits, values & low_mask
    for turn in range(_ROUNDS):
        turn_key = np.uint64(fold(key, turn))
        if turn % 2:
            low = low ^ (mix(high ^ turn_key) & low_mask)
        else:
            high = high ^ (mix(low ^ turn_key) & high_mask)
    return (high << low_bits) | low


class PackSampler:
    """The packs of one rank, epoch after epoch, as ranges of the epoch's order.

    All ranks and all epochs have the same number of packs, because Lightning asks for it only once.
    Filling packs from front to back takes a few more of them in one order than in another, so the
    last packs are cut in two until the fixed number is reached: no sequence is dropped or repeated.
    Rank r takes packs r, r + W, r + 2 W, ...

    Args:
        lengths: Tokens of each sequence in a batch, special tokens included; (n,).
        tokens_per_batch: No pack holds more tokens than this.
        seed: Chooses the order, with the epoch.
        reshuffle: Whether every epoch has an order of its own; if not, all have that of epoch 0.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        ValueError: If there is no sequence, one alone is longer than a pack, or there are fewer
            sequences than processes.
    """

    def __init__(
        self,
        lengths: NDArray[np.integer],
        tokens_per_batch: int,
        *,
        seed: int = 0,
        reshuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not len(lengths):
            raise ValueError("there is no sequence to make batches of")
        if (longest := int(lengths.max())) > tokens_per_batch:
            raise ValueError(
                f"tokens_per_batch ({tokens_per_batch}) is below the longest sequence "
                f"({longest} tokens with its two special ones); raise it, or lower max_length"
            )
        self.lengths, self.tokens_per_batch = lengths, tokens_per_batch
        self.seed, self.reshuffle = seed, reshuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = self.done = 0

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, or stay where a loaded state left that epoch."""
        if self.reshuffle and epoch != self.epoch:
            self.epoch, self.done = epoch, 0

    def state(self, batches: int) -> dict[str, int]:
        """Where the data stand, the same on every rank, and what they are.

        Args:
            batches: Packs that this rank has handed out in the epoch.
        """
        return {"epoch": self.epoch, "batches": batches, "length": len(self), **self._identity}

    def load(self, state: dict[str, int]) -> None:
        """Continue with the packs that a :meth:`state` has left of its epoch.

        Raises:
            ValueError: If the state is of other data, or they are divided otherwise.
        """
        for name, value in self._identity.items():
            if state.get(name) != value:
                raise ValueError(
                    f"the checkpoint was made with {name} {state.get(name)}, this run has {value}: "
                    "it cannot go on at the same place; continue with the same data, devices and "
                    "tokens_per_batch, or start a new run from the weights with --model.checkpoint"
                )
        self.epoch, self.done = state["epoch"], state["batches"]

    def order(self, start: int, stop: int) -> NDArray[np.int64]:
        """Numbers of the sequences at these places of the epoch's order."""
        return epoch_order(start, stop, len(self.lengths), seed=self.seed, epoch=self.epoch)

    @cached_property
    def _identity(self) -> dict[str, int]:
        """What makes a place in the data mean the same."""
        return {
            "sequences": len(self.lengths),
            "tokens": int(self.lengths.sum()),
            "seed": self.seed,
            "tokens_per_batch": self.tokens_per_batch,
            "world_size": self.world_size,
        }

    @cached_property
    def num_packs(self) -> int:
        """Packs of all ranks in any epoch.

        That of epoch 0 and a margin of six standard deviations: what a pack leaves free is uniform
        below the next sequence's length, which is drawn in proportion to itself.
        """
        packs = len(self._cut(0, self.tokens_per_batch)) - 1
        lengths = self.lengths.astype(np.float64)
        mean = lengths.mean()
        variance = (lengths**3).mean() / (3 * mean) - ((lengths**2).mean() / (2 * mean)) ** 2
        margin = math.ceil(6 * math.sqrt(packs * max(variance, 0.0)) / self.tokens_per_batch)
        wanted = packs + margin if self.reshuffle else packs
        most = len(self.lengths) // self.world_size * self.world_size
        if most < packs:
            raise ValueError(
                f"{len(self.lengths)} sequences cannot be cut into equally many batches for each "
                f"of {self.world_size} devices; use fewer devices or more sequences"
            )
        return min(math.ceil(wanted / self.world_size) * self.world_size, most)

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where the packs of all ranks start in the epoch's order, and its end; (P + 1,)."""
        if self._planned != self.epoch:
            budget = self.tokens_per_batch
            while len(starts := self._cut(self.epoch, budget)) - 1 > self.num_packs:
                budget += int(self.lengths.max())  # six standard deviations away
            self._starts, self._planned = _split(starts, self.num_packs), self.epoch
        return self._starts

    _planned = -1  # the epoch whose packs are at hand

    def __len__(self) -> int:
        """Packs of this rank in an epoch, those before a loaded state included."""
        return self.num_packs // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """The packs that are left, each as (epoch, start, stop) in the epoch's order."""
        starts, epoch = self.starts, self.epoch
        for pack in range(self.done * self.world_size + self.rank, self.num_packs, self.world_size):
            yield epoch, int(starts[pack]), int(starts[pack + 1])

    def _cut(self, epoch: int, budget: int) -> NDArray[np.int64]:
        """Fill packs from front to back, one window of the order at a time; (P + 1,)."""
        size, position = len(self.lengths), 0
        starts = [np.zeros(1, np.int64)]
        while position < size:
            stop = min(position + _WINDOW, size)
            order = epoch_order(position, stop, size, seed=self.seed, epoch=epoch)
            ends = np.cumsum(self.lengths[order], dtype=np.int64)
            limits = np.concatenate([[0], ends[:-1]]) + budget
            following = np.searchsorted(ends, limits, side="right").tolist()
            cuts, place = [], 0
            while (place := following[place]) < len(following):
                cuts.append(place)
            if stop == size:
                cuts.append(len(following))  # nothing follows: the last pack is complete
            starts.append(np.array(cuts, np.int64) + position)
            position = int(starts[-1][-1])  # a pack that the window cut is planned again
        return np.concatenate(starts)


def epoch_order(start: int, stop: int, size: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """Numbers of the sequences at some places of an epoch's order; int64, (stop - start,).

    Args:
        start: First place.
        stop: Place after the last one.
        size: Number of sequences.
        seed: Chooses the order, with the epoch.
        epoch: The epoch.
    """
    positions = np.arange(start, stop, dtype=np.uint64)
    return permute(positions, size, fold(seed, epoch)).astype(np.int64)


def _split(starts: NDArray[np.int64], num_packs: int) -> NDArray[np.int64]:
    """Cut packs in two, from the last one on, until there are as many as asked for."""
    while (missing := num_packs - (len(starts) - 1)) > 0:
        sizes = np.diff(starts)
        splittable = np.flatnonzero(sizes > 1)[-missing:]
        middles = starts[splittable] + sizes[splittable] // 2
        starts = np.sort(np.concatenate([starts, middles]))
    return starts
