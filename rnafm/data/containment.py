"""Redundant sequences, as CD-HIT-EST at 100 % finds them, in linear time.

The sequences that stand within another one, on either strand, are what the authors of RNA-FM
removed from RNAcentral: ``cd-hit-est -c 1.0``, whose time grows with the square of their number.
Here each sequence is found by one window of letters: the *anchor*, the least word (by a hash) among
its first places, begins a window whose hash is the key in an index. Whatever holds the sequence has
the same anchor at the same place, since anchors depend on the letters around them alone. So each
possible container is read once, its own anchors are looked up, one in three to one in sixty places
for each class of lengths, and what is found is compared letter by letter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rnafm.data.checksums import num_cores
from rnafm.data.containment_search import NONE, Search

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rnafm.data.vocabulary import Vocabulary

KINDS = ("kept", "duplicate", "contained", "contained_reverse")
"""What a sequence can be; the numbers in :attr:`Redundancy.kinds` are places in here."""

_PLAIN = 4
_LONGEST = (1 << 24) - 1  # lengths have so many bits in the index
_MOST = (1 << 31) - 1


@dataclass(frozen=True)
class Redundancy:
    """What is redundant among sequences.

    Args:
        kinds: For each sequence its place in :data:`KINDS`, uint8 (B,). ``duplicate`` is as long as
            its container, and equal; ``contained`` is part of it; ``contained_reverse`` is part of
            its reverse complement, or all of it.
        containers: For each sequence the kept one that holds it, -1 for those that are kept, int64
            (B,).
        peak_bytes: Bytes of the tables that the search held at its peak, without ``tokens``.
    """

    kinds: NDArray[np.uint8]
    containers: NDArray[np.int64]
    peak_bytes: int


def complement_of(vocabulary: Vocabulary) -> NDArray[np.uint8]:
    """Token id -> token id of the complement, (256,).

    A and U (or T), C and G are exchanged; every other token is its own complement, also the IUPAC
    codes, since cd-hit-est takes all other letters for one.

    Raises:
        ValueError: If the vocabulary has codons, or lacks a nucleotide.
    """
    if vocabulary.letters_per_token != 1:
        raise ValueError(
            f"vocabulary {vocabulary.name!r}: its tokens are {vocabulary.letters_per_token} letters"
            " long, and containment compares nucleotides; use redundancy: exact, or a nucleotide "
            "vocabulary"
        )
    ids = vocabulary.ids
    uracils = [ids[letter] for letter in "UT" if letter in ids]
    missing = [letter for letter in "ACG" if letter not in ids] + ["U"] * (not uracils)
    if missing:
        raise ValueError(
            f"vocabulary {vocabulary.name!r}: has no token for {' '.join(missing)}, and containment"
            " compares nucleotides; use redundancy: exact, or a nucleotide vocabulary"
        )
    complement = np.arange(256, dtype=np.uint8)
    complement[uracils] = ids["A"]
    complement[[ids["A"], ids["C"], ids["G"]]] = uracils[0], ids["G"], ids["C"]
    return complement


def find_redundant(
    tokens: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    *,
    complement: NDArray[np.uint8],
    num_threads: int | None = None,
    progress: bool = True,
) -> Redundancy:
    """Find the sequences that stand within a longer one or equal an earlier one, on either strand.

    What is kept is what ``cd-hit-est -c 1.0 -n 10 -M 0`` keeps, which goes from the longest to the
    shortest sequence and leaves those of one length in order. As there, letters other than A, C, G
    and U are one letter, which equals itself; and a sequence without ten plain letters in a row is
    kept, whatever holds it. In three things this is exact where cd-hit-est is not: sequences that
    differ by one letter in a run of one letter (of 8 or more; of any in sequences of a dozen
    letters) are not the same; parts of sequences with repeats, some of which it misses (one in
    20,000 sequences of ours), are found; and sequences of up to ten letters, which it drops, are
    compared too: nearly all of them are part of something. Empty ones are kept.

    Takes about 80 bytes per sequence (3.4 GB for the 45 million of RNAcentral) and, for each
    thread, 50 per letter of the longest one; and time in proportion to the letters, after some ten
    seconds in which it is compiled. Each thread takes its own sequences as containers; the result
    does not depend on how many threads there are.

    Args:
        tokens: Token ids of all sequences, (N,); may be a memory map: it is read twice in
            order, and where two sequences have the same hash.
        offsets: Where each sequence starts, and N, (B + 1,).
        complement: Token id -> token id of the complement, (256,), as :func:`complement_of` gives.
        num_threads: Threads; all cores if not given.
        progress: Whether to show progress on standard error.

    Raises:
        ImportError: If numba is missing.
        ValueError: If ``complement`` is no complement, there are more than 2,147,483,647 sequences,
            or one is longer than 16,777,215.
    """
    codes = _codes(complement)
    num_sequences, lengths = len(offsets) - 1, np.diff(offsets)
    longest = int(lengths.max(initial=0))
    if num_sequences > _MOST or longest > _LONGEST:
        raise ValueError(
            f"{num_sequences:,} sequences of up to {longest:,} letters: containment is found among "
            f"up to {_MOST:,} of up to {_LONGEST:,}; split the store, or set max_length"
        )
    del lengths
    threads = num_threads or num_cores()
    search = Search(tokens, offsets, codes, longest, threads, progress=progress)
    return _resolved(search.run(), offsets, search.peak_bytes)


def _codes(complement: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Token id -> 0 to 3, complements adding up to 3, or 4 for what is its own complement."""
    ids = np.arange(256)
    whole = complement.shape == ids.shape
    plain = np.flatnonzero(complement != ids) if whole else ids[:0]
    same = complement[complement[plain]]  # T is U
    firsts = sorted({*np.minimum(same, complement[same]).tolist()})
    twice = (complement[complement[same]] == same).all()
    if not (whole and twice) or len(firsts) > _PLAIN // 2:
        raise ValueError(
            "complement: does not exchange two pairs of tokens and leave the others as they are; "
            "make it with complement_of(vocabulary)"
        )
    codes = np.full(256, _PLAIN, np.uint8)
    for number, first in enumerate(firsts):
        codes[plain[same == first]] = number
        codes[plain[same == complement[first]]] = _PLAIN - 1 - number
    return codes


def _resolved(
    parents: NDArray[np.uint64], offsets: NDArray[np.int64], peak_bytes: int
) -> Redundancy:
    """Follow containers up to those that are kept.

    Args:
        parents: Twice the number of the container plus the strand, or the largest number.
        offsets: Where each sequence starts.
        peak_bytes: Passed on.
    """
    lengths, one = np.diff(offsets), np.uint64(1)
    held = np.flatnonzero(parents != NONE)
    while True:
        above = parents[(parents[held] >> one).astype(np.int64)]
        further = above != NONE
        if not further.any():
            break
        rows = held[further]
        parents[rows] = above[further] ^ (parents[rows] & one)
    containers = np.full(len(parents), -1, np.int64)
    kinds = np.zeros(len(parents), np.uint8)
    containers[held] = (parents[held] >> one).astype(np.int64)
    reverse = (parents[held] & one).astype(np.bool_)
    equal = lengths[held] == lengths[containers[held]]
    names = np.where(reverse, KINDS.index("contained_reverse"), KINDS.index("contained"))
    kinds[held] = np.where(equal & ~reverse, KINDS.index("duplicate"), names)
    return Redundancy(kinds, containers, peak_bytes)
