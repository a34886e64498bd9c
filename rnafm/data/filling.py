"""Fills the files of a store from FASTA files, and says in a journal how far it is."""

from __future__ import annotations

import logging
import zlib
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from rnafm.data.checksums import Damage
from rnafm.data.progress import ReadingProgress
from rnafm.data.publish import writing
from rnafm.data.reading import Reading, SourceChanged
from rnafm.data.workers import InProcess, Processes
from rnafm.data.writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rnafm.data.fasta import FastaFile
    from rnafm.data.journal import Journal

logger = logging.getLogger(__name__)

BLOCK = 16 << 20  # bytes of text that one process encodes at a time


class Filling:
    """Reads files into the folder of a build, from where its journal says.

    Args:
        path: Where the store is to be; what errors call it.
        folder: The folder of the build.
        files: What the store is made of.
        journal: How far the build is, and what it is about.
        unique: Whether only the first of equal sequences stays.
        num_workers: How many processes encode; 1 for this one.
        progress: Whether to show progress.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        files: Sequence[FastaFile],
        journal: Journal,
        *,
        unique: bool,
        num_workers: int,
        progress: bool,
    ) -> None:
        self.path, self.folder, self.files, self.journal = path, folder, files, journal
        self.unique, self.num_workers, self.progress = unique, num_workers, progress

    def run(self) -> dict[str, Any]:
        """Pass all blocks of all files to the writer; what the store is made of."""
        state = self.journal.state
        with ExitStack() as stack:
            writer = stack.enter_context(closing(self._writer()))
            left = [None if i < len(state.sources) else file for i, file in enumerate(self.files)]
            reading = Reading(
                left,
                [state.blocks if i == len(state.sources) else [] for i in range(len(left))],
                pool=self._pool(),
                folder=self.folder / "parts",
                settings=self.journal.settings["digest"],
                size=BLOCK,
            )
            stack.callback(reading.close)
            shown = stack.enter_context(
                ReadingProgress(
                    f"prepare {self.path.name}",
                    sum(file.size for file in self.files),
                    enabled=self.progress,
                    already=sum(file.size for file in self.files[: len(state.sources)]),
                )
            )
            self._append(reading, writer, shown)
        if reading.num_reused:
            logger.info("%s: %d finished parts were used", self.path, reading.num_reused)
        if not writer.kept:
            dropped = ", ".join(f"{n:,} {rule}" for rule, n in writer.counts.items() if n)
            raise ValueError(f"{self.path}: no sequence is left ({dropped}); loosen the filters")
        with writing(self.path):
            return writer.finish()

    def _pool(self) -> InProcess | Processes:
        if self.num_workers == 1:
            return InProcess(self.journal.settings)
        return Processes(self.journal.settings, self.num_workers, self.path)

    def _writer(self) -> StoreWriter:
        """A writer that goes on where the journal says."""
        folder = self.folder / "store"
        try:
            with writing(self.path):
                writer = StoreWriter(folder, unique=self.unique, state=self.journal.state.writer)
        except Damage as error:
            raise SourceChanged(str(error)) from error
        if writer.kept:
            logger.info("%s: goes on after %s sequences", self.path, f"{writer.kept:,}")
        return writer

    def _append(self, reading: Reading, writer: StoreWriter, shown: ReadingProgress) -> None:
        """Write everything in order, and the journal now and then."""
        state = self.journal.state
        before = sum(file.size for file in self.files[: len(state.sources)])
        for index in range(len(state.sources), len(self.files)):
            file = self.files[index]
            try:
                for piece in reading.pieces(index):
                    with writing(self.path):
                        part = piece.part()
                        writer.append(part)
                        state.blocks.append(piece.digest)
                        state.num_records += sum(part.counts)
                        self.journal.wrote(piece.path, BLOCK, writer)
                    shown.update(before + piece.position, sum(part.counts), part.num_nucleotides)
            except (EOFError, zlib.error) as error:
                raise file.damaged(error, state.num_records) from error
            before += file.size
            state.sources.append(dict(file.source or {}))
            state.blocks, state.num_records = [], 0
            with writing(self.path):
                self.journal.commit(writer)
