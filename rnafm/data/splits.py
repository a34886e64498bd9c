"""Splits that are the same on every machine: by the hash of a sequence or of its group."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.counter import finalise, mix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BLOCK = 16_384  # hashes that stay in the cache of a core


def split_by_hash(hashes: NDArray[np.uint64], fraction: float, salt: str = "") -> NDArray[np.bool_]:
    """Hold out sequences by their hash.

    Whether a sequence is held out depends on nothing but itself: not on its place, on other
    sequences or on the machine. New releases of a data set leave it on its side. Relatives of a
    held-out sequence are mostly in training, so this watches the loss and says little about new
    families: for that see :func:`split_by_group`.

    Args:
        hashes: ``SequenceStore.hashes``, uint64 (B,).
        fraction: Share of the sequences that is held out, between 0 and 1.
        salt: Another text gives another, independent split.

    Returns:
        Which sequences are held out, bool (B,).

    Raises:
        ValueError: If one of the two sides would be empty.
    """
    _check(fraction)
    held_out, salted = np.empty(len(hashes), np.bool_), np.uint64(_number(salt))
    for start in range(0, len(hashes), _BLOCK):
        block = hashes[start : start + _BLOCK]
        held_out[start : start + _BLOCK] = finalise(block ^ salted) < _limit(fraction)
    _refuse_empty(held_out, fraction, f"{len(hashes):,} sequences", "sequences")
    return held_out


def split_by_group(
    codes: NDArray[np.integer],
    categories: Sequence[str] | None,
    fraction: float,
    salt: str = "",
) -> NDArray[np.bool_]:
    """Hold out whole groups, such as families, types or clusters, by the hash of their name.

    A group is on one side, so that nothing of it leaks. The share of sequences that is held out
    differs from ``fraction`` where groups are few or differ in size. Sequences without a group
    (category ``""``) are never held out.

    Args:
        codes: Group of each sequence, as a number into ``categories``, (B,).
        categories: Names of the groups; see ``SequenceStore.column``. None where groups are
            numbers, such as those of clusters.
        fraction: Share of the groups that is held out, between 0 and 1.
        salt: Another text gives another, independent split.

    Returns:
        Which sequences are held out, bool (B,).

    Raises:
        ValueError: If one of the two sides would be empty.
    """
    _check(fraction)
    if categories is None:
        numbers = mix(np.arange(int(codes.max()) + 1, dtype=np.uint64))
        chosen = np.ones(len(numbers), np.bool_)
    else:
        numbers = np.array([_number(name) for name in categories], np.uint64)
        chosen = np.array([name != "" for name in categories], np.bool_)
    chosen &= finalise(numbers ^ np.uint64(_number(salt))) < _limit(fraction)
    held_out: NDArray[np.bool_] = chosen[codes]
    num_groups = int(np.count_nonzero(np.bincount(codes, minlength=len(numbers))))
    _refuse_empty(held_out, fraction, f"{num_groups:,} groups", "groups")
    return held_out


def _number(text: str) -> int:
    """64 bits of BLAKE2b; 0 for the empty text."""
    if not text:
        return 0
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _limit(fraction: float) -> np.uint64:
    return np.uint64(fraction * 2.0**64)


def _check(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ValueError(
            f"fraction ({fraction}) must lie between 0 and 1; to hold out nothing, do not split"
        )


def _refuse_empty(held_out: NDArray[np.bool_], fraction: float, among: str, what: str) -> None:
    """Refuse a split with nothing on one side."""
    num_held_out = int(np.count_nonzero(held_out))
    if num_held_out == 0:
        raise ValueError(
            f"no sequence is held out by a fraction of {fraction} among {among}; raise the "
            f"fraction or use more {what}"
        )
    if num_held_out == len(held_out):
        raise ValueError(
            f"all sequences are held out by a fraction of {fraction} among {among}; lower the "
            f"fraction or use more {what}"
        )
