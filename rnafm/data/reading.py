"""The blocks of FASTA files in order, while later ones, and later files, are under way already."""

from __future__ import annotations

import queue
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from rnafm.data.encoding import Part
from rnafm.data.workers import Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rnafm.data.fasta import FastaFile
    from rnafm.data.workers import InProcess, Processes

_WAIT = 0.05  # seconds between two looks at whether the work has ended


class SourceChanged(Exception):  # noqa: N818  # no failure: the work begins anew
    """A file is no longer the one that the work was begun with; says which, and how."""


class Piece(NamedTuple):
    """A block of text.

    Attributes:
        digest: XXH3 of the text.
        position: Bytes of the file on disk that were read up to here.
        part: Makes what the block becomes, or waits for it.
        path: Where that may be on the disk.
    """

    digest: str
    position: int
    part: Callable[[], Part]
    path: Path


class Reading:
    """Reads files in threads and has their blocks encoded.

    Args:
        files: The files; those that need no reading are None.
        done: For each file, XXH3 of the blocks that are in the store already.
        pool: What encodes.
        folder: Where parts are, also those that an earlier process has left.
        settings: XXH3 of the settings.
        size: Least number of bytes of a block.
    """

    def __init__(  # all of them are needed, and by name
        self,
        files: Sequence[FastaFile | None],
        done: Sequence[Sequence[str]],
        *,
        pool: InProcess | Processes,
        folder: Path,
        settings: str,
        size: int,
    ) -> None:
        self.files, self.folder, self.settings, self.size = files, folder, settings, size
        self.num_reused = 0
        self._done, self._pool = done, pool
        self._ended = threading.Event()
        self._waiting = iter([i for i, file in enumerate(files) if file is not None])
        self._lock = threading.Lock()
        self._queues: list[queue.Queue[Piece | BaseException | None]] = [
            queue.Queue(pool.ahead) for _ in files
        ]
        self._threads = [
            threading.Thread(target=self._read_all, name=f"read-{i}", daemon=True)
            for i in range(pool.num_readers)
        ]
        for thread in self._threads:
            thread.start()

    def pieces(self, index: int) -> Iterator[Piece]:
        """The blocks of a file that are not in the store yet, in order.

        Raises:
            EOFError: If gzip data are cut; see :meth:`FastaFile.damaged`.
            zlib.error: If gzip data are damaged.
            ValueError: What :class:`FastaFile` raises.
            SourceChanged: If the file is another.
        """
        while (found := self._queues[index].get()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found

    def close(self) -> None:
        """End the threads and the pool."""
        self._ended.set()
        self._pool.close()
        for thread in self._threads:
            thread.join()

    def _read_all(self) -> None:
        """Read one file after the other, until there is none that no other thread has begun."""
        while True:
            with self._lock:
                index = next(self._waiting, None)
            if index is None:
                return
            try:
                self._read(index)
                self._put(index, None)
            except BaseException as error:  # noqa: BLE001  # raised where the order puts it
                self._put(index, error)

    def _read(self, index: int) -> None:
        file, done, number = self.files[index], self._done[index], 0
        if file is None:
            return
        for number, block in enumerate(file.blocks(self.size), 1):
            if self._ended.is_set():
                return
            digest = xxhash.xxh3_128_hexdigest(block.text)
            if number <= len(done):
                if digest != done[number - 1]:
                    raise SourceChanged(f"{file.path} has changed meanwhile")
                continue
            part: Callable[[], Part]
            path = self.folder / f"{index:05}-{number:07}.part"
            if Part.load(path, digest, self.settings) is not None:
                self.num_reused += 1
                part = partial(self._load, path, digest)
            else:
                part = self._pool.submit(Job(block.text, str(file.path), path, digest))
            self._put(index, Piece(digest, block.position, part, path))
        if number < len(done):
            raise SourceChanged(f"{file.path} has changed meanwhile")

    def _load(self, path: Path, digest: str) -> Part:
        part = Part.load(path, digest, self.settings)
        if part is None:
            raise OSError(f"{path}: was changed by another process; run it again")
        return part

    def _put(self, index: int, piece: Piece | BaseException | None) -> None:
        while not self._ended.is_set():
            try:
                return self._queues[index].put(piece, timeout=_WAIT)
            except queue.Full:
                continue
        return None
