"""One cell of a table as the labels of a sequence or of its tokens."""

from __future__ import annotations

from contextlib import suppress
from itertools import filterfalse
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.label_cells import (
    NO_CLASS,
    CellError,
    Classes,
    class_text,
    flag,
    grid,
    is_list,
    is_missing,
    number,
    show,
    split_cell,
    split_names,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from rnafm.data.labels import LabelSpec


class LabelReader:
    """Reads the cells of label columns.

    Args:
        spec: What they have to be.
        num_columns: Columns with labels; each has a single output if there are several.
        prefix: Whether lists may be shorter than the sequence.
        letters_per_token: 3 if tokens are codons.
        outputs: Which numbers of each list are used; all if None.
    """

    def __init__(
        self,
        spec: LabelSpec,
        num_columns: int,
        *,
        prefix: bool,
        letters_per_token: int,
        outputs: Sequence[int] | None,
    ) -> None:
        self.spec, self.prefix, self.outputs = spec, prefix, outputs
        self.codons = letters_per_token > 1
        self.width = 1 if num_columns > 1 else spec.num_outputs
        names = spec.names if spec.is_binary else spec.output_names
        self.classes = Classes(names)
        self.names = names if spec.kind == "class" or spec.is_binary else ()
        self._value: Callable[[Any], float] = number
        if spec.kind == "flag":
            self._value = self.classes.flag if spec.is_binary else flag

    def read(self, cell: Any, length: int) -> NDArray[Any]:
        """Labels of a cell: of a sequence (C,) or (), of tokens (L, C) or (L,).

        Args:
            cell: The cell.
            length: Tokens of the sequence.

        Raises:
            UnknownClassError: If a class is not among those asked for.
            CellError: If the cell is something else than a label, or has another length.
        """
        if self.spec.level == "sequence":
            if self.spec.kind == "class":
                return np.array(self.classes.number(cell), np.int64)
            return self._of_sequence(cell).astype(np.float32)
        missing = self._is_missing(cell, length)
        if self.spec.kind == "class":
            codes = self.classes.numbers([] if missing else self._items(cell))
            return self._fit(codes, length, np.int64(NO_CLASS), missing=missing)
        values = self._of_tokens([] if missing else self._items(cell)).astype(np.float32)
        return self._fit(values, length, np.float32(np.nan), missing=missing)

    def found(self, row: Sequence[Any]) -> Iterator[str]:
        """The classes that cells have, known or not."""
        for cell in row:
            with suppress(CellError):
                yield from map(class_text, filterfalse(is_missing, self._found(cell)))

    def _found(self, cell: Any) -> list[Any]:
        if not is_list(cell) and is_missing(cell):
            return []
        if self.spec.level == "token":
            return self._items(cell)
        return [cell] if self.spec.kind == "class" else split_names(cell)

    def _is_missing(self, cell: Any, length: int) -> bool:
        """Whether a cell says nothing about any token; ``NA`` may be two of them."""
        if is_list(cell) or not is_missing(cell):
            return False
        letters = set(cell.strip()) if isinstance(cell, str) and self.names else set()
        return not (letters and letters <= set(self.names) and len(cell.strip()) == length)

    def _items(self, cell: Any) -> list[Any]:
        letters = self.spec.kind == "flag" or (
            self.spec.kind == "class" and self.classes.has_letters
        )
        return split_cell(cell, self.names, letters=letters)

    def _of_sequence(self, cell: Any) -> NDArray[np.float64]:
        """(1,) of one of several columns, (C,) of a single one."""
        if self.width == 1 and self.outputs is None:
            return np.array([self._value(cell)])
        if not is_list(cell) and is_missing(cell):
            return np.full(self.width, np.nan)
        if self.spec.kind == "flag" and self.spec.names and self.outputs is None:
            return self._choose(self.classes.flags(cell))
        values = grid(split_cell(cell), self._value)
        if values.ndim > 1:
            raise CellError(
                f"{show(cell)} is a list of lists; labels per nucleotide need TokenPrediction"
            )
        return self._choose(values)

    def _of_tokens(self, items: list[Any]) -> NDArray[np.float64]:
        """(L, C) of lists of numbers, as long as they are."""
        values = grid(items, self._value)
        if not values.size:
            return np.empty((0, self.width))
        if values.ndim > 1:
            return self._choose(values)
        if self.width > 1 or self.outputs is not None:
            raise CellError(
                f"has a single number for each token, but {self.width} outputs are asked for; "
                "write a list of numbers for each token, or name a column for each output"
            )
        return values[:, None]

    def _choose(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The outputs that are used; (..., K) -> (..., C)."""
        found = values.shape[-1]
        if self.outputs is not None:
            if not all(0 <= output < found for output in self.outputs):
                raise CellError(
                    f"has lists of {found} numbers, and outputs ({list(self.outputs)}) goes "
                    "beyond; count outputs from 0"
                )
            return values[..., list(self.outputs)]
        if found != self.width:
            raise CellError(
                f"has lists of {found} numbers for {self.width} outputs; set num_outputs to "
                f"{found}, or choose some of them with outputs"
            )
        return values

    def _fit(
        self, labels: NDArray[Any], length: int, fill: np.generic, *, missing: bool
    ) -> NDArray[Any]:
        """Labels of all tokens: as they are, or with ``fill`` behind."""
        count = len(labels)
        if count == length:
            return labels
        if missing or (count < length and self.prefix):
            result = np.full((length, *labels.shape[1:]), fill, labels.dtype)
            result[:count] = labels
            return result
        unit = "codons" if self.codons else "nucleotides"
        remedy = f"give one for each of the {unit}, null where it is missing"
        if count == 1:
            remedy += ", or use SequencePrediction for labels of sequences"
        elif count < length:
            remedy += ", or set label_length to prefix if these are the first ones"
        elif self.codons and count == 3 * length:
            remedy += "; these seem to be labels of nucleotides"
        raise CellError(f"{count:,} labels for a sequence of {length:,} {unit}; {remedy}")
