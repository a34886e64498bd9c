"""Several token stores as one."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rnafm.data.store import SequenceStore
    from rnafm.data.vocabulary import Vocabulary


class Mixture:
    """The sequences of one or more stores, numbered one store after the other.

    Args:
        stores: At least one, all of the same vocabulary.

    Raises:
        ValueError: If the vocabularies differ.
    """

    def __init__(self, stores: Sequence[SequenceStore]) -> None:
        self.stores = list(stores)
        for store in self.stores[1:]:
            if store.vocabulary != self.vocabulary:
                raise ValueError(
                    f"{store.path}: is in the vocabulary {store.vocabulary.name!r}, "
                    f"{self.stores[0].path} in {self.vocabulary.name!r}; prepare both with the same"
                )
        self._begins = np.cumsum([0, *map(len, self.stores)])

    def __len__(self) -> int:
        """Number of sequences."""
        return int(self._begins[-1])

    @property
    def vocabulary(self) -> Vocabulary:
        """What the tokens mean."""
        return self.stores[0].vocabulary

    @cached_property
    def lengths(self) -> NDArray[np.integer]:
        """Number of tokens of each sequence, int32 (B,), or int64; in memory."""
        lengths = [store.lengths for store in self.stores]
        return np.concatenate(lengths) if len(lengths) > 1 else lengths[0]

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """Hash of each sequence, the same on every machine, uint64 (B,)."""
        hashes = [store.hashes for store in self.stores]
        return np.concatenate(hashes) if len(hashes) > 1 else hashes[0]

    @property
    def store_numbers(self) -> NDArray[np.int32]:
        """Which store each sequence is of, (B,)."""
        return np.repeat(np.arange(len(self.stores), dtype=np.int32), np.diff(self._begins))

    def column(self, name: str) -> tuple[NDArray[np.int64], list[str] | None]:
        """A column of all stores; see ``SequenceStore.column``.

        Numbers without names, such as those of clusters, are moved apart: clusters were made
        within a store.

        Raises:
            ValueError: If a store has no such column, or one has names and another numbers.
        """
        numbers: dict[str, int] = {"": 0}
        parts, next_code, named = [], 0, set()
        for store in self.stores:
            codes, categories = store.column(name)
            named.add(categories is not None)
            if categories is None:
                parts.append(codes.astype(np.int64) + next_code)
                next_code = int(parts[-1].max(initial=next_code - 1)) + 1
            else:
                table = [numbers.setdefault(category, len(numbers)) for category in categories]
                parts.append(np.array(table, np.int64)[codes])
        if len(named) > 1:
            raise ValueError(
                f"column {name!r} has names in one store and numbers in another; use one kind"
            )
        return np.concatenate(parts), list(numbers) if named == {True} else None

    def places(
        self, indices: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Where some sequences are: store, first token in it and number of tokens; each (b,)."""
        if len(self.stores) == 1:
            offsets = self.stores[0].offsets
            begins = offsets[indices]
            return np.zeros_like(indices), begins, offsets[indices + 1] - begins
        numbers = np.searchsorted(self._begins, indices, side="right") - 1
        begins, ends = np.empty_like(indices), np.empty_like(indices)
        for number, store in enumerate(self.stores):
            chosen = np.flatnonzero(numbers == number)
            own = indices[chosen] - self._begins[number]
            begins[chosen], ends[chosen] = store.offsets[own], store.offsets[own + 1]
        return numbers, begins, ends - begins

    def windows(
        self,
        numbers: NDArray[np.int64],
        begins: NDArray[np.int64],
        lengths: NDArray[np.int64],
    ) -> list[memoryview]:
        """Tokens of windows of sequences, without a copy.

        Args:
            numbers: The store of each, (b,).
            begins: Its first token in the store, (b,).
            lengths: Its number of tokens, (b,).
        """
        # Slices of these memoryviews take half the time of slices of arrays.
        sources = [store.tokens.data for store in self.stores]
        ends = (begins + lengths).tolist()
        if len(sources) == 1:
            (source,) = sources
            return [source[a:b] for a, b in zip(begins.tolist(), ends, strict=True)]
        return [
            sources[number][a:b]
            for number, a, b in zip(numbers.tolist(), begins.tolist(), ends, strict=True)
        ]
