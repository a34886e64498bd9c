"""Which sequences are used: empty ones, lengths, ambiguity, redundancy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rnafm.data.vocabulary import Vocabulary

RULES = ("kept", "empty", "too short", "too long", "ambiguous")
Redundancy = Literal["none", "exact", "contained"]
_PLAIN = bytes(range(256)).upper().replace(b"T", b"U")


@dataclass(frozen=True)
class Filters:
    """Which sequences are left out. Empty ones always are.

    Args:
        min_length: Least number of nucleotides.
        max_length: Largest number of nucleotides. Longer sequences than the model takes can stay:
            windows of them are cut in training.
        max_ambiguous: Largest share of letters other than A, C, G, U and T (of such codons).
        redundancy: What is left out as redundant; case does not matter, and T is U. ``none``
            leaves out nothing; ``exact`` leaves the first of equal sequences; ``contained`` leaves
            out, moreover, what is a piece of a longer sequence, on either strand, as the authors of
            RNA-FM did (the kept ones are those of ``cd-hit-est -c 1.0``).
    """

    min_length: int = 1
    max_length: int | None = None
    max_ambiguous: float = 0.1
    redundancy: Redundancy = "exact"

    def __post_init__(self) -> None:
        """Refuse what would leave nothing."""
        if self.max_length is not None and self.max_length < self.min_length:
            raise ValueError(
                f"max_length ({self.max_length}) is below min_length ({self.min_length}); "
                "exchange them"
            )
        if not 0 <= self.max_ambiguous <= 1:
            raise ValueError(f"max_ambiguous ({self.max_ambiguous}) must lie between 0 and 1")
        if self.redundancy not in get_args(Redundancy):
            raise ValueError(
                f"redundancy ({self.redundancy!r}) must be one of {', '.join(get_args(Redundancy))}"
            )


def sequence_digests(
    sequences: Sequence[str],
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Hashes of sequences in upper case and with U for T: the same on every machine.

    They are parts of the 128 bits of XXH3, which its specification has fixed since 2020 and which
    takes a seventh of the time of BLAKE2b here. It is no defence against made-up collisions.

    Returns:
        The low 64 bits, (B,), and the lowest 32 bits of the high half, (B,).
    """
    text = "".join(sequences).encode("ascii", "replace")
    if b"T" in text or (np.frombuffer(text, np.uint8) >= ord("a")).any():
        text = text.translate(_PLAIN)
    ends = list(itertools.accumulate(map(len, sequences)))
    digests = [
        xxhash.xxh3_128_digest(text[start:end])
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]
    high, low = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2).T
    return low.astype(np.uint64), high.astype(np.uint32)


class Judge:
    """Decides about sequences one by one: about all rules that look at nothing else.

    Args:
        filters: Which sequences are left out.
        vocabulary: What the sequences are encoded with.
    """

    def __init__(self, filters: Filters, vocabulary: Vocabulary) -> None:
        self.filters, self.letters_per_token = filters, vocabulary.letters_per_token
        self._standard = np.zeros(256, np.bool_)
        self._standard[list(vocabulary.standard_ids)] = True
        # Where the ids follow one another, two fast comparisons stand for a look-up.
        self._first, num_standard = min(vocabulary.standard_ids), len(vocabulary.standard_ids)
        self._width = num_standard if self._standard[self._first :][:num_standard].all() else 0

    def decide(
        self, tokens: NDArray[np.uint8], lengths: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Apply the rules to some sequences; the first that fits counts.

        Args:
            tokens: All sequences end to end, (N,).
            lengths: Number of tokens of each, (B,).

        Returns:
            The number of the rule in :data:`RULES` for each, (B,): 0 if it stays; and how many
            tokens of each are ambiguous, (B,).
        """
        filters = self.filters
        places = np.flatnonzero(self.is_ambiguous(tokens))
        owners = np.searchsorted(np.cumsum(lengths), places, side="right")
        ambiguous = np.bincount(owners, minlength=len(lengths))
        nucleotides = lengths * self.letters_per_token
        rules = np.select(
            [
                nucleotides == 0,
                nucleotides < filters.min_length,
                nucleotides > (filters.max_length or nucleotides.max()),
                ambiguous > filters.max_ambiguous * lengths,
            ],
            [1, 2, 3, 4],
            0,
        )
        return rules, ambiguous

    def is_ambiguous(self, tokens: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which tokens are neither A, C, G or U nor a codon of them, bool (N,)."""
        if self._width:
            return tokens - np.uint8(self._first) >= self._width
        return ~self._standard[tokens]
