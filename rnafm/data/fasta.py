"""FASTA files, plain or gzip: read from start to end with pyfastx, written all or nothing."""

from __future__ import annotations

import gzip
import os
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, TypedDict, cast

import numpy as np
import pyfastx

from rnafm.data.blocks import Block, Blocks
from rnafm.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Record(NamedTuple):
    """One sequence of a FASTA file.

    Attributes:
        name: First word of the header, without ``>``.
        sequence: Letters as they are in the file, lines joined.
        description: What follows the name in the header.
    """

    name: str
    sequence: str
    description: str = ""

    @property
    def header(self) -> str:
        """Name and description."""
        return f"{self.name} {self.description}" if self.description else self.name


class Source(TypedDict):
    """What identifies a file: its content decides, size and time are short cuts."""

    name: str
    size: int
    mtime_ns: int
    xxh3: str


class FastaFile:
    """A FASTA file, plain or gzip, that is read from start to end and verified on the way.

    ``pyfastx.Fastx`` parses the text in blocks of some MB, out of memory, while a thread unpacks
    the next one. So there is no index that could be out of date; each pass opens the file anew and
    shares nothing with other processes; and what ``Fastx`` passes over in silence is an error:
    gzip data that are cut or damaged, NUL bytes, and lines of a sequence that start with ``@`` or
    ``+``. An error is raised when its place is reached: rely on what was read only once the loop
    has ended.

    Args:
        path: The file.

    Attributes:
        position: Bytes of the file, as it is on disk, that this pass has read.
        source: What identifies the content, known at the end of a pass.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder; while reading, if it holds no records, does not start like
            FASTA, is cut, damaged, not UTF-8, or was changed meanwhile.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"{path}: there is no such file; correct the path")
        if self.path.is_dir():
            raise ValueError(f"{path}: is a folder; name the FASTA files in it")
        self.size = self.path.stat().st_size
        self.position = 0
        self.source: Source | None = None

    def __iter__(self) -> Iterator[Record]:
        """Stream the records."""
        for batch in self.batches():
            yield from map(Record._make, batch)

    def batches(self) -> Iterator[list[tuple[str, str, str]]]:
        """Stream the records as lists of plain tuples, which is faster."""
        before, process, num_records = self.path.stat(), os.getpid(), 0
        blocks = Blocks(self.path)
        pending = iter(blocks)
        with ThreadPoolExecutor(1, "unpack") as pool, _memory_file() as (file, name):
            try:
                future = pool.submit(next, pending, None)
                while block := future.result():
                    future = pool.submit(next, pending, None)
                    if not num_records:
                        block = self._without_blank_lines(block)
                    for part in block.parts():
                        records = self._parse(part, file, name)
                        num_records += len(records)
                        self.position = block.position
                        yield records
                    if os.getpid() != process:
                        raise RuntimeError(
                            f"{self.path}: another process has started this pass; read the file "
                            "anew in each process"
                        )
            except (EOFError, zlib.error) as error:
                what = "end too early" if isinstance(error, EOFError) else f"are damaged ({error})"
                raise ValueError(
                    f"{self.path}: the gzip data {what}, after {num_records:,} records; fetch or "
                    "compress the file again"
                ) from error
        if not num_records:
            raise ValueError(f"{self.path}: holds no records; is this the right file?")
        after = self.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ValueError(f"{self.path}: was changed while it was read; read it again")
        self.source = Source(
            name=self.path.name,
            size=after.st_size,
            mtime_ns=after.st_mtime_ns,
            xxh3=blocks.digest,
        )

    def is_(self, source: Source) -> bool:
        """Whether the file is the one that was read; its content decides if the time differs."""
        stat = self.path.stat()
        if (self.path.name, stat.st_size) != (source["name"], source["size"]):
            return False
        if stat.st_mtime_ns == source["mtime_ns"]:
            return True
        blocks = Blocks(self.path)
        for _ in blocks.chunks():
            pass
        return blocks.digest == source["xxh3"]

    def _without_blank_lines(self, block: Block) -> Block:
        """The first block, which has to start with a record."""
        text = block.text.lstrip(b"\r\n")
        if text and not text.startswith(b">"):
            line = text.split(b"\n")[0].decode("utf-8", "replace")[:40]
            remedy = (
                "convert FASTQ to FASTA, for instance with: pyfastx fq2fa"
                if text.startswith(b"@")
                else "remove what stands before the first record, or unpack the file"
            )
            raise ValueError(f"{self.path}: starts with {line!r}, but FASTA with '>'; {remedy}")
        return block._replace(text=text)

    def _parse(self, block: Block, file: IO[bytes], name: str) -> list[tuple[str, str, str]]:
        """The records of a block, which goes through a file in memory since pyfastx reads files."""
        text = block.text
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n")
        file.seek(0)
        file.write(text)
        file.truncate()
        file.flush()
        reader = pyfastx.Fastx(name, format="fasta", comment=True)
        try:
            records: list[tuple[str, str, str]] = list(reader)
        except UnicodeDecodeError as error:
            raise self._not_text(block) from error
        self._check_parse(block, len(records))
        if records and records[0][2] is None:  # what pyfastx says before the first description
            records = [(name, sequence, about or "") for name, sequence, about in records]
        return records

    def _check_parse(self, block: Block, num_records: int) -> None:
        """Refuse what pyfastx takes for the end of a sequence, without an error."""
        if b"\0" in block.text:
            raise ValueError(
                f"{self.path}:{block.name_at(block.text.index(0))}: has a NUL byte; is this a text "
                "file? If so, remove it with: tr -d '\\000'"
            )
        counts = np.bincount(block.line_starts(), minlength=256)
        for sign in "+@":
            if counts[ord(sign)]:
                name = block.name_at(block.text.index(f"\n{sign}".encode()))
                raise ValueError(
                    f"{self.path}:{name}: has a line that starts with {sign!r}, where FASTQ goes "
                    "on; remove that letter"
                )
        if num_records != counts[ord(">")]:
            raise ValueError(
                f"{self.path}:{block.name_at(len(block.text))}: is not among the {num_records:,} "
                f"records that pyfastx reads of {counts[ord('>')]:,} here; if it is empty, remove "
                "it"
            )

    def _not_text(self, block: Block) -> ValueError:
        try:
            block.text.decode()
        except UnicodeDecodeError as error:
            record = block.name_at(error.start)
        else:
            record = "?"
        return ValueError(
            f"{self.path}:{record}: has bytes that are not UTF-8; convert the file, for instance "
            "with: iconv -f latin1 -t utf-8"
        )


@contextmanager
def _memory_file() -> Iterator[tuple[IO[bytes], str]]:
    """A file without a disk, and a path that opens it; a temporary file where there is none."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").exists():
        with os.fdopen(os.memfd_create("fasta"), "wb") as file:
            yield file, f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile("wb") as file:
            yield cast("IO[bytes]", file), file.name


def read_fasta(path: Path | str) -> Iterator[Record]:
    """Stream the records of a FASTA file, plain or gzip.

    Args:
        path: The file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: See :class:`FastaFile`. Cut or damaged files are noticed where the damage is.
    """
    return iter(FastaFile(path))


def write_fasta(path: Path | str, records: Iterable[Record]) -> int:
    """Write a FASTA file: gzip if its name ends in ``.gz``, and wholly or not at all.

    The same records give the same bytes at any time.

    Args:
        path: The file; replaced if it is there.
        records: What to write, each sequence on one line.

    Returns:
        The number of records.

    Raises:
        ValueError: If a name or sequence could not be read back.
    """
    path = Path(path)
    with atomic(path) as temporary, temporary.open("wb") as file:
        if path.suffix != ".gz":
            return _write(file, records, path)
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            return _write(cast("IO[bytes]", packed), records, path)


def _write(file: IO[bytes], records: Iterable[Record], path: Path) -> int:
    count = 0
    for count, record in enumerate(records, 1):
        if len(record.name.split()) != 1 or len(record.header.splitlines()) != 1:
            raise ValueError(
                f"{path}:record {count}: the name {record.name!r} must be one word and the header "
                f"{record.header!r} one line; take out the white space"
            )
        if record.sequence[:1] in tuple(">@+") or len(record.sequence.split()) > 1:
            raise ValueError(
                f"{path}:{record.name}: a sequence has no white space and starts with a letter, "
                f"not with {record.sequence[:10]!r}; correct it"
            )
        file.write(f">{record.header}\n{record.sequence}\n".encode())
    return count
