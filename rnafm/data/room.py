"""Whether a disk has room for what is about to be written."""

from __future__ import annotations

import errno
import os
import shutil
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rnafm.data.vocabulary import Vocabulary

_LOOK = 1 << 20  # bytes on disk that an estimate rests on
_MOST = 16 << 20
_PER_SEQUENCE = 3 * 8 + 4 + 2 * 4  # offsets, hash, check, and codes of two columns


def require_room(path: Path, needed: int, what: str) -> None:
    """Refuse to begin what would fill the disk.

    Args:
        path: What is written; its folder is there.
        needed: Bytes.
        what: What they are for, in words.

    Raises:
        OSError: If there is too little room (``ENOSPC``).
    """
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise OSError(
            errno.ENOSPC,
            f"{path}: {what} needs about {_amount(needed)}, but {_amount(free)} are free in "
            f"{path.parent}; make room or choose another folder",
        )


def free_bytes(folder: Path) -> int:
    """What is free on the disk where a folder is, or will be."""
    return shutil.disk_usage(existing(folder)).free


def existing(folder: Path) -> Path:
    """The folder, or the next one above it that is there."""
    folder = folder.absolute()
    return folder if folder.exists() else existing(folder.parent)


def size_of_folder(folder: Path) -> int:
    """Bytes of all files in a folder; 0 if it is not there."""
    return sum(
        os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118  # of os.walk
        for place, _, names in os.walk(folder)
        for name in names
    )


def estimate(files: Sequence[Path], vocabulary: Vocabulary) -> int:
    """About how many bytes the store of some FASTA files has, from the first MiB of each."""
    return sum(_estimate(path, vocabulary) for path in files)


def _estimate(path: Path, vocabulary: Vocabulary) -> int:
    with path.open("rb") as file:
        start = file.read(_LOOK)
    read, text = len(start), start
    if start.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            text = unpacker.decompress(start, _MOST)
        except zlib.error:
            return 0  # reading says more about it
        read -= len(unpacker.unconsumed_tail) + len(unpacker.unused_data)
    headers = [line for line in text.split(b"\n") if line.startswith(b">")]
    letters = len(text) - sum(map(len, headers)) - text.count(b"\n")
    names = sum(len(header.split(maxsplit=1)[0]) for header in headers)
    found = letters // vocabulary.letters_per_token + names + _PER_SEQUENCE * len(headers)
    return path.stat().st_size * found // max(read, 1)


def _amount(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size > 10**8 else f"{size / 1e6:,.1f} MB"
