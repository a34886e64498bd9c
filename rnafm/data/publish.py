"""Folders that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rnafm.files import synchronise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say where writing failed, and what to do about it.

    Raises:
        OSError: Of the kind that was caught, if the disk is full or the folder read-only.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # one of this package's, which says all
            raise
        raise type(error)(
            error.errno,
            f"{path}: cannot be written ({error.strerror}); make room or choose another folder",
        ) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time work on a path; the lock ends with the process.

    The lock is a file beside the path, removed at the end. Where the file system knows no locks,
    there is none.
    """
    lock = path.with_name(f".{path.name}.lock")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with writing(path):
            handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            break
        try:  # whoever held it may have removed the file while this process waited
            if os.path.samestat(lock.stat(), os.fstat(handle)):
                break
        except FileNotFoundError:
            pass
        os.close(handle)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``path`` at the end, if nothing fails.

    Call it under :func:`locked`: it removes what killed processes have left beside the path.

    Yields:
        The folder to write to.
    """
    remove_left_over(path)
    folder = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with writing(path):
            folder.mkdir()
        yield folder
        take_place(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left_over(path: Path) -> None:
    """Remove folders that killed processes have left unfinished beside a path."""
    for stale in path.parent.glob(f"{_escaped(path.name)}.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)


def take_place(folder: Path, path: Path) -> None:
    """Bring a folder to the disk and give it a name that another folder may have.

    Call it under :func:`locked`.

    Raises:
        OSError: If that cannot be.
    """
    old = path.with_name(f"{path.name}.tmp-old")
    shutil.rmtree(old, ignore_errors=True)
    with writing(path):
        for file in folder.iterdir():
            synchronise(file)
        synchronise(folder)
        if path.exists():
            path.rename(old)
        folder.rename(path)
        synchronise(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _escaped(name: str) -> str:
    """A name for ``glob``, without wildcards."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
