"""Units of rows that stay together, and how they are held out or dealt to folds."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from rnafm.data.clusters import cluster
from rnafm.data.counter import finalise, fold
from rnafm.data.filters import sequence_digests
from rnafm.data.splits import split_by_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rnafm.data.clusters import ClusterMethod


class Units(NamedTuple):
    """What may not be torn apart. A unit's hash depends on nothing but the unit."""

    codes: NDArray[np.int64]
    """Unit of each row; -1 for rows that are always for training."""
    hashes: NDArray[np.uint64]
    """Of each unit."""
    what: str
    """What a message calls them."""


def sequence_units(sequences: Sequence[str]) -> Units:
    """Equal sequences; case does not matter, and T is U."""
    hashes, codes = np.unique(sequence_digests(sequences)[0], return_inverse=True)
    return Units(codes, hashes, "sequences")


def group_units(values: Sequence[str]) -> Units:
    """Rows with the same text in a column; those with an empty one belong to no unit."""
    names, codes = np.unique(np.array(values, np.str_), return_inverse=True)
    hashes = np.array([xxhash.xxh3_64_intdigest(name.encode()) for name in names], np.uint64)
    return Units(np.where(names[codes] == "", -1, codes), hashes, "groups")


def cluster_units(
    sequences: Sequence[str], identity: float, method: ClusterMethod
) -> tuple[Units, str]:
    """Clusters, each known by the lowest hash of its sequences; and what found them."""
    found = cluster(sequences, identity, method)
    hashes = np.full(found.labels.max() + 1, np.iinfo(np.uint64).max)
    np.minimum.at(hashes, found.labels, sequence_digests(sequences)[0])
    return Units(found.labels, hashes, "clusters"), found.method


def fold_of_rows(units: Units, folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each row, -1 for rows without a unit.

    Each unit goes to the fold that is smallest so far, in the order of hashes: so no fold is larger
    than another one by more than the largest unit.

    Raises:
        ValueError: If there are fewer units than folds.
    """
    sizes = _sizes(units, units.codes >= 0)
    order = _order(units, sizes, fold(seed))
    if len(order) < folds:
        raise ValueError(
            f"split.folds ({folds}): there are only {len(order)} {units.what}; use fewer folds"
        )
    fold_of_unit = np.full(len(sizes) + 1, -1)  # the last is for rows without one
    smallest = [(0, number) for number in range(folds)]
    for unit in order.tolist():
        size, number = smallest[0]
        fold_of_unit[unit] = number
        heapq.heapreplace(smallest, (size + int(sizes[unit]), number))
    return fold_of_unit[units.codes]


def hold_out(
    units: Units, among: NDArray[np.bool_], share: float, side: str, seed: int
) -> NDArray[np.bool_]:
    """Hold out about a share of some rows.

    A sequence is held out by its own hash alone. Groups and clusters are taken in the order of
    their hashes wherever this brings the share nearer: the share of few, uneven groups would
    otherwise be anything. At least one is taken, and one is left.

    Args:
        units: Units of all rows.
        among: The rows to choose from.
        share: Share of these, 0 for none.
        side: What they are held out for.
        seed: Another number gives other rows.

    Raises:
        ValueError: If nothing would be held out, or nothing left.
    """
    held_out = np.zeros(len(among), np.bool_)
    if not share:
        return held_out
    if units.what == "sequences":
        try:
            hashes = units.hashes[units.codes[among]]
            held_out[among] = split_by_hash(hashes, share, f"{side} {seed}")
        except ValueError as error:
            raise ValueError(f"split.{side}: {error}") from None
        return held_out
    inside = among & (units.codes >= 0)
    sizes = _sizes(units, inside)
    order = _order(units, sizes, fold(seed, *side.encode()))
    if len(order) < 2:  # noqa: PLR2004  # one for each side
        raise ValueError(
            f"split.{side} ({share:.3g}): too few {units.what}, {len(order)} to choose from; set "
            f"split.{side}: 0, or use more {units.what}"
        )
    target, taken, total = share * np.count_nonzero(among), [], 0
    for unit in order.tolist():
        if total + sizes[unit] / 2 <= target:
            taken.append(unit)
            total += sizes[unit]
    taken = taken[: len(order) - 1] or [int(order[np.argmin(sizes[order])])]
    held_out[inside] = np.isin(units.codes[inside], taken)
    return held_out


def _sizes(units: Units, among: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.bincount(units.codes[among], minlength=len(units.hashes))


def _order(units: Units, sizes: NDArray[np.int64], salt: int) -> NDArray[np.int64]:
    """The units that have rows, as their salted hashes order them."""
    there = np.flatnonzero(sizes)
    return there[np.argsort(finalise(units.hashes[there] ^ np.uint64(salt)), kind="stable")]
