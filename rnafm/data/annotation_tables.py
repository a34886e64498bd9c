"""RNAcentral's and Rfam's tables, read in blocks of lines that numpy takes apart."""

from __future__ import annotations

import re
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from rnafm.data.blocks import Blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_SIZE = 8 << 20  # bytes of text at a time
_LONGEST = 64 << 20  # bytes of a line
_TAB, _NEWLINE, _RETURN, _LINK = b"\t\n\r_"
_DIGITS = 9
_URS = 13  # letters of an identifier: URS and ten hexadecimal digits
_HEXADECIMAL = np.full(256, -1, np.int64)
_HEXADECIMAL[np.frombuffer(b"0123456789ABCDEF", np.uint8)] = np.arange(16)
_HEXADECIMAL[np.frombuffer(b"abcdef", np.uint8)] = np.arange(10, 16)


class Kind(NamedTuple):
    """A kind of table.

    Attributes:
        name: What the file is called, without its ending.
        columns: Number of columns.
        first: What its first line looks like.
    """

    name: str
    columns: int
    first: str


KINDS = (
    Kind("id_mapping", 6, r"URS\w{10}(_\d+)?\t[^\t]*\t[^\t]*\t\d+\t[^\t]*\t[^\t]*\r?$"),
    Kind("rfam_annotations", 9, r"URS\w{10}(_\d+)?\tRF\d{5}\t[^\t]*(\t[^\t]*){6}\r?$"),
    Kind("clan_membership", 2, r"CL\d{5}\tRF\d{5}\r?$"),
)


@dataclass(frozen=True)
class Fields:
    """Parts of a text.

    Args:
        text: Bytes, with some more behind the last part, uint8.
        starts: Where each part starts, int64 (R,).
        ends: Where it ends, int64 (R,).
    """

    text: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> Fields:
        """Some of the parts."""
        return Fields(self.text, self.starts[rows], self.ends[rows])

    def text_at(self, row: int) -> str:
        """One of the parts."""
        return self.text[self.starts[row] : self.ends[row]].tobytes().decode(errors="replace")

    def strings(self) -> list[str]:
        """The parts."""
        text = self.text.tobytes()
        pairs = zip(self.starts.tolist(), self.ends.tolist(), strict=True)
        return [text[start:end].decode(errors="replace") for start, end in pairs]

    def numbers(self) -> NDArray[np.int64]:
        """Values of decimal numbers of up to 9 digits; -1 for what is none, int64 (R,)."""
        lengths = self.ends - self.starts
        wrong = (lengths == 0) | (lengths > _DIGITS)
        numbers = np.zeros(len(lengths), np.int64)
        for k in range(min(int(lengths.max(initial=0)), _DIGITS)):  # columns are faster than rows
            inside = lengths > k
            digits = self.text[self.starts + k * inside] - np.uint8(ord("0"))
            wrong |= (digits > 9) & inside  # noqa: PLR2004
            numbers = np.where(inside, 10 * numbers + digits, numbers)
        numbers[wrong] = -1
        return numbers

    def identifiers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of RNAcentral identifiers such as ``URS00008314B2`` or ``URS00008314B2_9606``.

        Returns:
            The number of each, -1 for what is no identifier, and the taxid behind it, -1 where
            there is none, both int64 (R,).
        """
        lengths = self.ends - self.starts
        right = lengths >= _URS
        for k, letter in enumerate(b"URS"):
            right &= self.text[self.starts + k] == letter
        numbers = np.zeros(len(lengths), np.int64)
        for k in range(3, _URS):
            digits = _HEXADECIMAL[self.text[self.starts + k]]
            right &= digits >= 0
            numbers = 16 * numbers + digits
        taxids = np.full(len(numbers), -1)
        longer = np.flatnonzero(right & (lengths > _URS))
        ends = self.starts[longer] + _URS
        taxids[longer] = Fields(self.text, ends + 1, self.ends[longer]).numbers()
        right[longer] &= (self.text[ends] == _LINK) & (taxids[longer] >= 0)
        numbers[~right] = taxids[~right] = -1
        return numbers, taxids

    def codes(self, categories: dict[str, int]) -> NDArray[np.int32]:
        """Number the parts; new ones are added to the categories."""
        lengths = self.ends - self.starts
        width = int(lengths.max(initial=0))
        weights = np.random.default_rng(0).integers(1, 2**63, width, np.uint64)
        hashes, letters = np.zeros(len(lengths), np.uint64), []
        for k in range(width):
            inside = lengths > k
            letters.append(np.where(inside, self.text[self.starts + k * inside], 0))
            hashes += weights[k] * letters[k]
        _, first, groups = np.unique(hashes, return_index=True, return_inverse=True)
        if any((letter != letter[first[groups]]).any() for letter in letters):  # one hash for two
            _, first, groups = np.unique(
                np.stack(letters, 1), axis=0, return_index=True, return_inverse=True
            )
        found = np.zeros(len(first), np.int32)
        for group in np.argsort(first):
            name = self.text_at(int(first[group]))
            found[group] = categories.setdefault(name, len(categories))
        return found[groups]


def fields_of(words: list[bytes]) -> Fields:
    """Words as parts of a text."""
    lengths = np.fromiter(map(len, words), np.int64, len(words))
    ends = np.cumsum(lengths)
    return Fields(np.frombuffer(b"".join(words) + bytes(32), np.uint8), ends - lengths, ends)


class Table:
    """A table that is read once, plain or gzip.

    Args:
        path: The file.

    Attributes:
        kind: Which table it is.
        num_rows: Rows read so far.
        position: Bytes of the file read so far.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none of the known tables; while reading, if it is damaged or a row has
            another number of columns, with the line.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file; correct the path")
        self.path, self.num_rows, self.position = path, 0, 0
        self.kind = self._recognised()

    def _recognised(self) -> Kind:
        text = next(self._texts(1), b"")
        line = text.partition(b"\n")[0].decode(errors="replace")
        for kind in KINDS:
            if re.match(kind.first, line):
                return kind
        for kind in KINDS:
            if kind.name in self.path.name:
                return kind
        raise ValueError(
            f"{self.path}: is none of RNAcentral's and Rfam's tables (first line: {line[:60]!r}); "
            f"name {', '.join(kind.name for kind in KINDS)} tables, each .tsv or .txt, also .gz"
        )

    def __iter__(self) -> Iterator[list[Fields]]:
        """The columns of some rows at a time."""
        texts = self._texts(_SIZE)
        with ThreadPoolExecutor(1, "unpack") as pool:
            future = pool.submit(next, texts, None)
            while text := future.result():
                future = pool.submit(next, texts, None)
                columns = self._columns(text)
                yield columns
                self.num_rows += len(columns[0].starts)
        if not self.num_rows:
            raise ValueError(f"{self.path}: holds no rows; is this the right file?")

    def bad_row(self, row: int, what: str) -> ValueError:
        """An error at a row of those just read."""
        return ValueError(
            f"{self.path}:{self.num_rows + row + 1}: {what}; correct the line or fetch the table "
            "again"
        )

    def _texts(self, size: int) -> Iterator[bytes]:
        """Whole lines, at least so many bytes at a time."""
        blocks, text = _Pieces(self.path), bytearray()
        try:
            for piece in blocks.pieces():
                text += piece
                end = text.rfind(b"\n", -len(piece)) + 1 if len(text) >= size and piece else 0
                if end:
                    self.position = blocks.position
                    yield bytes(text[:end])
                    del text[:end]
                elif len(text) > size + _LONGEST:
                    raise ValueError(
                        f"{self.path}: has a line of more than {_LONGEST:,} bytes; is this the "
                        "right file?"
                    )
        except (EOFError, zlib.error) as error:
            what = "end too early" if isinstance(error, EOFError) else f"are damaged ({error})"
            raise ValueError(
                f"{self.path}: the gzip data {what}, after {self.num_rows:,} rows; fetch the table "
                "again"
            ) from error
        if text:
            yield bytes(text) if text.endswith(b"\n") else bytes(text) + b"\n"

    def _columns(self, text: bytes) -> list[Fields]:
        letters = np.frombuffer(text + bytes(32), np.uint8)
        ends = np.flatnonzero(letters == _NEWLINE)
        starts = np.append(0, ends[:-1] + 1)
        tabs, number = np.flatnonzero(letters == _TAB), self.kind.columns
        counts = np.diff(np.searchsorted(tabs, ends), prepend=0)
        if (counts != number - 1).any():
            row = int((counts != number - 1).argmax())
            raise self.bad_row(row, f"has {counts[row] + 1} columns, {self.kind.name} has {number}")
        ends = ends - (letters[np.maximum(ends - 1, 0)] == _RETURN)
        edges = tabs.reshape(len(ends), number - 1)
        return [
            Fields(
                letters,
                starts if i == 0 else edges[:, i - 1] + 1,
                ends if i == number - 1 else edges[:, i],
            )
            for i in range(number)
        ]


class _Pieces(Blocks):
    """The text of a file in pieces that end anywhere."""

    def pieces(self) -> Iterator[bytes]:
        return self._pieces()
