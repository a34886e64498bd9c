"""What a cell of a table says as a label: a number, a flag, a class, or a list of them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

NO_CLASS = -100  # what torch's cross entropy leaves out
_LARGEST = float(np.finfo(np.float32).max)
_MISSING = {"", "nan", "na"}
_FLAGS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0} | {
    "no": 0.0,
    "yes": 1.0,
}
_SEPARATORS = re.compile(r"\s*[,;]\s*|\s+")  # one each, so that nothing between two is missing
_LISTS = (list, tuple, np.ndarray)


class CellError(ValueError):
    """A cell that cannot be read; what reads the row adds place and column."""


class UnknownClassError(CellError):
    """A cell with a class that is not among those asked for."""


def is_list(cell: Any) -> bool:
    """Whether a cell is a list as JSON or Parquet have them."""
    return isinstance(cell, _LISTS)


def is_missing(cell: Any) -> bool:
    """Whether a cell says nothing: empty, ``nan``, ``NA`` in any case, NaN or None."""
    if isinstance(cell, str):
        return cell.strip().lower() in _MISSING
    return cell is None or (isinstance(cell, float | np.floating) and bool(np.isnan(cell)))


def show(cell: Any) -> str:
    """A cell in a message."""
    text = repr(cell)
    return text if len(text) <= 40 else f"{text[:37]}..."  # noqa: PLR2004


def number(cell: Any) -> float:
    """A finite number, or NaN where there is none.

    Raises:
        CellError: If the cell is something else.
    """
    if is_missing(cell):
        return float("nan")
    try:
        value = float(cell)
    except (TypeError, ValueError):
        raise CellError(f"{show(cell)} is no number; {_instead_of_a_number(cell)}") from None
    if abs(value) > _LARGEST:
        raise CellError(
            f"{show(cell)} is infinite or too large; correct it, or leave it empty if it is missing"
        )
    return value


def _instead_of_a_number(cell: Any) -> str:
    if is_list(cell) or (isinstance(cell, str) and cell.strip().startswith("[")):
        return "labels of nucleotides need TokenPrediction, several numbers several outputs"
    if isinstance(cell, str) and re.fullmatch(r"[-+]?\d+,\d+", cell.strip()):
        return "write the decimal point as a point"
    return "for classes use Multiclass, for yes and no Binary; leave it empty if it is missing"


def flag(cell: Any) -> float:
    """1 or 0, or NaN where there is neither.

    Raises:
        CellError: If the cell is something else.
    """
    if is_missing(cell):
        return float("nan")
    if (text := str(cell).strip().lower()) in _FLAGS:
        return _FLAGS[text]
    raise CellError(
        f"{show(cell)} is neither 0 nor 1 (nor true, false, yes, no); for classes use Multiclass, "
        "for numbers Regression"
    )


class Classes:
    """Classes by their names, or by their numbers.

    Numbers stand for classes also where there are names, unless names are numbers themselves.

    Args:
        names: Names in the order of the numbers; ``0`` ... where there are none.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = names
        self._numbers = {name: i for i, name in enumerate(names)}
        if not any(re.fullmatch(r"-?\d+", name) for name in names):
            self._numbers |= {str(i): i for i in range(len(names))}
        self.has_letters = any(len(name) == 1 for name in self._numbers)

    def number(self, cell: Any) -> int:
        """Number of the class, or ``NO_CLASS``.

        Raises:
            UnknownClassError: If there is no such class.
        """
        text = class_text(cell)
        if text in self._numbers:
            return self._numbers[text]
        if is_missing(cell) or text == str(NO_CLASS):
            return NO_CLASS
        raise UnknownClassError(text)

    def numbers(self, items: Sequence[Any]) -> NDArray[np.int64]:
        """Numbers of many classes."""
        try:  # nearly always: plain names, nothing missing
            return np.array([self._numbers[item] for item in items], np.int64)
        except (KeyError, TypeError):
            return np.array([self.number(item) for item in items], np.int64)

    def flag(self, cell: Any) -> float:
        """Whether a cell is the second of two names; :func:`flag` where it is neither."""
        code = self._numbers.get(class_text(cell))
        return flag(cell) if code is None else float(code)

    def flags(self, cell: Any) -> NDArray[np.float64]:
        """Which of the names a cell lists, as ``a;b`` or a list; or a list of a flag for each.

        Raises:
            UnknownClassError: If a name is unknown.
            CellError: If there is another number of flags.
        """
        items = split_names(cell)
        result = np.zeros(len(self.names))
        names = {name: i for i, name in enumerate(self.names)}
        if all(class_text(item) in names for item in items):
            result[[names[class_text(item)] for item in items]] = 1
            return result
        for item in items:
            text = class_text(item)
            if text not in names and text.lower() not in _FLAGS and not is_missing(item):
                raise UnknownClassError(text)
        return np.array([flag(item) for item in items])


def class_text(cell: Any) -> str:
    """The name of a class as text; whole numbers without a point."""
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell).strip()


def split_names(cell: Any) -> list[Any]:
    """The names in a cell: a list, JSON, or separated by semicolons."""
    if isinstance(cell, str) and not cell.strip().startswith("["):
        return [part.strip() for part in cell.split(";") if part.strip()]
    return split_cell(cell)


def split_cell(cell: Any, names: Sequence[str] = (), *, letters: bool = False) -> list[Any]:
    """The labels in a cell, one by one.

    Args:
        cell: A list, or text: JSON, or separated by blanks, commas or semicolons.
        names: Names of classes, in case they have letters that would otherwise separate.
        letters: Whether text without separators has a label in each letter.

    Raises:
        CellError: If it is neither.
    """
    if is_list(cell):
        return list(cell)
    if not isinstance(cell, str):
        raise CellError(
            f"{show(cell)} is a single value, not a list; name a column with lists, or use "
            "SequencePrediction with one output"
        )
    text, used = cell.strip(), set("".join(names))
    if text.startswith("[") and "[" not in used:
        return _parse_list(text)
    if not used & set(" ,;") and _SEPARATORS.search(text):
        return _SEPARATORS.split(text)
    return list(text) if letters and text not in names else [text]


def _parse_list(text: str) -> list[Any]:
    """A list in JSON, or as Python and numpy print it."""
    plain = re.sub(r"\b(nan|none|na)\b", "NaN", text, flags=re.IGNORECASE).replace("'", '"')
    for candidate in (text, plain):
        try:
            values = json.loads(candidate)
        except json.JSONDecodeError:
            continue
        if isinstance(values, list):
            return values
    inner = text.removeprefix("[").removesuffix("]").strip()
    if "[" in inner or not text.endswith("]"):
        raise CellError(f"{show(text)} is no list; write it as JSON, such as [[0.1, 2], [null, 3]]")
    return _SEPARATORS.split(inner) if inner else []


def grid(values: Sequence[Any], read: Callable[[Any], float]) -> NDArray[np.float64]:
    """Numbers of a list, (L,), or of a list of lists of the same length, (L, K).

    Args:
        values: The list; where a list in it is missing, all its numbers are.
        read: Reads each value, :func:`number` or :func:`flag`.

    Raises:
        CellError: If the lists differ in length, or a value cannot be read.
    """
    if read is number:
        try:  # nearly always: numbers and nothing else
            array = np.array(values, np.float64)
        except (TypeError, ValueError):
            pass
        else:
            if array.ndim <= 2 and not (np.abs(array) > _LARGEST).any():  # noqa: PLR2004
                return array
    lists = [value for value in values if is_list(value)]
    if not lists:
        return np.array([read(value) for value in values], np.float64)
    width = len(lists[0])
    rows = []
    for place, value in enumerate(values, 1):
        if is_list(value) and len(value) == width:
            rows.append([read(each) for each in value])
        elif is_list(value) or not is_missing(value):
            raise CellError(
                f"item {place} ({show(value)}) is no list of {width} as others are; give every "
                "token the same number of labels, null where one is missing"
            )
        else:
            rows.append([float("nan")] * width)
    return np.array(rows, np.float64)
