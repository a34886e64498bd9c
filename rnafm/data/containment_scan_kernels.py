"""The compiled search of every sequence for all those that it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnafm.data.containment_kernels import (
    KEY_SHIFT,
    LENGTH_BITS,
    LENGTH_MASK,
    PLACE_MASK,
    WORD,
    blooms,
    compiled,
    mixed,
    order_of,
    prefix_hashes,
    same_letters,
)

if TYPE_CHECKING:
    from rnafm.data.containment_kernels import I64, U8, U32, U64

_ONE, _THREE = np.uint64(1), np.uint64(3)
_WORD_MASK = np.uint64((1 << (3 * WORD)) - 1)


class Index(NamedTuple):
    """What sequences are found by; read by all threads.

    Attributes:
        tokens: Token ids of all sequences.
        offsets: Where each starts.
        codes: Token id -> letter.
        values: Letter -> value in hashes.
        powers: Powers of the base of the hashes.
        classes: Least length, window and number of places of the classes that have sequences.
        salts: Keeps apart the keys of the classes.
        filters: The Bloom filters of the classes, end to end.
        filter_places: Where each starts.
        filter_masks: Its number of words less one.
        entries: Key, place of the anchor and length, sorted.
        buckets: First entry whose key starts with some bits.
        bucket_shift: Takes these bits from an entry.
        hashes: Hash of each sequence on both strands, (2, B).
        slots: Table of sequences by hash.
        found: The container found so far and its strand, shared by all threads. A thread may miss
            what another one has just found, and then finds more than it has to.
        equal: Where it is set, the sequence equals an earlier one.
    """

    tokens: U8
    offsets: I64
    codes: U8
    values: U64
    powers: U64
    classes: I64
    salts: U64
    filters: U64
    filter_places: U64
    filter_masks: U64
    entries: U64
    buckets: U32
    bucket_shift: np.uint64
    hashes: U64
    slots: U32
    found: U64
    equal: U64


@compiled
def seek(entries: U64, low: int, high: int, value: np.uint64) -> int:
    """The first entry from ``low`` on that is not less than a value."""
    while low < high:
        middle = (low + high) >> 1
        if entries[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@compiled
def word_orders(letters: U8, length: int, orders: U64) -> None:
    """The order of the word at each place."""
    word = np.uint64(0)
    for i in range(length):
        word = ((word << _THREE) | np.uint64(letters[i])) & _WORD_MASK
        if i >= WORD - 1:
            orders[i - WORD + 1] = order_of(word)


@compiled
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


@compiled
def candidates(
    prefixes: U64, power: np.uint64, window: int, salt: np.uint64, places: I64, count: int,
    filters: U64, start: np.uint64, mask: np.uint64, out: I64, out_keys: U64,
) -> int:  # fmt: skip
    """Places whose window passes the Bloom filter."""
    found = 0
    for k in range(count):
        place = places[k]
        state = prefixes[place + window] - prefixes[place] * power
        key = mixed(state ^ salt) >> KEY_SHIFT
        word, bits = blooms(key, mask)
        out[found] = place
        out_keys[found] = key
        found += (filters[start + word] & bits) == bits
    return found


@compiled
def check(
    index: Index, prefixes: U64, target: int, start: int, length: int, pairs: U64, count: int
) -> int:
    """Note the sequence that stands at a place of the target, if there is one.

    Returns:
        Number of pairs noted so far.
    """
    state = prefixes[start + length] - prefixes[start] * index.powers[length]
    mask = np.uint64(len(index.slots) - 1)
    slot = mixed(state) & mask
    while index.slots[slot]:
        entry = np.uint64(index.slots[slot]) - _ONE
        held, strand = entry >> _ONE, entry & _ONE
        holder = np.uint64(2 * target) + strand
        if (
            index.hashes[strand, held] == state
            and index.found[held] > holder
            and index.offsets[held + _ONE] - index.offsets[held] == length
            and same_letters(
                index.tokens,
                index.codes,
                index.offsets[held],
                index.offsets[target] + start,
                length,
                strand,
            )
        ):
            if count < len(pairs):
                index.found[held] = holder
                pairs[count, 0] = held
                pairs[count, 1] = holder
            count += 1
        slot = (slot + _ONE) & mask
    return count


@compiled
def resolve(  # noqa: PLR0913
    index: Index,
    prefixes: U64,
    letters: U8,
    target: int,
    length: int,
    places: I64,
    keys: U64,
    num_places: int,
    pairs: U64,
    count: int,
) -> int:
    """Look at all sequences that may stand at some places of the target.

    Where the letters repeat with a short period, as in a run of A, the same window comes back at
    each place. What lies within the repeat altogether has then been seen one period before, and is
    passed over; otherwise repeats of many lengths would cost the cube of their length.

    Returns:
        Number of pairs noted so far.
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
            period, left, right = place - before, before, place
            while left > 0 and letters[left - 1] == letters[left - 1 + period]:
                left -= 1
            while right < length and letters[right] == letters[right - period]:
                right += 1
        before, before_key = place, key
        while at < high and index.entries[at] >> KEY_SHIFT == key:
            entry = index.entries[at]
            offset = (entry >> LENGTH_BITS) & PLACE_MASK
            start, size = place - np.int64(offset), np.int64(entry & LENGTH_MASK)
            if start < 0:
                break
            most = min(length - start, length - 1)
            known = right - start if period and start - period >= left else 0
            base = (key << KEY_SHIFT) | (offset << LENGTH_BITS)
            if size > most:
                at = seek(index.entries, at + 1, high, base + (_ONE << LENGTH_BITS))
            elif size <= known:
                at = seek(index.entries, at + 1, high, base + np.uint64(known) + _ONE)
            else:
                count = check(index, prefixes, target, start, size, pairs, count)
                at += 1
    return count


@compiled
def scan(index: Index, first: int, last: int, pairs: U64) -> tuple[int, int]:
    """Find what is held by each of some sequences.

    Args:
        index: What is searched for.
        first: The first sequence.
        last: The one after the last sequence.
        pairs: Takes pairs of a sequence and twice the number of the container plus the strand.

    Returns:
        The sequence to go on with, and how many pairs there are: the search stops when they are
        too many for ``pairs``, and has to be called again after these were taken.
    """
    size = 0
    for target in range(first, last):
        size = max(size, index.offsets[target + 1] - index.offsets[target])
    letters = np.empty(size, np.uint8)
    prefixes, orders = np.empty(size + 1, np.uint64), np.empty(size, np.uint64)
    every, chosen = np.arange(size), np.empty(size, np.int64)
    places, keys = np.empty(size, np.int64), np.empty(size, np.uint64)
    count = 0
    for target in range(first, last):
        start, length = index.offsets[target], index.offsets[target + 1] - index.offsets[target]
        if index.equal[target] or length <= index.classes[0, 0]:
            continue
        for k in range(length):
            letters[k] = index.codes[index.tokens[start + k]]
        prefix_hashes(letters, length, index.values, index.powers[1], prefixes)
        word_orders(letters, length, orders)
        source, num_source = every, length - WORD + 1
        for c in range(index.classes.shape[1]):
            least, window, reach = index.classes[0, c], index.classes[1, c], index.classes[2, c]
            if least >= length:
                break
            end = length - window + 1
            if reach == 1:
                at, num_at = every, end
            else:
                num_source = anchors(orders, source, num_source, reach, end, chosen)
                source = at = chosen
                num_at = num_source
            num_places = candidates(
                prefixes, index.powers[window], window, index.salts[c], at, num_at,
                index.filters, index.filter_places[c], index.filter_masks[c], places, keys,
            )  # fmt: skip
            count = resolve(
                index, prefixes, letters, target, length, places, keys, num_places, pairs, count
            )
        if count > len(pairs):
            return target, len(pairs)
    return last, count
