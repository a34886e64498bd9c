"""Where the packs of an epoch start: its order is cut under a token budget, from front to back."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rnafm.data.order import Order

_WINDOW = 1 << 18  # sequences planned at a time: bounds the memory of planning
_KEPT = 2  # an epoch and the first one, whose number of packs is that of all


class Cuts:
    """Cuts orders into packs, each of which takes sequences as long as they fit.

    Cutting reads the length of every sequence: 40 million take two seconds. So the last cuts are
    kept, and loaders of the same data share them.

    Args:
        lengths: Tokens of each sequence in a batch, (n,).
        order: The order of every epoch.
    """

    def __init__(self, lengths: NDArray[np.integer], order: Order) -> None:
        self.lengths, self.order = lengths, order
        self._kept: dict[tuple[int, int, int], NDArray[np.int64]] = {}

    def __call__(self, epoch: int, begin: int, budget: int) -> NDArray[np.int64]:
        """Cut what an epoch has from a place on.

        Args:
            epoch: The epoch.
            begin: First place of its order that is cut.
            budget: Tokens of a pack; no sequence alone has more.

        Returns:
            Where each pack starts in the order, and its end; int64, (P + 1,). Not to be changed.
        """
        key = (epoch, begin, budget)
        if key not in self._kept:
            starts = self._cut(*key)
            starts.flags.writeable = False
            while len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = starts
        return self._kept[key]

    @cached_property
    def moments(self) -> tuple[float, float, float]:
        """Mean of the lengths, of their squares and of their cubes."""
        sums = np.zeros(3)
        for start in range(0, len(self.lengths), _WINDOW):  # without a copy of all
            some = self.lengths[start : start + _WINDOW].astype(np.float64)
            power = some * some
            sums[:2] += some.sum(), power.sum()
            power *= some
            sums[2] += power.sum()
        mean, square, cube = (sums / len(self.lengths)).tolist()
        return mean, square, cube

    def _cut(self, epoch: int, begin: int, budget: int) -> NDArray[np.int64]:
        size, position, window = self.order.size, begin, _WINDOW
        starts = [begin]
        while position < size:
            stop = min(position + window, size)
            ends = np.cumsum(
                self.lengths[self.order.members(epoch, position, stop)], dtype=np.int64
            )
            places = _filled(ends, budget)
            if stop == size:
                places.append(len(ends))  # nothing follows: the last pack is complete
            starts += [position + place for place in places]
            window = _WINDOW if places else 2 * window  # or else a pack would have no end
            position = starts[-1]  # a pack that the window cut is planned again
        return np.array(starts, np.int64)


def _filled(ends: NDArray[np.int64], budget: int) -> list[int]:
    """Where packs end that are full, if sequences end at ``ends``."""
    places, before = [], 0
    while (place := int(ends.searchsorted(before + budget, side="right"))) < len(ends):
        places.append(place)
        before = int(ends[place - 1])
    return places
