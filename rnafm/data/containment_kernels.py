"""Compiled loops over the letters of many sequences: hashes, anchors and equality.

Hashes are polynomials over 64 bits, so that the hash of any part of a sequence follows from two
hashes of its beginnings. Letters are numbers: 0 to 3 for A, C, G and U, whose complement is 3 less
the number, and 4 for all others, which is its own complement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

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

    Int = int | np.int64
    U8 = NDArray[np.uint8]
    U32 = NDArray[np.uint32]
    U64 = NDArray[np.uint64]
    I64 = NDArray[np.int64]

_njit: Any = numba.njit  # has more options than its types say
Function = TypeVar("Function", bound="Callable[..., Any]")


def compiled(function: Function) -> Function:
    """Compile at the first call, for this process only: no folder has to be writable."""
    return cast("Function", _njit(nogil=True)(function))


def inner(function: Function) -> Function:
    """Compile what only compiled functions call, which takes half as long."""
    return cast("Function", _njit(nogil=True, no_cpython_wrapper=True)(function))


OTHER = np.uint8(4)
WORD = 10  # letters that decide about anchors; cd-hit-est's words are as long
LENGTH_BITS = np.uint64(24)
PLACE_BITS = np.uint64(7)
KEY_SHIFT = LENGTH_BITS + PLACE_BITS
LENGTH_MASK = np.uint64((1 << 24) - 1)
PLACE_MASK = np.uint64((1 << 7) - 1)
_ONE = np.uint64(1)
_S32 = np.uint64(32)
MIX = np.uint64(0xD6E8FEB86659FD93)
_SIX, _SIXTY_THREE, _TWELVE = np.uint64(6), np.uint64(63), np.uint64(12)


class Text(NamedTuple):
    """All sequences, and what their hashes are made of.

    Attributes:
        tokens: Token ids.
        offsets: Where each sequence starts.
        codes: Token id -> letter.
        values: Letter -> value in hashes.
        powers: Powers of the base of the hashes.
        classes: Least length, letters in the window and number of its places, for each class.
        salts: Keeps apart the keys of the classes.
    """

    tokens: U8
    offsets: I64
    codes: U8
    values: U64
    powers: U64
    classes: I64
    salts: U64


@inner
def mixed(value: np.uint64) -> np.uint64:
    """All bits of a hash depend on all bits of it: the low ones of a polynomial are weak."""
    value ^= value >> _S32
    value *= MIX
    value ^= value >> _S32
    value *= MIX
    return value ^ (value >> _S32)


@inner
def blooms(key: np.uint64, mask: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Which word of a Bloom filter stands for a key, and its two bits in there."""
    value = key * MIX
    value ^= value >> _S32
    return (value >> _TWELVE) & mask, (
        (_ONE << (value & _SIXTY_THREE)) | (_ONE << ((value >> _SIX) & _SIXTY_THREE))
    )


@inner
def class_of(length: Int, leasts: I64) -> int:
    """The class of lengths that a length belongs to."""
    found = 0
    while found + 1 < len(leasts) and leasts[found + 1] <= length:
        found += 1
    return found


@inner
def prefix_hashes(letters: U8, length: int, values: U64, base: np.uint64, out: U64) -> None:
    """Hash of the first 0, 1, ..., ``length`` letters."""
    state = np.uint64(0)
    out[0] = state
    for i in range(length):
        state = state * base + values[letters[i]]
        out[i + 1] = state


@inner
def same_letters(text: Text, one: Int, other: Int, length: Int, strand: np.uint64) -> bool:
    """Whether the letters from ``one`` on, or their reverse complement, are those at ``other``."""
    for k in range(length):
        code = text.codes[text.tokens[one + k if strand == 0 else one + length - 1 - k]]
        if strand and code != OTHER:
            code = np.uint8(3) - code
        if code != text.codes[text.tokens[other + k]]:
            return False
    return True
