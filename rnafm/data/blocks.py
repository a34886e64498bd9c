"""The text of a FASTA file in blocks of whole records: unpacked, verified and hashed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

_CHUNK = 2 << 20  # few and large, since a thread waits for the interpreter's lock at each
_PART = 1 << 20  # letters that are parsed at a time
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


class Block(NamedTuple):
    """Some whole records.

    Attributes:
        text: Bytes, from one ``>`` at the start of a line to the next.
        position: Bytes of the file on disk that were read up to here.
    """

    text: bytes
    position: int

    def line_starts(self) -> NDArray[np.uint8]:
        """The first byte of every line; several times faster than searching for pairs of bytes."""
        letters = np.frombuffer(self.text, np.uint8)
        places = np.flatnonzero(letters == ord("\n")) + 1
        starts: NDArray[np.uint8] = letters[np.append(0, places[places < len(letters)])]
        return starts

    def parts(self) -> Iterator[Block]:
        """The same in parts of whole records, each small enough for the processor's cache."""
        start = 0
        while start < len(self.text):
            end = self.text.find(b"\n>", start + _PART) + 1 or len(self.text)
            yield self._replace(text=self.text[start:end])
            start = end

    def name_at(self, place: int) -> str:
        """Name of the record that a byte belongs to."""
        start = self.text.rfind(b"\n>", 0, place) + 1
        words = self.text[start + 1 : start + 1000].split(b"\n")[0].split()
        return words[0].decode("utf-8", "replace") if words else "(no name)"


class Blocks:
    """Reads a file once, in order.

    Args:
        path: The file, plain or gzip with any number of members.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.position = 0
        self._hash = xxhash.xxh3_128()

    @property
    def digest(self) -> str:
        """XXH3 (128 bits) of what was read so far, as it is on disk: ten times SHA-256's rate."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Block]:
        """The blocks.

        Raises:
            EOFError: At the end, if gzip data are cut.
            zlib.error: If gzip data are damaged.
        """
        parts: list[bytes] = []
        for piece in self._pieces():
            cut = piece.rfind(b"\n>") + 1
            if cut:
                yield Block(b"".join([*parts, piece[:cut]]), self.position)
                parts = []
            parts.append(piece[cut:])
        if any(parts):
            yield Block(b"".join(parts), self.position)

    def _pieces(self) -> Iterator[bytes]:
        """Text, in pieces that end anywhere."""
        chunks = self.chunks()
        first = next(chunks, b"")
        if first.startswith(b"\x1f\x8b"):
            yield from self._inflate(first, chunks)
        else:
            yield first
            yield from chunks

    def chunks(self) -> Iterator[bytes]:
        """The bytes on disk."""
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                self._hash.update(chunk)
                self.position += len(chunk)
                yield chunk

    def _inflate(self, first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The text inside the members of a gzip file; zlib compares length and checksum."""
        member, data, tail = zlib.decompressobj(wbits=31), first, first[-len(_BGZF_END) :]
        while True:
            yield member.decompress(data, 8 * _CHUNK)
            data = member.unconsumed_tail
            if member.eof:
                data = member.unused_data.lstrip(b"\0")  # padding is allowed after a member
            if not data:
                data = next(chunks, b"")
                tail = (tail + data)[-len(_BGZF_END) :]
                data = data.lstrip(b"\0") if member.eof else data
            if not data:
                break
            if member.eof:
                member = zlib.decompressobj(wbits=31)
        if not member.eof:
            yield member.flush()
        if not member.eof or (first[12:14] == b"BC" and tail != _BGZF_END):
            raise EOFError
