"""Zip archives of torch: whole, and no larger inside than outside."""

from __future__ import annotations

import mmap
import zipfile
import zlib
from typing import TYPE_CHECKING, Any

import torch

from rnafm.files import beside, check_seal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK = 1 << 22
_MAX_SHARING = 8  # tensors of a file may share memory, as tied weights do, but not without limit


def check_archive(path: Path) -> None:
    """Refuse a damaged file before anything in it is used.

    Checkpoints written here carry a digest; those of others the check sums of zip. Pickles of
    torch before 1.6 have neither.

    Raises:
        ValueError: If the content is not what was written, or would be larger than the file.
    """
    sealed = check_seal(path)
    if not is_archive(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            refused, damaged = _problems(archive, path.stat().st_size, sealed=sealed)
    except Exception as error:  # of what is no archive inside, zipfile says it in every way
        raise ValueError(f"{path} is damaged: {error}{beside(path)}") from error
    if refused:
        raise ValueError(
            f"{path} is refused: {refused}, which torch never writes; use a file from a source "
            "that you trust"
        )
    if damaged:
        raise ValueError(f"{path} is damaged: {damaged} does not match its check sum{beside(path)}")


def _problems(archive: zipfile.ZipFile, size: int, *, sealed: bool) -> tuple[str, str]:
    """Why it is refused, and which part is damaged."""
    members = archive.infolist()
    packed = [each.filename for each in members if each.compress_type]
    if packed:
        return f"it is compressed ({', '.join(packed[:3])})", ""
    if sum(each.file_size for each in members) > size:
        return "it is larger inside than outside, since parts overlap", ""
    if sealed:  # the digest was of everything
        return "", ""
    wrong = (each.filename for each in members if not _matches(archive, each))
    return "", next(wrong, "")


def is_archive(path: Path) -> bool:
    """Whether a file is of torch 1.6 or later, by its first bytes, as torch sees it."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def holds(path: Path, word: bytes) -> bool:
    """Whether a word stands in the pickle of an archive, or in all of any other file."""
    if is_archive(path):
        with zipfile.ZipFile(path) as archive:
            pickles = [each for each in archive.infolist() if each.filename.endswith(".pkl")]
            return any(word in b"".join(_chunks(archive, each)) for each in pickles)
    if not path.stat().st_size:
        return False
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return content.find(word) >= 0


def _chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """A part of an archive, whatever its check sum."""
    with archive.open(member) as file:
        file._expected_crc = None  # type: ignore[attr-defined]  # noqa: SLF001  # see _matches
        while chunk := file.read(_CHUNK):
            yield chunk


def _matches(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Whether a part of the archive has its check sum; torch may be told to write none, 0."""
    total = 0
    for chunk in _chunks(archive, member) if member.CRC else ():
        total = zlib.crc32(chunk, total)
    return total == member.CRC


def check_sizes(content: dict[str, Any], path: Path) -> None:
    """Refuse tensors that would take far more memory than the file has bytes.

    A few bytes on the disk can say that they are a matrix of any size, whose rows are all the same.

    Raises:
        ValueError: If there is such a tensor.
    """
    total = 0
    for name, tensor in _tensors(content, ""):
        needed = tensor.numel() * tensor.element_size()
        total += needed
        if tensor.layout != torch.strided or needed > tensor.untyped_storage().nbytes():
            raise ValueError(
                f"{path} is refused: {name} of shape {tuple(tensor.shape)} says that it is larger "
                "than what is stored of it; use a file from a source that you trust"
            )
    if total > _MAX_SHARING * max(path.stat().st_size, _CHUNK):
        raise ValueError(
            f"{path} is refused: its tensors take {total:,} bytes, the file has "
            f"{path.stat().st_size:,}; use a file from a source that you trust"
        )


def _tensors(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors in nested dictionaries and lists, each container once, with their names."""
    seen: set[int] = set()
    stack: list[tuple[Any, str]] = [(value, name)]
    while stack:
        value, name = stack.pop()
        if isinstance(value, torch.Tensor):
            yield name, value
        elif isinstance(value, dict | list | tuple) and id(value) not in seen:
            seen.add(id(value))
            items = value.items() if isinstance(value, dict) else enumerate(value)
            stack += [(each, f"{name}.{key}" if name else str(key)) for key, each in items]
