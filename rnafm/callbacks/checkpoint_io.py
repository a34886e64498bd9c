"""How checkpoints of a run come to the disk: whole, sealed, and without ending the run if not."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from rnafm.files import SealingWriter, atomic, remove_left_over

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room there"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make the folder writable"),
}


class SealedCheckpointIO(TorchCheckpointIO):
    """Write checkpoints in place or not at all, with a digest that is verified when they are read.

    The file is written beside its final name and renamed when it is on the disk: a process killed
    at any moment leaves the previous checkpoint as it was. Nothing is held in memory twice.

    A disk that is full or gone does not end the run. The error is logged and counted, the previous
    checkpoint stays, also if it has another name and was to be removed, and the next save tries
    again. What has not been saved at the end is in :attr:`failed`.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.failed: dict[Path, str] = {}
        """Checkpoints that are not on the disk as they should be, and why."""
        self._instead: dict[Path, list[Path]] = {}
        self._latest: Path | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; on a local disk this never raises an error of the disk."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path).absolute()
        self._latest = target
        try:
            self._write(checkpoint, target)
        except OSError as error:
            self.failures += 1
            reason = error.strerror or str(error)
            self.failed[target] = reason
            logger.error(  # noqa: TRY400  # the disk is at fault, not the code
                "The checkpoint of step %s could not be written to %s: %s. Training goes on and "
                "what was saved before stays; %s, the next save tries again (failed so far: %d)",
                checkpoint.get("global_step", "?"),
                target,
                reason,
                _REMEDIES.get(error.errno or 0, "look after the file system"),
                self.failures,
            )
        else:
            self.failed.pop(target, None)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,  # noqa: FBT001  # Lightning's
    ) -> dict[str, Any]:
        """Read and verify a checkpoint; nothing in it is executed, whatever ``weights_only`` says.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged, or would have to be executed.
        """
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only=True)
        from rnafm.checkpoints.pickles import load_pickle

        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"no checkpoint at {path}; give the path of a .ckpt file")
        remove_left_over(path.parent)
        # Not mapped: the file may be replaced, on a disk of the network, while it is in use.
        return load_pickle(path, mapped=False)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint, unless the one that takes its place could not be written."""
        if "://" in str(path):
            super().remove_checkpoint(path)
            return
        target = Path(path).absolute()
        unwanted = self._instead.pop(target, [])
        if self.failed.pop(target, None) is None:
            unwanted.append(target)
        if self._latest in self.failed:
            self._instead.setdefault(self._latest, []).extend(unwanted)
            return
        for each in unwanted:
            super().remove_checkpoint(each)

    @staticmethod
    def _write(checkpoint: dict[str, Any], target: Path) -> None:
        with atomic(target) as temporary, temporary.open("wb") as file:
            writer = SealingWriter(file)
            try:
                torch.save(checkpoint, writer)  # type: ignore[arg-type]  # all it needs is write
            except RuntimeError:  # torch cannot end an archive that it could not write
                if writer.error is None:
                    raise
                raise writer.error from None
            writer.seal()
