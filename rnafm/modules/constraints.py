"""Which bases may pair, and what a user knows about one structure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from rnafm.modules.folding import Decoder

_LETTERS = "ACGU"
_CANONICAL = ("AU", "UA", "GC", "CG", "GU", "UG")


@dataclass(frozen=True)
class Constraints:
    """What is known about one structure. Positions are 0-based.

    Args:
        pairs: Pairs that the structure must have.
        unpaired: Bases that have no partner.
        reactivities: SHAPE, one for each nucleotide; NaN or negative: not measured. They are soft:
            pseudo-energies of Deigan et al. (2009), in ``hybrid`` on stacks, otherwise on the log
            odds of each pair; see :func:`rnafm.modules.thermodynamics.shift_by_shape`.
    """

    pairs: Sequence[tuple[int, int]] = ()
    unpaired: Sequence[int] = ()
    reactivities: ArrayLike | None = None

    def check(
        self, letters: str, decoder: Decoder
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64] | None]:
        """The three as arrays, for one sequence and decoder.

        Args:
            letters: See :func:`normalise`.
            decoder: Whose rules the pairs must keep.

        Returns:
            Pairs i < j, sorted, (F, 2); bases, (U,); reactivities, (L,), or None.

        Raises:
            ValueError: If something is out of range, contradicts another constraint, or breaks a
                rule of the decoder.
        """
        length = len(letters)
        for base in (*self.unpaired, *(base for pair in self.pairs for base in pair)):
            if not 0 <= base < length:
                raise ValueError(
                    f"constraint on base {base}: the sequence has {length} nucleotides, numbered "
                    "from 0"
                )
        pairs = sorted({(min(pair), max(pair)) for pair in self.pairs})
        self._check_partners(pairs)
        for i, j in pairs:
            problem = _broken_rule(letters, i, j, decoder)
            if problem:
                raise ValueError(f"forced pair ({i}, {j}): {problem}")
        if decoder.method in {"nested", "hybrid"}:
            _refuse_crossing(pairs, decoder)
        return (
            np.array(pairs, np.int64).reshape(-1, 2),
            np.array(self.unpaired, np.int64),
            self._check_reactivities(length),
        )

    def _check_partners(self, pairs: list[tuple[int, int]]) -> None:
        partners: dict[int, int] = {}
        for i, j in pairs:
            if i == j:
                raise ValueError(f"forced pair ({i}, {j}): a base cannot pair with itself")
            for base, other in ((i, j), (j, i)):
                if base in partners:
                    raise ValueError(
                        f"forced pair ({i}, {j}): base {base} is already paired with base "
                        f"{partners[base]}; a base has one partner"
                    )
                partners[base] = other
        for base in self.unpaired:
            if base in partners:
                raise ValueError(
                    f"base {base} is forced to be unpaired and to pair with base "
                    f"{partners[base]}; leave one out"
                )

    def _check_reactivities(self, length: int) -> NDArray[np.float64] | None:
        if self.reactivities is None:
            return None
        values = np.asarray(self.reactivities, np.float64)
        if values.shape != (length,):
            raise ValueError(
                f"reactivities {values.shape} of a sequence of {length} nucleotides: one number "
                "for each is needed, NaN where nothing was measured"
            )
        if np.isinf(values).any():
            raise ValueError(
                f"reactivity of base {np.flatnonzero(np.isinf(values))[0]} is infinite; write NaN "
                "where nothing was measured"
            )
        return values


def normalise(sequence: str) -> str:
    """The sequence in A, C, G, U, and N for what is none of them; T is U."""
    return "".join(
        letter if letter in _LETTERS else "N" for letter in sequence.upper().replace("T", "U")
    )


def may_pair(letters: str, decoder: Decoder) -> NDArray[np.bool_]:
    """Which pairs i < j the decoder may choose, (L, L).

    Args:
        letters: See :func:`normalise`.
        decoder: Its rules for letters and distances.
    """
    codes = np.array([_LETTERS.find(letter) for letter in letters], np.int64)
    rules = np.zeros((5, 5), np.bool_)  # the last row and column, -1, are for N
    canonical = decoder.canonical or decoder.method == "hybrid"
    for i, first in enumerate(_LETTERS):
        for j, second in enumerate(_LETTERS):
            rules[i, j] = not canonical or first + second in _CANONICAL
    places = np.arange(len(letters))
    spans = places - places[:, None]
    near = spans <= (len(letters) if decoder.max_span is None else decoder.max_span)
    allowed: NDArray[np.bool_] = rules[codes[:, None], codes] & (spans > decoder.hairpin) & near
    return allowed


def _broken_rule(letters: str, i: int, j: int, decoder: Decoder) -> str:
    """What is wrong with a forced pair; empty if nothing is."""
    both = letters[i] + letters[j]
    if "N" in both:
        return f"{both} cannot pair, as N and other ambiguous letters never do"
    if decoder.canonical and both not in _CANONICAL:
        return f"{both} is no canonical pair; leave it out, or decode with canonical: false"
    if j - i <= decoder.hairpin:
        return (
            f"{j - i - 1} bases lie between the two, but min_loop is {decoder.hairpin}; leave it "
            "out or lower min_loop"
        )
    if decoder.max_span is not None and j - i > decoder.max_span:
        return f"it spans {j - i} nt, but max_span is {decoder.max_span}; raise max_span"
    return ""


def _refuse_crossing(pairs: list[tuple[int, int]], decoder: Decoder) -> None:
    for (i, j), (k, m) in combinations(pairs, 2):  # sorted: i < k
        if k < j < m:
            raise ValueError(
                f"forced pairs ({i}, {j}) and ({k}, {m}) cross, but {decoder.method} has no "
                "pseudoknots; leave one out, or decode with 'matching'"
            )
