"""In which order an epoch visits sequences: pure functions of (seed, epoch, place).

No list of the order is kept: any part of it is computed alone, so 40 million sequences cost no
memory, and every process and worker sees the same order.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.counter import fold, mix

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ROUNDS = 6
_BLOCK = 1 << 15  # positions that are walked together: what fits into a core's cache
_NEAR = 8  # parts of the order that may lie between two that one process reads
_PRIMES = np.array([2147483647, 2147483629, 2147483587, 2147483579, 2147483563], np.int64)
_LARGEST = 2_147_483_562  # of a group: below the primes, so that each steps through all members


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
    rounds = _rounds(bits, key)
    result = positions.astype(np.int64)
    for start in range(0, len(result), _BLOCK):
        block = result[start : start + _BLOCK]
        block[:] = _feistel(block, bits, rounds)
        outside = np.flatnonzero(block >= size)
        while outside.size:
            again = _feistel(block[outside], bits, rounds)
            block[outside] = again
            outside = outside[again >= size]
    return result.view(np.uint64)


@lru_cache(maxsize=4)
def _rounds(bits: int, key: int) -> tuple[NDArray[np.int64], ...]:
    """The round functions as tables: half a number has few values, 8,192 for 40 million."""
    tables = []
    for turn in range(_ROUNDS):
        size, other = bits // 2, bits - bits // 2
        if turn % 2:
            size, other = other, size
        values = np.arange(1 << size, dtype=np.uint64)
        mixed = mix(values ^ np.uint64(fold(key, turn))) & np.uint64((1 << other) - 1)
        tables.append(mixed.view(np.int64))
    return tuple(tables)


def _feistel(
    values: NDArray[np.int64], bits: int, rounds: tuple[NDArray[np.int64], ...]
) -> NDArray[np.int64]:
    low_bits = bits // 2
    high, low = values >> low_bits, values & ((1 << low_bits) - 1)
    for turn, table in enumerate(rounds):
        if turn % 2:
            low ^= table[high]
        else:
            high ^= table[low]
    high <<= low_bits
    high |= low
    return high


_key = lru_cache(maxsize=4)(fold)  # asked for with every pack of an epoch


class Order(ABC):
    """The order of every epoch.

    Args:
        num_sequences: How many sequences there are to choose from.
        size: Places in an epoch.
        seed: Chooses the order, with the epoch.
    """

    def __init__(self, num_sequences: int, size: int, seed: int) -> None:
        self.num_sequences, self.size, self.seed = num_sequences, size, seed

    def __call__(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """What stands at places of an epoch's order: numbers of sequences; int64, (stop - start,).

        Where an epoch may visit a sequence again, multiples of ``num_sequences`` are added to its
        number, so that it gets other crops and masks; ``% num_sequences`` undoes that.
        """
        positions = np.arange(start, stop, dtype=np.uint64)
        places = permute(positions, self.size, _key(self.seed, epoch)).view(np.int64)
        return self._draw(epoch, places)

    def members(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """The same numbers of sequences without what is added where one comes again."""
        return self(epoch, start, stop) % self.num_sequences

    @abstractmethod
    def _draw(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The sequences of some of the epoch's draws."""

    @property
    @abstractmethod
    def identity(self) -> int:
        """What tells this order from others of the same seed and size."""


class Shuffle(Order):
    """Every sequence once in every epoch."""

    def __init__(self, num_sequences: int, seed: int) -> None:
        super().__init__(num_sequences, num_sequences, seed)

    def members(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """The order itself: no sequence comes again."""
        return self(epoch, start, stop)

    def _draw(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        return places

    @property
    def identity(self) -> int:
        """None of its own."""
        return 0


class GroupedDraws(Order):
    """Every epoch draws a fixed number of sequences from each group.

    A group's members take turns: none is drawn again before all others were, over the epochs too.
    So one draw from each of many clusters shows another member in every epoch, and rare groups are
    repeated evenly.

    Args:
        codes: Group of each sequence, numbers from 0; int, (n,).
        draws: Draws from each group in an epoch; int, (G,). 0 leaves a group out.
        seed: Chooses the order, with the epoch.

    Raises:
        ValueError: If nothing would be drawn.
    """

    def __init__(self, codes: NDArray[np.integer], draws: NDArray[np.integer], seed: int) -> None:
        sizes = np.bincount(codes, minlength=len(draws))
        self._draws = np.where(sizes > 0, draws, 0).astype(np.int64)
        super().__init__(len(codes), int(self._draws.sum()), seed)
        if not self.size:
            raise ValueError("sampling draws no sequence from any group; raise its weights")
        if sizes.max() > _LARGEST:
            raise ValueError(
                f"a group of {sizes.max():,} sequences is larger than {_LARGEST:,}; divide it"
            )
        self._sizes = sizes
        # Half the memory of the 64 bits that argsort gives: 160 MB for 40 million.
        small = np.int32 if len(codes) <= np.iinfo(np.int32).max else np.int64
        self._members = np.argsort(codes, kind="stable").astype(small)
        self._starts = np.cumsum(sizes) - sizes
        self._ends = np.cumsum(self._draws)

    def _draw(self, epoch: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        groups = np.searchsorted(self._ends, places, side="right")
        draws, sizes = self._draws[groups], self._sizes[groups]
        turn = epoch * draws + places - (self._ends[groups] - draws)
        round_, place = np.divmod(turn, sizes)
        # In every round a group's members come in another order: steps of a prime from a start.
        keys = mix(mix(groups.astype(np.uint64) ^ np.uint64(fold(self.seed, 3))) + _bits(round_))
        step = _PRIMES[(keys >> np.uint64(40)) % np.uint64(len(_PRIMES))] % sizes
        member = (place * step + (keys % _bits(sizes)).astype(np.int64)) % sizes
        again = round_ - epoch * draws // sizes
        drawn: NDArray[np.int64] = self._members[self._starts[groups] + member].astype(np.int64)
        drawn += again * self.num_sequences
        return drawn

    @property
    def identity(self) -> int:
        """A hash of the groups' sizes and draws."""
        parts = _bits(np.concatenate([self._draws, self._sizes]))
        places = np.arange(len(parts), dtype=np.uint64)
        return fold(int(mix(mix(parts) + places).sum()))


class ReadAhead:
    """An order that is read forwards in small parts: it is computed in larger ones.

    Args:
        order: The order, of which this changes nothing.
    """

    def __init__(self, order: Order) -> None:
        self.order = order
        self._epoch, self._start, self._last = 0, 0, 0
        self._read = np.empty(0, np.int64)

    def __call__(self, epoch: int, start: int, stop: int) -> NDArray[np.int64]:
        """The same as that of the order; not to be changed."""
        begin, last, forwards = start - self._start, self._last, epoch == self._epoch
        self._epoch, self._last = epoch, stop
        if forwards and begin >= 0 and begin + stop - start <= len(self._read):
            return self._read[begin : begin + stop - start]
        # Of many processes each would compute all that the others read.
        near = forwards and 0 <= start - last <= _NEAR * (stop - start)
        end = min(max(stop, start + _BLOCK), self.order.size) if near else stop
        self._read, self._start = self.order(epoch, start, end), start
        return self._read[: stop - start]


def _bits(values: NDArray[np.int64]) -> NDArray[np.uint64]:
    return values.astype(np.uint64)
