"""FASTA files, plain or gzip: read from start to end with pyfastx, written all or nothing."""

from __future__ import annotations

import gzip
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, TypedDict, cast

from rnafm.data.blocks import Blocks, EndlessRecord
from rnafm.data.parsing import Parser, too_long
from rnafm.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rnafm.data.blocks import Block


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
        process, num_records, source = os.getpid(), 0, str(self.path)
        with ThreadPoolExecutor(1, "unpack") as pool, closing(Parser()) as parser:
            pending = self.blocks()
            try:
                future = pool.submit(next, pending, None)
                while block := future.result():
                    future = pool.submit(next, pending, None)
                    for part in block.parts():
                        records = parser.parse(part, source)
                        num_records += len(records)
                        self.position = block.position
                        yield records
                    if os.getpid() != process:
                        raise RuntimeError(
                            f"{self.path}: another process has started this pass; read the file "
                            "anew in each process"
                        )
            except (EOFError, zlib.error) as error:
                raise self.damaged(error, num_records) from error

    def blocks(self, size: int = 0) -> Iterator[Block]:
        """Stream the text in blocks of whole records, each at least of a size (or 2 MiB).

        Raises:
            EOFError: At the end, if gzip data are cut; see :meth:`damaged`.
            zlib.error: If gzip data are damaged.
            ValueError: See the class.
        """
        before, blocks = self.path.stat(), Blocks(self.path, size)
        first = True
        try:
            for found in blocks:
                block = self._without_blank_lines(found) if first else found
                if block.text:
                    first = False
                    yield block
        except EndlessRecord as error:
            if first:
                self._without_blank_lines(error.block)
            raise too_long(str(error), str(self.path)) from error
        if first:
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

    def damaged(self, error: Exception, num_records: int) -> ValueError:
        """What to say of gzip data that are cut or damaged, after so many records."""
        what = "end too early" if isinstance(error, EOFError) else f"are damaged ({error})"
        return ValueError(
            f"{self.path}: the gzip data {what}, after {num_records:,} records; fetch or "
            "compress the file again"
        )

    def is_(self, source: Source) -> bool:
        """Whether the file is the one that was read; its content decides if the time differs."""
        stat = self.path.stat()
        if (self.path.name, stat.st_size) != (source["name"], source["size"]):
            return False
        if stat.st_mtime_ns == source["mtime_ns"]:
            return True
        return self.identify()["xxh3"] == source["xxh3"]

    def identify(self) -> Source:
        """What identifies the content; reads the file, whatever is in it."""
        stat, blocks = self.path.stat(), Blocks(self.path)
        for _ in blocks.chunks():
            pass
        return Source(
            name=self.path.name, size=stat.st_size, mtime_ns=stat.st_mtime_ns, xxh3=blocks.digest
        )

    def _without_blank_lines(self, block: Block) -> Block:
        """The first block, which has to start with a record."""
        text = block.text.lstrip(b"\r\n")
        if text and not text.startswith(b">"):
            line = text[:400].split(b"\n")[0].decode("utf-8", "replace")[:40]
            remedy = (
                "convert FASTQ to FASTA, for instance with: pyfastx fq2fa"
                if text.startswith(b"@")
                else "remove what stands before the first record, or unpack the file"
            )
            raise ValueError(f"{self.path}: starts with {line!r}, but FASTA with '>'; {remedy}")
        return block._replace(text=text)


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
