"""The text of a FASTA file in blocks of whole records: unpacked, verified and hashed."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LONGEST_RECORD = 64 << 20  # bytes of text; RNAcentral takes no sequence of more than a million
LONGEST_HEADER = 1 << 20
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


class EndlessRecord(ValueError):  # noqa: N818  # says what was found, as the others here do
    """A record that is longer than any; with the text that it starts in.

    Args:
        block: The text so far.
        place: A byte of the text that belongs to the record.
    """

    def __init__(self, block: Block, place: int) -> None:
        super().__init__(block.name_at(place))
        self.block, self.place = block, place


class Blocks:
    """Reads a file once, in order and in little memory, whatever is in it.

    Where a block ends depends on the text alone: a plain file has the blocks of its gzip file.

    Args:
        path: The file, plain or gzip with any number of members.
        size: Least number of bytes of a block, but for the last.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path, self.size = path, size or _CHUNK
        self.position = 0
        self._hash = xxhash.xxh3_128()

    @property
    def digest(self) -> str:
        """XXH3 (128 bits) of what was read so far, as it is on disk: ten times SHA-256's rate."""
        return self._hash.hexdigest()

    def __iter__(self) -> Iterator[Block]:
        """The blocks.

        Raises:
            EndlessRecord: If a record is much longer than :data:`LONGEST_RECORD`.
            EOFError: At the end, if gzip data are cut.
            zlib.error: If gzip data are damaged.
        """
        text, looked = bytearray(), self.size
        try:
            for piece in self._pieces():
                text += piece
                while (cut := text.find(b"\n>", looked) + 1) > 0:
                    yield self._cut(text, cut)
                    looked = self.size
                looked = max(looked, len(text) - 1)
                if looked > self.size + LONGEST_RECORD:
                    raise EndlessRecord(Block(bytes(text), self.position), self.size)
        except (EOFError, zlib.error):
            if cut := text.rfind(b"\n>") + 1:  # the records before the damage are whole
                yield self._cut(text, cut)
            raise
        if text:
            yield self._cut(text, len(text))

    def _cut(self, text: bytearray, end: int) -> Block:
        """Take a block from the start of the text."""
        block = Block(bytes(memoryview(text)[:end]), self.position)
        del text[:end]
        return block

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
