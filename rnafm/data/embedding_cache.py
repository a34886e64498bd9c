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
        self.path, self.dim = path, dim
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])
        self._rows: NDArray[np.float32] | None = None

    def fill(self, parts: Iterable[tuple[Batch, Tensor]], num_sequences: int) -> None:
        """Write the file, unless it is there.

        Args:
            parts: Batches and the embeddings of their sequences in the order of the batch, (n, D);
                every sequence comes once.
            num_sequences: How many sequences there are, for the progress bar.

        Raises:
            OSError: If there is not enough room on the disk.
        """
        if self.path.is_file():
            logger.info("Embeddings of the frozen encoder are read from %s", self.path)
            return
        shape = (int(self.offsets[-1]), self.dim)
        size = shape[0] * shape[1] * 4
        self.path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.path.parent).free
        if size > free:
            raise OSError(
                f"the embeddings of the frozen encoder take {size / 1e9:.1f} GB, "
                f"{self.path.parent} has {free / 1e9:.1f} GB free; make room, or use mode full or "
                "lora, which keep none"
            )
        logger.info("Embedding %s sequences once: %.2f GB", f"{num_sequences:,}", size / 1e9)
        console = Console(stderr=True)
        bar = Progress(console=console) if console.is_terminal else nullcontext()
        with atomic(self.path) as temporary, bar as progress:
            rows = np.lib.format.open_memmap(temporary, "w+", np.float32, shape)
            task = progress.add_task("embedding", total=num_sequences) if progress else None
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
            self._rows = np.load(self.path, mmap_mode="r")
        parts = [self._rows[self.offsets[i] : self.offsets[i + 1]] for i in indices.tolist()]
        return torch.from_numpy(np.concatenate(parts)).to(indices.device)
