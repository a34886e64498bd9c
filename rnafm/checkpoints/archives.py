"""Zip archives of torch: whole, and no larger inside than outside."""

from __future__ import annotations

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
    if check_seal(path) or not is_archive(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            packed = [each.filename for each in members if each.compress_type]
            if packed or sum(each.file_size for each in members) > path.stat().st_size:
                raise ValueError(
                    f"{path} is refused: it is compressed or larger inside than outside "
                    f"({', '.join(packed[:3]) or 'its parts overlap'}), which torch never writes; "
                    "use a file from a source that you trust"
                )
            for member in members:
                if not _matches(archive, member):
                    raise ValueError(
                        f"{path} is damaged: {member.filename} does not match its check sum"
                        f"{beside(path)}"
                    )
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{path} is damaged: {error}{beside(path)}") from error


def is_archive(path: Path) -> bool:
    """Whether a file is of torch 1.6 or later, by its first bytes, as torch sees it."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\3\4"


def _matches(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    """Whether a part of the archive has its check sum; torch may be told to write none, 0."""
    if member.CRC == 0:
        return True
    expected, total = member.CRC, 0
    with archive.open(member) as file:
        file._expected_crc = None  # type: ignore[attr-defined]  # noqa: SLF001  # compared below
        while chunk := file.read(_CHUNK):
            total = zlib.crc32(chunk, total)
    return total == expected


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
