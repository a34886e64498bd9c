"""Compiled steps that make the index by which sequences are found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.containment_anchor_kernels import anchor_of
from rnafm.data.containment_kernels import (
    KEY_SHIFT,
    LENGTH_BITS,
    LENGTH_MASK,
    OTHER,
    WORD,
    blooms,
    class_of,
    compiled,
    inner,
    mixed,
    prefix_hashes,
    same_letters,
)

if TYPE_CHECKING:
    from rnafm.data.containment_kernels import I64, U8, U32, U64, Text

_ONE = np.uint64(1)


@inner
def has_plain_word(letters: U8, length: int) -> bool:
    """Whether ten plain letters stand in a row, or all are plain in a sequence of up to ten."""
    if length <= WORD:
        return True
    run = 0
    for i in range(length):
        run = run + 1 if letters[i] != OTHER else 0
        if run == WORD:
            return True
    return False


@inner
def reverse_complement(letters: U8, length: int) -> None:
    """Turn letters round, in place."""
    for k in range((length + 1) // 2):
        one, other = letters[k], letters[length - 1 - k]
        letters[k] = other if other == OTHER else 3 - other
        letters[length - 1 - k] = one if one == OTHER else 3 - one


@compiled
def hash_sequences(text: Text, first: int, last: int, hashes: U64, keys: U64) -> None:
    """Hash of each sequence on both strands, and where containers will find it.

    Args:
        text: All sequences.
        first: The first sequence.
        last: The one after the last sequence.
        hashes: Takes the hashes, (2, B).
        keys: Takes key, place of the anchor and length in one number, (2, B); 0 for sequences that
            nothing can hold.
    """
    size = 0
    for i in range(first, last):
        size = max(size, text.offsets[i + 1] - text.offsets[i])
    letters = np.empty(size, np.uint8)
    prefixes = np.empty(size + 1, np.uint64)
    for i in range(first, last):
        start, length = text.offsets[i], text.offsets[i + 1] - text.offsets[i]
        for k in range(length):
            letters[k] = text.codes[text.tokens[start + k]]
        plain = length > 0 and has_plain_word(letters, length)
        for strand in range(2):
            prefix_hashes(letters, length, text.values, text.powers[1], prefixes)
            hashes[strand, i] = prefixes[length]
            keys[strand, i] = 0
            if plain:
                c = class_of(length, text.classes[0])
                window, places = text.classes[1, c], text.classes[2, c]
                place = anchor_of(letters, places) if places > 1 else 0
                state = prefixes[place + window] - prefixes[place] * text.powers[window]
                key = mixed(state ^ text.salts[c]) >> KEY_SHIFT
                keys[strand, i] = (
                    (key << KEY_SHIFT) | (np.uint64(place) << LENGTH_BITS) | np.uint64(length)
                )
            reverse_complement(letters, length)


@compiled
def insert_distinct(  # noqa: PLR0917  # compiled functions take no keywords
    text: Text, first: int, last: int, hashes: U64, keys: U64, slots: U32, found: U64
) -> None:
    """Fill the table of sequences by hash, in order; equal ones are found on the way.

    A slot holds 0, or one more than twice the number of the sequence plus its strand. Of equal
    ones the table holds the first; the others get in ``found`` twice its number plus the strand,
    and lose their keys.
    """
    mask = np.uint64(len(slots) - 1)
    for i in range(first, last):
        if keys[0, i] == 0:
            continue
        start, length = text.offsets[i], text.offsets[i + 1] - text.offsets[i]
        slot = mixed(hashes[0, i]) & mask
        while slots[slot]:
            entry = np.uint64(slots[slot]) - _ONE
            other, strand = entry >> _ONE, entry & _ONE
            if (
                hashes[strand, other] == hashes[0, i]
                and text.offsets[other + _ONE] - text.offsets[other] == length
                and same_letters(text, text.offsets[other], start, length, strand)
            ):
                found[i] = entry
                keys[0, i] = keys[1, i] = 0
                break
            slot = (slot + _ONE) & mask
        if keys[0, i] == 0:
            continue
        slots[slot] = np.uint32(2 * i + 1)
        slot = mixed(hashes[1, i]) & mask
        while slots[slot]:
            slot = (slot + _ONE) & mask
        slots[slot] = np.uint32(2 * i + 2)


@compiled
def squeeze(entries: U64) -> int:
    """Move numbers that are neither 0 nor the one before to the front; how many they are."""
    count, before = 0, np.uint64(0)
    for entry in entries:
        if entry != before:
            before = entry
            if entry:
                entries[count] = entry
                count += 1
    return count


@compiled
def count_classes(entries: U64, leasts: I64) -> I64:
    """Number of entries of each class."""
    counts = np.zeros(len(leasts), np.int64)
    for entry in entries:
        counts[class_of(np.int64(entry & LENGTH_MASK), leasts)] += 1
    return counts


@compiled
def fill_filters(entries: U64, leasts: I64, filters: U64, places: I64, masks: U64) -> None:
    """Add all keys to the Bloom filter of their class."""
    for entry in entries:
        c = class_of(np.int64(entry & LENGTH_MASK), leasts)
        word, bits = blooms(entry >> KEY_SHIFT, masks[c])
        filters[np.uint64(places[c]) + word] |= bits


@compiled
def fill_buckets(entries: U64, shift: np.uint64, buckets: U32) -> None:
    """The first of the sorted entries whose key starts with each possible number, and the end."""
    bucket = np.uint64(0)
    for k in range(len(entries)):
        while bucket <= entries[k] >> shift:
            buckets[bucket] = k
            bucket += _ONE
    while bucket < np.uint64(len(buckets)):
        buckets[bucket] = len(entries)
        bucket += _ONE
