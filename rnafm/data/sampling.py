"""Which sequences of a store are used for training, and how often."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.order import GroupedDraws, Order, Shuffle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rnafm.data.mixture import Mixture

_SHOWN = 8


@dataclass(frozen=True)
class Sampling:
    """Which sequences are used, and how often in an epoch. By default all of them, once.

    Every epoch draws the same number from each group (a value of the column ``by``), and the
    members of a group take turns over the epochs.

    Args:
        keep: Values of columns that are used: ``{rna_type: [tRNA, rRNA]}``.
        drop: Values of columns that are left out.
        by: The column whose groups are drawn from. ``cluster`` with ``one_each`` draws one member
            of every cluster in each epoch.
        temperature: A group of n sequences is drawn from in proportion to n to this power: 1
            leaves shares as they are, 0 makes groups equal. An epoch stays as long as it was.
        weights: Factors on the draws from single groups: ``{rRNA: 0.1}``.
        one_each: Whether each group is drawn from once in an epoch.
    """

    keep: dict[str, list[str]] = field(default_factory=dict)
    drop: dict[str, list[str]] = field(default_factory=dict)
    by: str | None = None
    temperature: float = 1.0
    weights: dict[str, float] = field(default_factory=dict)
    one_each: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.by is None and (self.temperature != 1 or self.weights or self.one_each):
            raise ValueError(
                "sampling.temperature, weights and one_each need sampling.by: the column that "
                "names the groups"
            )
        if not 0 <= self.temperature <= 1:
            raise ValueError(
                f"sampling.temperature ({self.temperature}) must lie between 0 (groups are equal) "
                "and 1 (as they are)"
            )
        if self.one_each and self.temperature != 1:
            raise ValueError("sampling.one_each leaves no room for a temperature; set one of them")
        for name, weight in self.weights.items():
            if not 0 <= weight < np.inf:
                raise ValueError(f"sampling.weights.{name} ({weight}) must be 0 or more")

    def chosen(self, stores: Mixture) -> NDArray[np.bool_]:
        """Which sequences ``keep`` and ``drop`` leave, bool (B,).

        Raises:
            ValueError: If there is no such column or value, or nothing is left.
        """
        chosen = np.ones(len(stores), np.bool_)
        for option, wanted in (("keep", self.keep), ("drop", self.drop)):
            for column, values in wanted.items():
                codes, categories = stores.column(column)
                if categories is None:
                    raise ValueError(
                        f"sampling.{option}: column {column!r} has numbers, not names; use a "
                        "column with names"
                    )
                place = f"sampling.{option}.{column}"
                among = np.isin(codes, [_code(value, categories, place) for value in values])
                chosen &= among if option == "keep" else ~among
        if not chosen.any():
            raise ValueError("sampling.keep and sampling.drop leave no sequence; loosen them")
        return chosen

    def order(
        self, stores: Mixture, indices: NDArray[np.int64], passes: Sequence[float], seed: int
    ) -> tuple[Order, list[str]]:
        """The order of epochs over some sequences.

        Args:
            stores: The sequences.
            indices: Which of them are used, (n,).
            passes: How often an epoch visits each store.
            seed: Chooses the order.

        Returns:
            The order, and lines that say what it draws.
        """
        if self.by is None and all(weight == 1 for weight in passes):
            return Shuffle(len(indices), seed), []
        store_of = stores.store_numbers[indices].astype(np.int64)
        names: list[str] | None = [""]
        groups = np.zeros(len(indices), np.int64)
        if self.by is not None:
            groups, names = stores.column(self.by)
            groups = groups[indices]
        # Groups of several stores are kept apart, so that each store has its own factor.
        _, codes = np.unique(groups + store_of * (int(groups.max()) + 1), return_inverse=True)
        first = np.zeros(int(codes.max()) + 1, np.int64)
        first[codes] = np.arange(len(codes))
        sizes = np.bincount(codes)
        factors = np.array(passes, np.float64)[store_of[first]]
        factors *= self._factors(groups[first], names)
        draws = _whole(self._shares(sizes) * factors)
        if not draws.sum():
            raise ValueError("sampling draws no sequence from any group; raise its weights")
        order = GroupedDraws(codes, draws, seed)
        return order, self._described(order, groups[first], names, draws, sizes)

    def _shares(self, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Draws from groups of these sizes."""
        if self.one_each:
            return np.ones(len(sizes))
        shares: NDArray[np.float64] = sizes.astype(np.float64) ** self.temperature
        shares *= sizes.sum() / shares.sum()
        return shares

    def _factors(
        self, groups: NDArray[np.int64], names: list[str] | None
    ) -> NDArray[np.float64] | float:
        if not self.weights:
            return 1.0
        if names is None:
            raise ValueError(f"sampling.weights: column {self.by!r} has numbers, not names")
        factors = np.ones(len(names))
        for name, weight in self.weights.items():
            factors[_code(name, names, f"sampling.weights (by {self.by})")] = weight
        found: NDArray[np.float64] = factors[groups]
        return found

    def _described(
        self,
        order: Order,
        groups: NDArray[np.int64],
        names: list[str] | None,
        draws: NDArray[np.int64],
        sizes: NDArray[np.int64],
    ) -> list[str]:
        what = f"{order.num_sequences:,} sequences in {len(sizes):,} groups"
        lines = [f"an epoch draws {order.size:,} times from {what}"]
        if self.by is None or names is None:
            return lines
        largest = np.argsort(-draws, kind="stable")
        lines += [
            f"  {names[groups[i]] or '(none)'}: {draws[i]:,} draws of {sizes[i]:,} sequences"
            for i in largest[:_SHOWN].tolist()
        ]
        return [*lines, *([f"  and {len(draws) - _SHOWN:,} more"] if len(draws) > _SHOWN else [])]


def _code(value: str, categories: Sequence[str], place: str) -> int:
    try:
        return categories.index(value)
    except ValueError as error:
        there = sorted(name for name in categories if name)
        more = f" and {len(there) - _SHOWN:,} more" if len(there) > _SHOWN else ""
        raise ValueError(
            f"{place} ({value}): no sequence has this value; there are: "
            f"{', '.join(there[:_SHOWN]) or 'none'}{more}"
        ) from error


def _whole(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Whole numbers of the same sum; the largest remainders are rounded up."""
    draws = np.floor(shares).astype(np.int64)
    missing = round(shares.sum()) - int(draws.sum())
    if missing > 0:
        draws[np.argsort(draws - shares, kind="stable")[:missing]] += 1
    return draws
