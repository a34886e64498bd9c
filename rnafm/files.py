"""Files that are whole or not there, and that say whether they are still what was written."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Network file systems answer so while a file is looked at elsewhere, or a server comes back.
_PASSING = frozenset({errno.EBUSY, errno.ESTALE, errno.EIO})
_WAITS = (0.1, 0.4, 1.6)  # seconds before the next try
_HOST = re.sub(r"\W", "-", socket.gethostname().partition(".")[0])
_TEMPORARY = re.compile(r"\.(\d+)@([\w-]*)\..+")
_ABANDONED = 3600.0  # seconds without a write, after which a process of another host is not alive
_cleaned: set[Path] = set()

_SEAL = b"rnafm xxh3-128 "
_END = 22  # bytes of the record at the end of a zip archive, without its comment
_COMMENT = len(_SEAL) + 32
_CHUNK = 1 << 22


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A name to write to; it becomes ``path`` only when everything is on the disk.

    Whenever the process is killed, or the power goes off, ``path`` is what it was before or what it
    was to become. What killed processes have left in the folder is removed.

    Args:
        path: The file to make or to replace. Missing folders are made.

    Yields:
        A name beside it with the same ending.

    Raises:
        OSError: If the file cannot be written; ``path`` is as it was before.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _cleaned:  # once: a folder may hold very many files
        remove_left_over(path.parent)
        _cleaned.add(path.parent)
    temporary = path.with_name(f".{os.getpid()}@{_HOST}.{path.name}")
    try:
        yield temporary
        synchronise(temporary)
        _replace(temporary, path)
        with contextlib.suppress(OSError):  # some file systems have no such thing for folders
            synchronise(path.parent)
    finally:
        with contextlib.suppress(OSError):  # the cause is what a user is to see
            temporary.unlink(missing_ok=True)


def remove_left_over(folder: Path) -> list[Path]:
    """Remove the unfinished files of processes that are not alive any more.

    Returns:
        What was removed.
    """
    removed = []
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            found = _TEMPORARY.fullmatch(path.name)
            if found is not None and not _is_written(path, int(found[1]), found[2]):
                path.unlink(missing_ok=True)
                removed.append(path)
    return removed


def _is_written(path: Path, process: int, host: str) -> bool:
    """Whether somebody may still be writing a temporary file."""
    if host != _HOST:
        return time.time() - path.stat().st_mtime < _ABANDONED
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and somebody else's
        return True
    return True


def _replace(source: Path, target: Path) -> None:
    """Rename, with patience where the file system asks for it."""
    for wait in _WAITS:
        try:
            os.replace(source, target)  # noqa: PTH105  # tests stand in for it
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            time.sleep(wait)
        else:
            return
    os.replace(source, target)  # noqa: PTH105


def synchronise(path: Path) -> None:
    """Wait until a file or folder is on the disk: full disks show at the latest here."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class SealingWriter:
    """A file for ``torch.save`` that ends in the digest of all that was written.

    The digest is the comment of the zip archive, which torch and everybody else reads over.

    Args:
        file: Open for writing, and empty.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = xxhash.xxh3_128()
        self.error: OSError | None = None
        """Why writing failed; torch reports something else."""

    def write(self, data: bytes | memoryview) -> int:
        """Write and digest."""
        try:
            written = self._file.write(data)
        except OSError as error:
            self.error = error
            raise
        self._digest.update(data)
        return written

    def flush(self) -> None:
        """Pass on what is buffered."""
        self._file.flush()

    def seal(self) -> None:
        """Add the digest to the finished archive."""
        self._file.seek(-2, os.SEEK_END)  # the length of the comment, 0 until here
        self._file.write(_COMMENT.to_bytes(2, "little"))
        self._file.write(_SEAL + self._digest.hexdigest().encode())
        self._file.flush()


def check_seal(path: Path) -> bool:
    """Whether an archive carries a digest, and matches it.

    Raises:
        ValueError: If it does not match: a single flipped bit anywhere is enough.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(size - _END - _COMMENT, 0))
        tail = file.read()
        comment = tail[_END:]
        length = tail[_END - 2 : _END]
        signs = (
            tail.startswith(b"PK\5\6"),
            length == _COMMENT.to_bytes(2, "little"),
            comment.startswith(_SEAL),
        )
        # One flipped bit leaves two of these; a cut end leaves words where they do not belong.
        if sum(signs) < 2 and _SEAL not in tail:  # noqa: PLR2004
            return False
        digest = xxhash.xxh3_128()
        file.seek(0)
        left = size - _COMMENT - 2
        while left and (chunk := file.read(min(left, _CHUNK))):
            digest.update(chunk)
            left -= len(chunk)
        digest.update(b"\0\0")
    if not all(signs) or comment != _SEAL + digest.hexdigest().encode():
        raise ValueError(f"{path} is damaged: its content is not what was written{beside(path)}")
    return True


def beside(path: Path) -> str:
    """What to use instead of a damaged checkpoint: the end of a message."""
    others = [each for each in path.parent.glob("*" + path.suffix) if each != path]
    if not others:
        return "; there is no other checkpoint beside it: use a copy"
    others.sort(key=lambda each: each.stat().st_mtime_ns, reverse=True)
    return f"; use another one, newest first: {', '.join(map(str, others[:3]))}"
