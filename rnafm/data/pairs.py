"""Base pairs as arrays: their check, and contact maps to pairs and back.

Pairs are int64 (P, 2), ``i < j``, sorted, nucleotides counted from 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class StructureError(ValueError):
    """A structure that is not one.

    Args:
        message: Place, what is wrong and what to do.
        reason: The same in a word or two, to count by.
    """

    def __init__(self, message: str, reason: str = "structure") -> None:
        super().__init__(message)
        self.reason = reason


def contact_map(pairs: NDArray[np.integer], length: int) -> NDArray[np.bool_]:
    """Mark the pairs in a symmetric map; nucleotides may have several partners.

    Args:
        pairs: The pairs, (P, 2).
        length: Number of nucleotides.

    Returns:
        Which nucleotides pair, bool (length, length).
    """
    i, j = valid_pairs(pairs, length, allow_multiplets=True).T
    contacts = np.zeros((length, length), np.bool_)
    contacts[i, j] = contacts[j, i] = True
    return contacts


def pairs_from_contact_map(contacts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Read the pairs off a symmetric map.

    Args:
        contacts: Which nucleotides pair, bool (L, L).

    Returns:
        The pairs, int64 (P, 2).

    Raises:
        StructureError: If the map is not square and symmetric, or has an entry on its diagonal.
    """
    if contacts.ndim != 2 or not np.array_equal(contacts, contacts.T):  # noqa: PLR2004 - (L, L)
        raise StructureError(
            f"contact map {contacts.shape}: must be square and symmetric; pass map | map.T"
        )
    if contacts.diagonal().any():
        base = int(contacts.diagonal().argmax()) + 1
        raise StructureError(f"contact map: base {base} pairs with itself; clear the diagonal")
    return np.argwhere(np.triu(contacts)).astype(np.int64)


def multiplets(pairs: NDArray[np.integer]) -> NDArray[np.int64]:
    """Nucleotides that have several partners, sorted, int64 (M,)."""
    counts = np.bincount(np.asarray(pairs, np.int64).ravel())
    return np.flatnonzero(counts > 1).astype(np.int64)


def valid_pairs(
    pairs: NDArray[np.integer] | Sequence[Sequence[int]],
    length: int,
    place: str = "",
    *,
    index_base: int = 0,
    allow_multiplets: bool = False,
) -> NDArray[np.int64]:
    """Check pairs and bring them to the form that is used everywhere.

    Args:
        pairs: Pairs in any order; (i, j) may be there again as (j, i).
        length: Number of nucleotides.
        place: What a message starts with.
        index_base: What the first nucleotide is called: 0 or 1.
        allow_multiplets: Whether a nucleotide may have several partners.

    Returns:
        The pairs, int64 (P, 2), each once, ``i < j``, sorted, counted from 0.

    Raises:
        StructureError: If a pair lies outside the sequence, joins a nucleotide to itself, or a
            nucleotide has several partners.
    """
    ends = np.sort(np.asarray(pairs, np.int64).reshape(-1, 2) - index_base, axis=1)
    at = f"{place}: " if place else ""
    outside = (ends[:, 0] < 0) | (ends[:, 1] >= length)
    if outside.any():
        i, j = (ends[outside.argmax()] + index_base).tolist()
        raise StructureError(
            f"{at}pair ({i}, {j}): lies outside of {index_base} to {length - 1 + index_base}; "
            "correct it, or index_base, which says whether bases are counted from 0 or 1",
            "out of range",
        )
    itself = ends[:, 0] == ends[:, 1]
    if itself.any():
        base = int(ends[itself.argmax(), 0]) + 1
        raise StructureError(
            f"{at}base {base} (counted from 1): pairs with itself; remove the pair", "self pair"
        )
    ends = np.stack(np.divmod(np.unique(ends[:, 0] * length + ends[:, 1]), max(length, 1)), 1)
    if not allow_multiplets and len(several := multiplets(ends)):
        base = int(several[0])
        partners = ends[(ends == base).any(1)]
        names = ", ".join(str(partner + 1) for partner in partners[partners != base].tolist())
        raise StructureError(
            f"{at}base {base + 1} (counted from 1): has several partners ({names}); keep one, or "
            "use base_pairs in CSV and allow multiplets",
            "multiplets",
        )
    return ends
