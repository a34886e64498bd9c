"""The compiled search of every sequence for all those that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnafm.data.containment_anchor_kernels import anchors, word_orders
from rnafm.data.containment_kernels import (
    KEY_SHIFT,
    LENGTH_BITS,
    LENGTH_MASK,
    PLACE_MASK,
    WORD,
    blooms,
    compiled,
    inner,
    mixed,
    prefix_hashes,
    same_letters,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rnafm.data.containment_kernels import I64, U8, U32, U64, Int, Text

_ONE = np.uint64(1)


class Index(NamedTuple):
    """What sequences are found by; read by all threads.

    Attributes:
        entries: Key, place of the anchor and length, sorted.
        buckets: First entry whose key starts with some bits.
        bucket_shift: Takes these bits from an entry.
        filters: The Bloom filters of the classes, end to end.
        filter_places: Where each starts.
        filter_masks: Its number of words less one.
        hashes: Hash of each sequence on both strands, (2, B).
        slots: Table of sequences by hash.
        equal: Which sequences equal an earlier one, (B,).
        found: The container found so far and its strand, (B,), shared by all threads. A thread may
            miss what another one has just found, and then finds more than it has to.
    """

    entries: U64
    buckets: U32
    bucket_shift: np.uint64
    filters: U64
    filter_places: I64
    filter_masks: U64
    hashes: U64
    slots: U32
    equal: NDArray[np.bool_]
    found: U64


class Target(NamedTuple):
    """A sequence that may hold others.

    Attributes:
        number: Which one it is.
        length: Number of letters.
        letters: The letters, in a longer array.
        prefixes: Hashes of its beginnings, in a longer array.
    """

    number: int
    length: int
    letters: U8
    prefixes: U64


@inner
def seek(entries: U64, low: Int, high: Int, value: np.uint64) -> Int:
    """The first entry from ``low`` on that is not less than a value."""
    while low < high:
        middle = (low + high) >> 1
        if entries[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@inner
def candidates(  # noqa: PLR0917  # compiled functions take no keywords
    text: Text, index: Index, c: int, prefixes: U64, places: I64, count: int, out: I64, keys: U64
) -> int:
    """Places whose window passes the Bloom filter of a class; this loop waits for no branch."""
    found, window, salt = 0, text.classes[1, c], text.salts[c]
    power, mask = text.powers[window], index.filter_masks[c]
    first = np.uint64(index.filter_places[c])
    for k in range(count):
        place = places[k]
        state = prefixes[place + window] - prefixes[place] * power
        key = mixed(state ^ salt) >> KEY_SHIFT
        word, bits = blooms(key, mask)
        out[found] = place
        keys[found] = key
        found += (index.filters[first + word] & bits) == bits
    return found


@inner
def check(  # noqa: PLR0917  # compiled functions take no keywords
    text: Text, index: Index, target: Target, start: Int, length: Int, pairs: U64, count: Int
) -> Int:
    """Note the sequence that stands at a place of the target, if there is one.

    Returns:
        Number of pairs so far; more than ``pairs`` can take if some were left out.
    """
    state = target.prefixes[start + length] - target.prefixes[start] * text.powers[length]
    mask = np.uint64(len(index.slots) - 1)
    slot = mixed(state) & mask
    while index.slots[slot]:
        entry = np.uint64(index.slots[slot]) - _ONE
        held, strand = entry >> _ONE, entry & _ONE
        holder, place = np.uint64(2 * target.number) + strand, text.offsets[held]
        if (
            index.hashes[strand, held] == state
            and index.found[held] > holder
            and text.offsets[held + _ONE] - place == length
            and same_letters(text, place, text.offsets[target.number] + start, length, strand)
        ):
            if count < len(pairs):
                index.found[held] = holder
                pairs[count, 0] = held
                pairs[count, 1] = holder
            count += 1
        slot = (slot + _ONE) & mask
    return count


@inner
def repeat(letters: U8, length: int, before: int, place: int) -> tuple[int, int]:
    """Where the letters equal those ``place - before`` earlier: from a window that came twice."""
    period, left, right = place - before, before, place
    while left > 0 and letters[left - 1] == letters[left - 1 + period]:
        left -= 1
    while right < length and letters[right] == letters[right - period]:
        right += 1
    return left, right


@inner
def resolve(  # noqa: PLR0917  # compiled functions take no keywords
    text: Text, index: Index, target: Target, places: I64, keys: U64, num_places: int,
    pairs: U64, count: Int,
) -> Int:  # fmt: skip
    """Look at all sequences that may stand at some places of the target.

    Where the letters repeat with a short period, as in a run of A, the same window comes back at
    each place. What lies within the repeat altogether has then been seen one period before, and is
    passed over; otherwise repeats of many lengths would cost the cube of their length.

    Returns:
        Number of pairs so far.
    """
    before, before_key, period, left, right = -1, np.uint64(0), 0, 0, 0
    for k in range(num_places):
        place, key = places[k], keys[k]
        bucket = (key << KEY_SHIFT) >> index.bucket_shift
        high = np.int64(index.buckets[bucket + _ONE])
        at = seek(index.entries, np.int64(index.buckets[bucket]), high, key << KEY_SHIFT)
        if at == high or index.entries[at] >> KEY_SHIFT != key:
            continue
        if key != before_key or before < 0:
            period = 0
        elif place - before != period or place >= right:
            period = place - before
            left, right = repeat(target.letters, target.length, before, place)
        before, before_key = place, key
        while at < high and index.entries[at] >> KEY_SHIFT == key:
            entry = index.entries[at]
            offset = (entry >> LENGTH_BITS) & PLACE_MASK
            start, size = place - np.int64(offset), np.int64(entry & LENGTH_MASK)
            if start < 0:
                break
            most = min(target.length - start, target.length - 1)
            known = right - start if period and start - period >= left else 0
            base = (key << KEY_SHIFT) | (offset << LENGTH_BITS)
            if size > most:
                at = seek(index.entries, at + 1, high, base + (_ONE << LENGTH_BITS))
            elif size <= known:
                at = seek(index.entries, at + 1, high, base + np.uint64(known) + _ONE)
            else:
                count = check(text, index, target, start, size, pairs, count)
                at += 1
    return count


@compiled
def scan(text: Text, index: Index, first: Int, last: int, pairs: U64) -> tuple[Int, Int]:
    """Find what is held by each of some sequences.

    Args:
        text: All sequences; its classes are those that have entries.
        index: What is searched for.
        first: The first container.
        last: The one after the last container.
        pairs: Takes pairs of a sequence and twice the number of the container plus the strand.

    Returns:
        The container to go on with, and how many pairs there are: the search stops when they are
        too many for ``pairs``, and has to be called again after these were taken.
    """
    size = 0
    for number in range(first, last):
        size = max(size, text.offsets[number + 1] - text.offsets[number])
    letters = np.empty(size, np.uint8)
    prefixes, orders = np.empty(size + 1, np.uint64), np.empty(size, np.uint64)
    every, chosen = np.arange(size), np.empty(size, np.int64)
    places, keys = np.empty(size, np.int64), np.empty(size, np.uint64)
    count: Int = np.int64(0)  # a plain 0 would be a type of its own, and compile all twice
    for number in range(first, last):
        start, length = text.offsets[number], text.offsets[number + 1] - text.offsets[number]
        if index.equal[number] or length <= text.classes[0, 0]:
            continue
        for k in range(length):
            letters[k] = text.codes[text.tokens[start + k]]
        prefix_hashes(letters, length, text.values, text.powers[1], prefixes)
        word_orders(letters, length, orders)
        target = Target(number, length, letters, prefixes)
        source, num_source = every, length - WORD + 1
        for c in range(text.classes.shape[1]):
            least, window, reach = text.classes[0, c], text.classes[1, c], text.classes[2, c]
            if least >= length:
                break
            at, num_at = every, length - window + 1
            if reach > 1:
                num_source = anchors(orders, source, num_source, reach, num_at, chosen)
                source, at, num_at = chosen, chosen, num_source
            num_at = candidates(text, index, c, prefixes, at, num_at, places, keys)
            count = resolve(text, index, target, places, keys, num_at, pairs, count)
        if count > len(pairs):
            return number, len(pairs)
    return last, count
