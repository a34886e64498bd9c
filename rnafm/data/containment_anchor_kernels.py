"""Compiled choice of the places that sequences are found by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.containment_kernels import MIX, WORD, inner

if TYPE_CHECKING:
    from rnafm.data.containment_kernels import I64, U8, U64

_THREE, _SHIFT = np.uint64(3), np.uint64(29)
_MASK = np.uint64((1 << (3 * WORD)) - 1)


@inner
def order_of(word: np.uint64) -> np.uint64:
    """Rank of a word among words: the least one of a stretch is its anchor."""
    return (word * MIX) >> _SHIFT


@inner
def anchor_of(letters: U8, starts: int) -> int:
    """Which of the first ``starts`` places has the least word; the last one of equals."""
    word, best, place = np.uint64(0), np.uint64(0), -1
    for i in range(starts + WORD - 1):
        word = ((word << _THREE) | np.uint64(letters[i])) & _MASK
        if i >= WORD - 1:
            order = order_of(word)
            if place < 0 or order <= best:
                best, place = order, i - WORD + 1
    return place


@inner
def word_orders(letters: U8, length: int, orders: U64) -> None:
    """The order of the word at each place."""
    word = np.uint64(0)
    for i in range(length):
        word = ((word << _THREE) | np.uint64(letters[i])) & _MASK
        if i >= WORD - 1:
            orders[i - WORD + 1] = order_of(word)


@inner
def anchors(orders: U64, places: I64, count: int, reach: int, end: int, out: I64) -> int:
    """The places with the least word of any ``reach`` places in a row, the last of equals.

    Args:
        orders: The order of the word at each place.
        places: Places to choose from, rising: all, or the anchors of a smaller reach, which have
            those of a larger one among them.
        count: Number of places.
        reach: Number of places in a row.
        end: Anchors are before this place.
        out: Takes the anchors.

    Returns:
        How many there are.
    """
    found, first, stop = 0, 0, reach
    while stop <= end:
        best, k = first, first + 1
        while k < count and places[k] < stop:
            if orders[places[k]] <= orders[places[best]]:
                best = k
            k += 1
        # It gives way to any later one that is not more, as long as one stretch covers both.
        while k < count and places[k] < min(places[best] + reach, end):
            if orders[places[k]] <= orders[places[best]]:
                out[found] = places[best]
                found += 1
                best = k
            k += 1
        out[found] = places[best]
        found += 1
        first, stop = best + 1, places[best] + 1 + reach
    return found
