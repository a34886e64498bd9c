"""Copies of stores on a disk of this node, for stores that lie on a slow one."""

from __future__ import annotations

import logging
from pathlib import Path

import xxhash

from rnafm.data.checksums import SPAN, FileSums
from rnafm.data.manifest import NAME, read_manifest
from rnafm.data.progress import CopyProgress
from rnafm.data.publish import locked, publish, writing
from rnafm.data.room import require_room
from rnafm.data.store import SequenceStore

logger = logging.getLogger(__name__)

_PIECE = 4 << 20


def copy_store(store_path: Path | str, scratch: Path | str, *, progress: bool = True) -> Path:
    """Copy a store to a local disk, unless it is there already.

    Of several processes of a node one copies, the others wait. The copy appears whole or not at
    all, and every byte is compared with its checksum on the way. A copy of another version of the
    store stays beside it: its name has another digest.

    Args:
        store_path: Folder of the store.
        scratch: Folder on the local disk; made if it is not there.
        progress: Whether to show progress on standard error.

    Returns:
        Folder of the copy.

    Raises:
        FileNotFoundError: If there is no store.
        OSError: If the copy cannot be written, or there is no room for it.
        ValueError: If the store is damaged.
    """
    store = SequenceStore(store_path)
    path = Path(scratch) / f"{store.path.name}-{store.fingerprint[:12]}"
    if _is_there(path, store):
        return path
    with locked(path):
        if _is_there(path, store):  # another process may just have copied it
            return path
        if path.exists():
            logger.warning("%s: is no whole copy of %s; it is copied again", path, store.path)
        total = sum(sums["size"] for sums in store.info["files"].values())
        require_room(path, total, f"the copy of {store.path}")
        with (
            publish(path) as folder,
            CopyProgress(f"copy {store.path}", total, enabled=progress) as shown,
        ):
            for name, sums in store.info["files"].items():
                _copy(store.path / name, folder / name, sums, shown)
            with writing(path):
                (folder / NAME).write_bytes((store.path / NAME).read_bytes())
            if read_manifest(folder / NAME)["digest"] != store.info["digest"]:
                raise ValueError(f"{store.path}: was changed while it was copied; start again")
    logger.info("%s: is a copy of %s", path, store.path)
    return path


def _is_there(path: Path, store: SequenceStore) -> bool:
    """Whether a folder is a copy: files of the right sizes, by the same description."""
    try:
        return SequenceStore(path).fingerprint == store.fingerprint
    except (FileNotFoundError, ValueError):
        return False


def _copy(source: Path, target: Path, sums: FileSums, shown: CopyProgress) -> None:
    """Copy a file and compare it with its checksums."""
    with source.open("rb") as read, target.open("wb") as write:
        for index, expected in enumerate(sums["xxh3"]):
            found, left = xxhash.xxh3_64(), min(SPAN, sums["size"] - index * SPAN)
            while left and (piece := read.read(min(_PIECE, left))):
                found.update(piece)
                with writing(target):
                    write.write(piece)
                left -= len(piece)
                shown.copied(len(piece))
            if found.hexdigest() != expected:
                raise ValueError(
                    f"{source}: is damaged between bytes {index * SPAN:,} and "
                    f"{min((index + 1) * SPAN, sums['size']):,}; get the store from where it was "
                    "made, or build it again with: rnafm prepare"
                )
