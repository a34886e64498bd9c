"""Checksums of files: one per 64 MiB, so that damage has a place and threads share the reading."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypedDict

import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

SPAN = 64 << 20
_READ = 2 << 20


class FileSums(TypedDict):
    """Size of a file and XXH3 (64 bits) of each of its spans of 64 MiB."""

    size: int
    xxh3: list[str]


class Damage(ValueError):  # noqa: N818  # a finding, that callers explain
    """A file is not the one that was written."""


class Spans:
    """Checksums of bytes that come one after another."""

    def __init__(self) -> None:
        self.size = 0
        self._whole: list[str] = []
        self._hash = xxhash.xxh3_64()

    def update(self, data: bytes | NDArray[Any]) -> None:
        """Go on with some bytes, at least one."""
        view = memoryview(data if isinstance(data, bytes) else data.data).cast("B")
        while len(view):
            room = SPAN - self.size % SPAN
            self._hash.update(view[:room])
            self.size += min(room, len(view))
            view = view[room:]
            if self.size % SPAN == 0:
                self._whole.append(self._hash.hexdigest())
                self._hash.reset()

    def sums(self) -> FileSums:
        """Size and checksums of what came so far."""
        last = [self._hash.hexdigest()] if self.size % SPAN else []
        return FileSums(size=self.size, xxh3=self._whole + last)

    @classmethod
    def going_on(cls, path: Path, sums: FileSums) -> Spans:
        """Checksums that a file with such a start goes on with; it was compared before."""
        spans = cls()
        spans._whole = sums["xxh3"][: sums["size"] // SPAN]
        spans.size = len(spans._whole) * SPAN
        with path.open("rb") as file:
            file.seek(spans.size)
            if rest := file.read(sums["size"] - spans.size):
                spans.update(rest)
        return spans


def compare(
    folder: Path,
    files: dict[str, FileSums],
    *,
    num_threads: int | None = None,
    look: Callable[[str, memoryview], None] | None = None,
    done: Callable[[int], None] | None = None,
) -> None:
    """Compare files with their checksums; what lies behind the size is not looked at.

    Args:
        folder: Where the files are.
        files: Their names, sizes and checksums.
        num_threads: How many spans are read at a time; one per core, at most 8, if not given.
        look: Sees the name of the file and every piece that is read, from any thread; a piece is
            gone afterwards.
        done: Told the number of bytes after each span.

    Raises:
        ValueError: With file and place, if a file differs or is missing.
    """
    jobs = [
        (folder / name, index, sums)
        for name, sums in files.items()
        for index in range(len(sums["xxh3"]))
    ]

    def check(job: tuple[Path, int, FileSums]) -> int:
        path, index, sums = job
        start = index * SPAN
        length = min(SPAN, sums["size"] - start)
        try:
            found = _digest(path, start, length, look)
        except OSError as error:
            raise Damage(f"{path}: cannot be read ({error.strerror})") from error
        if found != sums["xxh3"][index]:
            raise Damage(
                f"{path}: is damaged between bytes {start:,} and {start + length:,} (xxh3 is "
                f"{found}, not {sums['xxh3'][index]})"
            )
        return length

    with ThreadPoolExecutor(num_threads or default_threads(), "verify") as pool:
        for length in pool.map(check, jobs):
            if done is not None:
                done(length)


def default_threads() -> int:
    """One per core that this process may use, at most 8: more wait for the disk."""
    return min(num_cores(), 8)


def num_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _digest(
    path: Path, start: int, length: int, look: Callable[[str, memoryview], None] | None
) -> str:
    """XXH3 of a part of a file."""
    found, room = xxhash.xxh3_64(), memoryview(bytearray(_READ))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while length and (count := file.readinto(room[: min(_READ, length)])):
            piece = room[:count]
            found.update(piece)
            length -= count
            if look is not None:
                look(path.name, piece)
    return str(found.hexdigest())
