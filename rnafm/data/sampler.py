"""Which sequences go into which batch: packs under a token budget.

The order of an epoch is cut into packs from front to back: a pack takes sequences as long as they
fit. So what was trained is always the beginning of the order, whatever the number of processes and
the size of packs: a run can go on with others of both, and no sequence is lost or repeated.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rnafm.data.cutting import Cuts
from rnafm.data.order import Order, Shuffle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_DIVISION = ("tokens_per_batch", "world_size", "accumulate")


class _Segment(NamedTuple):
    """A part of an epoch that is cut into packs in one way.

    Attributes:
        epoch: The epoch.
        begin: First place of its order.
        num_packs: Packs of all ranks.
    """

    epoch: int
    begin: int
    num_packs: int


class PackSampler:
    """The packs of one rank, epoch after epoch, as ranges of the epoch's order.

    All ranks and all epochs have the same number of packs, because Lightning asks for it only once,
    and every optimizer step has the same number of them. Filling packs from front to back takes a
    few more of them in one order than in another, so the last packs are cut in two until the fixed
    number is reached, and where there are not enough sequences for that, empty packs follow. No
    sequence is dropped or repeated. Rank r takes packs r, r + W, r + 2 W, ...

    Args:
        lengths: Tokens of each sequence in a batch, special tokens included; (n,).
        tokens_per_batch: No pack holds more tokens than this.
        order: The order of every epoch; by default shuffled with seed 0.
        reshuffle: Whether every epoch has an order of its own; if not, all have that of epoch 0.
        rank: Number of this process.
        world_size: Number of processes.
        accumulate: Packs of a process that make one optimizer step.
        cuts: Of the same lengths and order, where other samplers have made some already.

    Raises:
        ValueError: If there is no sequence, or one alone is longer than a pack.
    """

    def __init__(
        self,
        lengths: NDArray[np.integer],
        tokens_per_batch: int,
        *,
        order: Order | None = None,
        reshuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
        accumulate: int = 1,
        cuts: Cuts | None = None,
    ) -> None:
        if not len(lengths):
            raise ValueError("there is no sequence to make batches of")
        if (longest := int(lengths.max())) > tokens_per_batch:
            raise ValueError(
                f"tokens_per_batch ({tokens_per_batch}) is below the longest sequence "
                f"({longest} tokens with its two special ones); raise it, or lower max_length"
            )
        self.lengths, self.tokens_per_batch = lengths, tokens_per_batch
        self.order = Shuffle(len(lengths), 0) if order is None else order
        self._cut = Cuts(lengths, self.order) if cuts is None else cuts
        self.reshuffle, self.rank = reshuffle, rank
        self.world_size, self.accumulate = world_size, accumulate
        self.epoch = self.done = 0
        self._begun: _Segment | None = None  # what a loaded state left; None: whole epochs

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, or stay where a loaded state left that epoch."""
        if self.reshuffle and epoch != self.epoch:
            self.epoch, self.done, self._begun = epoch, 0, None

    def state(self, batches: int) -> dict[str, int]:
        """Where the data stand, the same on every rank, and what they are.

        Args:
            batches: Packs that this rank has handed out of the epoch, or of what was left of it
                when a state was loaded.
        """
        return {
            **self._identity,
            **{name: getattr(self, name) for name in _DIVISION},
            **self._segment._asdict(),
            "batches": batches,
            "position": int(self.starts[batches * self.world_size]),
        }

    def load(self, state: dict[str, int]) -> bool:
        """Continue with exactly the sequences that a :meth:`state` has left of its epoch.

        Returns:
            Whether what is left is cut into packs as it was, so that the run goes on bit for bit;
            if not, world size or budget has changed and what is left is cut anew.

        Raises:
            ValueError: If the state is of other data, or ordered otherwise.
        """
        for name, value in self._identity.items():
            if state.get(name) != value:
                raise ValueError(
                    f"the checkpoint was made with {name} {state.get(name)}, this run has {value}: "
                    "it cannot go on at the same place; continue with the same data and settings "
                    "of data, or start a new run from the weights with --model.checkpoint"
                )
        same = all(state.get(name) == getattr(self, name) for name in _DIVISION)
        self.epoch = state["epoch"]
        if same or state["position"] == self.order.size:
            self._begun = _Segment(*(state[name] for name in _Segment._fields))
            self.done = state["batches"]
            if not same:  # nothing is left to be cut
                self._begun = _Segment(self.epoch, self.order.size, 0)
                self.done = 0
            return same
        self.done, begin = 0, state["position"]
        packs = len(self._cut(self.epoch, begin, self.tokens_per_batch)) - 1
        self._begun = _Segment(self.epoch, begin, self._rounded(packs))
        return False

    @property
    def left(self) -> int:
        """Packs of this rank that are left of the epoch."""
        return self._segment.num_packs // self.world_size - self.done

    @property
    def skipped(self) -> int:
        """Packs of this rank that a whole epoch has more than the segment at hand."""
        return len(self) - self._segment.num_packs // self.world_size

    @cached_property
    def num_packs(self) -> int:
        """Packs of all ranks in any epoch.

        That of epoch 0 and a margin of six standard deviations: what a pack leaves free is uniform
        below the next sequence's length, which is drawn in proportion to itself. Where an epoch
        does not visit every sequence once, its total differs too.
        """
        packs = len(self._cut(0, 0, self.tokens_per_batch)) - 1
        if not self.reshuffle:
            return self._rounded(packs)
        mean, square, cube = self._cut.moments
        free = packs * max(cube / (3 * mean) - (square / (2 * mean)) ** 2, 0.0)
        same = isinstance(self.order, Shuffle)
        drawn = 0.0 if same else 2 * self.order.size * max(square - mean**2, 0.0)
        margin = math.ceil(6 * math.sqrt(free + drawn) / self.tokens_per_batch)
        return self._rounded(min(packs + margin, self.order.size))

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where the segment's packs start in the epoch's order, and its end; (P + 1,)."""
        segment = self._segment
        if self._planned != segment:
            budget = self.tokens_per_batch
            while len(starts := self._cut(*segment[:2], budget)) - 1 > segment.num_packs:
                budget += int(self.lengths.max())  # six standard deviations away
            self._starts, self._planned = _split(starts, segment.num_packs), segment
        return self._starts

    _planned: _Segment | None = None  # the segment whose packs are at hand

    def __len__(self) -> int:
        """Packs of this rank in a whole epoch."""
        return self.num_packs // self.world_size

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """The packs that are left, each as (epoch, start, stop) in the epoch's order."""
        starts, epoch, end = self.starts, self.epoch, self._segment.num_packs
        for pack in range(self.done * self.world_size + self.rank, end, self.world_size):
            yield epoch, int(starts[pack]), int(starts[pack + 1])

    @property
    def _segment(self) -> _Segment:
        return self._begun or _Segment(self.epoch, 0, self.num_packs)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What makes a place in the order mean the same."""
        return {
            "sequences": len(self.lengths),
            "tokens": int(self.lengths.sum()),
            "seed": self.order.seed,
            "draws": self.order.size,
            "sampling": self.order.identity,
        }

    def _rounded(self, num_packs: int) -> int:
        """As many or a few more: the same number for every rank, and whole optimizer steps."""
        step = self.world_size * self.accumulate
        return math.ceil(num_packs / step) * step


def _split(starts: NDArray[np.int64], num_packs: int) -> NDArray[np.int64]:
    """Cut packs in two, from the last one on, until there are as many as asked for.

    Empty packs make up for what is missing once every pack holds one sequence.
    """
    while (missing := num_packs - (len(starts) - 1)) > 0:
        sizes = np.diff(starts)
        splittable = np.flatnonzero(sizes > 1)[-missing:]
        if not len(splittable):
            return np.concatenate([starts, np.full(missing, starts[-1])])
        middles = starts[splittable] + sizes[splittable] // 2
        starts = np.sort(np.concatenate([starts, middles]))
    return starts
