"""Compiled loops over the letters of many sequences: hashes, anchors and equality.

Hashes are polynomials over 64 bits, so that the hash of any part of a sequence follows from two
hashes of its beginnings. Letters are numbers: 0 to 3 for A, C, G and U, whose complement is 3 less
the number, and 4 for all others, which is its own complement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np

try:
    import numba
except ImportError as error:
    raise ImportError(
        "redundancy by containment needs numba, which is not installed: "
        "pip install 'rnafm[contained]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    U8 = NDArray[np.uint8]
    U32 = NDArray[np.uint32]
    U64 = NDArray[np.uint64]
    I64 = NDArray[np.int64]

Function = TypeVar("Function", bound="Callable[..., Any]")


def compiled(function: Function) -> Function:
    """Compile at the first call, for this process only: no folder has to be writable."""
    return cast("Function", numba.njit(nogil=True)(function))


OTHER = np.uint8(4)
WORD = 10  # letters that decide about anchors; cd-hit-est's words are as long
LENGTH_BITS = np.uint64(24)
PLACE_BITS = np.uint64(7)
KEY_SHIFT = LENGTH_BITS + PLACE_BITS
LENGTH_MASK = np.uint64((1 << 24) - 1)
PLACE_MASK = np.uint64((1 << 7) - 1)
_ONE, _THREE = np.uint64(1), np.uint64(3)
_S32, _S29 = np.uint64(32), np.uint64(29)
_MIX = np.uint64(0xD6E8FEB86659FD93)
_WORD_MASK = np.uint64((1 << (3 * WORD)) - 1)
_SIX, _SIXTY_THREE, _TWELVE = np.uint64(6), np.uint64(63), np.uint64(12)


@compiled
def mixed(value: np.uint64) -> np.uint64:
    """All bits of a hash depend on all bits of it: the low ones of a polynomial are weak."""
    value ^= value >> _S32
    value *= _MIX
    value ^= value >> _S32
    value *= _MIX
    return value ^ (value >> _S32)


@compiled
def order_of(word: np.uint64) -> np.uint64:
    """Rank of a word among words: the least one of a stretch is its anchor."""
    return (word * _MIX) >> _S29


@compiled
def blooms(key: np.uint64, mask: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Which word of a Bloom filter stands for a key, and its two bits in there."""
    value = key * _MIX
    value ^= value >> _S32
    return (value >> _TWELVE) & mask, (
        (_ONE << (value & _SIXTY_THREE)) | (_ONE << ((value >> _SIX) & _SIXTY_THREE))
    )


@compiled
def class_of(length: int, leasts: I64) -> int:
    """The class of lengths that a length belongs to."""
    found = 0
    while found + 1 < len(leasts) and leasts[found + 1] <= length:
        found += 1
    return found


@compiled
def prefix_hashes(letters: U8, length: int, values: U64, base: np.uint64, out: U64) -> None:
    """Hash of the first 0, 1, ..., ``length`` letters."""
    state = np.uint64(0)
    out[0] = state
    for i in range(length):
        state = state * base + values[letters[i]]
        out[i + 1] = state


@compiled
def anchor_of(letters: U8, starts: int) -> int:
    """Which of the first ``starts`` places has the least word; the last one of equals."""
    word, best, place = np.uint64(0), np.uint64(0), -1
    for i in range(starts + WORD - 1):
        word = ((word << _THREE) | np.uint64(letters[i])) & _WORD_MASK
        if i >= WORD - 1:
            order = order_of(word)
            if place < 0 or order <= best:
                best, place = order, i - WORD + 1
    return place


@compiled
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


@compiled
def hash_sequences(  # noqa: PLR0913
    tokens: U8,
    offsets: I64,
    first: int,
    last: int,
    codes: U8,
    values: U64,
    powers: U64,
    classes: I64,
    salts: U64,
    hashes: U64,
    keys: U64,
) -> None:
    """Hash of each sequence on both strands, and where containers will find it.

    Args:
        tokens: Token ids of all sequences.
        offsets: Where each starts.
        first: The first sequence.
        last: The one after the last sequence.
        codes: Token id -> letter.
        values: Letter -> value in hashes.
        powers: Powers of the base of the hashes.
        classes: Least length, size of the window and number of its places, for each class.
        salts: Keeps apart the keys of the classes.
        hashes: Takes the hashes, (2, B).
        keys: Takes key, place of the anchor and length in one number, (2, B); 0 for sequences that
            nothing can hold.
    """
    size = 0
    for i in range(first, last):
        size = max(size, offsets[i + 1] - offsets[i])
    letters = np.empty(size, np.uint8)
    prefixes = np.empty(size + 1, np.uint64)
    for i in range(first, last):
        start, length = offsets[i], offsets[i + 1] - offsets[i]
        for strand in range(2):
            if strand == 0:
                for k in range(length):
                    letters[k] = codes[tokens[start + k]]
            else:
                for k in range(length):
                    code = codes[tokens[start + length - 1 - k]]
                    letters[k] = code if code == OTHER else 3 - code
            prefix_hashes(letters, length, values, powers[1], prefixes)
            hashes[strand, i] = prefixes[length]
            keys[strand, i] = 0
            if length and has_plain_word(letters, length):
                c = class_of(length, classes[0])
                window, places = classes[1, c], classes[2, c]
                place = anchor_of(letters, places) if places > 1 else 0
                state = prefixes[place + window] - prefixes[place] * powers[window]
                key = mixed(state ^ salts[c]) >> KEY_SHIFT
                keys[strand, i] = (
                    (key << KEY_SHIFT) | (np.uint64(place) << LENGTH_BITS) | np.uint64(length)
                )


@compiled
def same_letters(
    tokens: U8, codes: U8, one: int, other: int, length: int, strand: np.uint64
) -> bool:
    """Whether the letters from ``one`` on, or their reverse complement, are those at ``other``."""
    if strand == 0:
        for k in range(length):
            if codes[tokens[one + k]] != codes[tokens[other + k]]:
                return False
        return True
    for k in range(length):
        code = codes[tokens[one + length - 1 - k]]
        if (code if code == OTHER else np.uint8(3) - code) != codes[tokens[other + k]]:
            return False
    return True


@compiled
def insert_distinct(  # noqa: PLR0913
    tokens: U8,
    offsets: I64,
    first: int,
    last: int,
    codes: U8,
    hashes: U64,
    keys: U64,
    slots: U32,
    best: U64,
) -> int:
    """Fill the table of sequences by hash, in order; equal ones are found on the way.

    A slot holds 0, or one more than twice the number of the sequence plus its strand. Of equal
    ones the table holds the first; the others get in ``best`` twice its number plus the strand.

    Returns:
        How many equal ones were found.
    """
    mask, found = np.uint64(len(slots) - 1), 0
    for i in range(first, last):
        if keys[0, i] == 0:
            continue
        length = offsets[i + 1] - offsets[i]
        slot = mixed(hashes[0, i]) & mask
        equal = False
        while slots[slot] and not equal:
            entry = np.uint64(slots[slot]) - _ONE
            other, strand = entry >> _ONE, entry & _ONE
            if hashes[strand, other] == hashes[0, i]:
                start = offsets[other]
                equal = offsets[other + _ONE] - start == length and same_letters(
                    tokens, codes, start, offsets[i], length, strand
                )
                if equal:
                    best[i] = entry
            slot = (slot + _ONE) & mask
        if equal:
            keys[0, i] = keys[1, i] = 0
            found += 1
            continue
        slots[slot] = np.uint32(2 * i + 1)
        slot = mixed(hashes[1, i]) & mask
        while slots[slot]:
            slot = (slot + _ONE) & mask
        slots[slot] = np.uint32(2 * i + 2)
    return found


@compiled
def fill_blooms(entries: U64, leasts: I64, filters: U64, places: U64, masks: U64) -> None:
    """Add all keys to the Bloom filter of their class."""
    for entry in entries:
        c = class_of(np.int64(entry & LENGTH_MASK), leasts)
        word, bits = blooms(entry >> KEY_SHIFT, masks[c])
        filters[places[c] + word] |= bits


@compiled
def count_classes(keys: U64, leasts: I64) -> I64:
    """Number of entries of each class."""
    counts = np.zeros(len(leasts), np.int64)
    for strand in range(2):
        for key in keys[strand]:
            if key:
                counts[class_of(np.int64(key & LENGTH_MASK), leasts)] += 1
    return counts
