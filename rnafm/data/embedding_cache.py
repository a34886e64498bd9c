"""Embeddings of a frozen encoder, computed once and kept on disk."""

from __future__ import annotations

import logging
import shutil
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from rnafm.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from rnafm.data.batch import Batch

logger = logging.getLogger(__name__)


class EmbeddingCache:
    """Rows of a memory-mapped float32 array, some for each sequence.

    Args:
        path: An ``.npy`` file; its name says which weights and sequences it belongs to.
        lengths: Rows of each sequence, (n,): one for a pooled embedding, else one per token.
        dim: Width of the embeddings.
    """

    def __init__(self, path: Path, lengths: NDArray[np.int64], dim: int) -> None:
        self.path, self.num_sequences = path, len(lengths)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        self.shape = int(self.offsets[-1]), dim
        self._rows: NDArray[np.float32] | None = None

    def fill(self, parts: Iterable[tuple[Batch, Tensor]]) -> None:
        """Write the file, unless it is there.

        Args:
            parts: Batches and the embeddings of their sequences in the order of the batch, (n, D);
                every sequence comes once.

        Raises:
            OSError: If there is not enough room on the disk, or no right to write.
        """
        if self._open() is not None:
            logger.info("Embeddings of the frozen encoder are read from %s", self.path)
            return
        if self.path.exists():
            logger.info("%s is damaged and is made again", self.path)
        size = 4 * self.shape[0] * self.shape[1]
        self._make_room(size)
        logger.info(
            "Embedding %s sequences once, for this and later runs: %s of %s",
            f"{self.num_sequences:,}",
            self.path,
            _bytes(size),
        )
        console = Console(stderr=True)
        bar = Progress(console=console) if console.is_terminal else nullcontext()
        with atomic(self.path) as temporary, bar as progress:
            rows = np.lib.format.open_memmap(temporary, "w+", np.float32, self.shape)
            task = progress.add_task("embedding", total=self.num_sequences) if progress else None
            for batch, embeddings in parts:
                values = embeddings.float().cpu().numpy()
                start = 0
                for index in batch.indices.tolist():
                    begin, end = self.offsets[index], self.offsets[index + 1]
                    rows[begin:end] = values[start : start + end - begin]
                    start += end - begin
                if progress and task is not None:
                    progress.update(task, advance=batch.num_sequences)
            rows.flush()

    def read(self, indices: Tensor) -> Tensor:
        """Embeddings of some sequences end to end, (n, D), on the device of ``indices``."""
        if self._rows is None:
            self._rows = self._open()
        if self._rows is None:
            raise OSError(
                f"{self.path}: the embeddings are not there, or damaged; several machines need a "
                "folder that all of them see: set data.embedding_folder"
            )
        parts = [self._rows[self.offsets[i] : self.offsets[i + 1]] for i in indices.tolist()]
        return torch.from_numpy(np.concatenate(parts)).to(indices.device)

    def _open(self) -> NDArray[np.float32] | None:
        """The array, if it is there and whole."""
        try:
            rows = np.load(self.path, mmap_mode="r")
        except (OSError, ValueError, EOFError):
            return None
        return rows if rows.shape == self.shape and rows.dtype == np.float32 else None

    def _make_room(self, size: int) -> None:
        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f".{self.path.name}").touch()  # a folder that is there may be read-only
            (folder / f".{self.path.name}").unlink()
        except OSError as error:
            raise OSError(
                f"{folder}: embeddings of the frozen encoder cannot be kept there "
                f"({error.strerror}); set data.embedding_folder to a folder of yours"
            ) from error
        free = shutil.disk_usage(folder).free
        if size > free:
            raise OSError(
                f"{folder}: the embeddings of the frozen encoder take {_bytes(size)}, and "
                f"{_bytes(free)} are free; make room, set data.embedding_folder to another disk, "
                "or use adaptation.mode full or lora, which keep none"
            )


def _bytes(size: int) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.3g} {unit}"
        size /= 1000  # type: ignore[assignment]
    return f"{size:.3g} GB"
