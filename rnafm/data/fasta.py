"""FASTA files, plain or gzip: read from start to end with pyfastx, written all or nothing."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, TypedDict

import pyfastx

from rnafm.data.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_GZIP = b"\x1f\x8b"
_HEAD = 1 << 16  # bytes looked at before the first record


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
    """What identifies a file that was read: its content decides, the time is a short cut."""

    name: str
    size: int
    mtime_ns: int
    sha256: str


class FastaFile:
    """A FASTA file, plain or gzip, that is read from start to end and checked on the way.

    Records stream through ``pyfastx.Fastx``: there is no index beside the file that could be out
    of date, and each pass opens the file anew, so that nothing is shared with other processes.

    ``Fastx`` alone ends without an error where gzip data are cut or damaged, and loses records
    where a line of a sequence starts with ``@`` or ``+``. A thread therefore reads the same bytes
    again, checks them, counts the headers and takes the SHA-256. What it finds is raised *after
    the last record*: use what was read only once the loop has ended.

    Args:
        path: The file.
        uppercase: Whether lower-case letters are read as upper case.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is a folder, is empty or does not start like FASTA; while reading, if it
            is cut, damaged, not UTF-8, or was changed meanwhile.
    """

    def __init__(self, path: Path | str, *, uppercase: bool = False) -> None:
        self.path, self.uppercase = Path(path), uppercase
        if not self.path.exists():
            raise FileNotFoundError(f"{path}: there is no such file; correct the path")
        if self.path.is_dir():
            raise ValueError(f"{path}: is a folder; name the FASTA files in it")
        self.is_gzip = self._check_head()
        self.size = self.path.stat().st_size
        self.source: Source | None = None
        self._watch: Watch | None = None

    def __iter__(self) -> Iterator[Record]:
        """Stream the records; ``source`` is known afterwards."""
        before = self.path.stat()
        num_records = 0
        watch = self._watch = Watch(self.path, is_gzip=self.is_gzip)
        watch.start()
        try:
            reader = pyfastx.Fastx(
                str(self.path), format="fasta", uppercase=self.uppercase, comment=True
            )
            for name, sequence, description in reader:
                num_records += 1
                if "\r" in sequence:  # an empty line with a Windows line end
                    sequence = sequence.replace("\r", "")  # noqa: PLW2901
                yield Record(name, sequence, description.strip() if description else "")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.path}:record {num_records + 1}: has bytes that are not UTF-8; convert the "
                "file, for instance with: iconv -f latin1 -t utf-8"
            ) from error
        finally:
            watch.stop(wait=num_records == 0)
        watch.finish(num_records)
        after = self.path.stat()
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise ValueError(f"{self.path}: was changed while it was read; read it again")
        self.source = Source(
            name=self.path.name,
            size=after.st_size,
            mtime_ns=after.st_mtime_ns,
            sha256=watch.sha256,
        )

    def position(self, num_records: int) -> int:
        """Bytes of the file, as it is on disk, that the first records of this pass take up."""
        if self._watch is None or not self._watch.num_headers:
            return 0
        share = num_records / self._watch.num_headers
        return min(self.size, int(share * self._watch.position))
