"""Builds a token store: any number of processes, the same bytes, and resumable at any moment."""

from __future__ import annotations

import logging
import shutil
import time
import zlib
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import xxhash

from rnafm.data.checksums import Damage, default_threads
from rnafm.data.filters import Filters
from rnafm.data.manifest import NAME, changed_files, read_manifest, write_manifest
from rnafm.data.progress import ReadingProgress
from rnafm.data.publish import remove_left_over, take_place, writing
from rnafm.data.reading import Reading, SourceChanged
from rnafm.data.room import estimate, require_room, size_of_folder
from rnafm.data.vocabulary import Vocabulary
from rnafm.data.workers import InProcess, Processes
from rnafm.data.writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rnafm.data.fasta import FastaFile

logger = logging.getLogger(__name__)

_BLOCK = 16 << 20  # bytes of text that one process encodes at a time
_SMALL = 64 << 20  # bytes on disk below which starting processes takes longer than it saves
_COMMIT = 256 << 20  # bytes of tokens that a kill may cost, at most
_SECONDS = 10.0  # and at most so much time


@dataclass
class State:
    """How far a build is, as its journal says.

    Args:
        sources: The files that are in the store as a whole.
        blocks: XXH3 of the blocks of the next file that are in the store.
        num_records: Records in these blocks.
        writer: What the writer goes on with.
    """

    sources: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    num_records: int = 0
    writer: dict[str, Any] | None = None


class Build:
    """One build of a store, in the folder ``<store>.building`` beside it.

    Args:
        path: Where the store is to be.
        files: What it is made of.
        wanted: Format, vocabulary and settings, as the store will state them.
        num_workers: How many processes encode; 1 for this one.
        progress: Whether to show progress.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[FastaFile],
        wanted: Mapping[str, Any],
        *,
        num_workers: int | None,
        progress: bool,
    ) -> None:
        self.path, self.files, self.wanted, self.progress = path, files, wanted, progress
        self.folder = path.with_name(f"{path.name}.building")
        small = sum(file.size for file in files) < _SMALL
        self.num_workers = num_workers or (1 if small else default_threads())
        self.keeps = not small  # whether a journal is worth its writing
        self.filters = Filters(**wanted["settings"]["filters"])
        self.settings = {**wanted, "digest": xxhash.xxh3_128_hexdigest(repr(wanted).encode())}

    def run(self) -> None:
        """Build the store and put it in its place.

        What is finished stays if the process is killed, interrupted, or out of room, and the next
        run goes on with it. It is removed if the build was refused for what is in the files.
        """
        self._check_room()
        remove_left_over(self.path)
        try:
            while True:
                try:
                    contents = self._read(self._state())
                    break
                except SourceChanged as error:
                    logger.warning("%s has changed since it was begun; it begins anew", error)
                    shutil.rmtree(self.folder)
            with writing(self.path):
                write_manifest(self.folder / "store" / NAME, {**self.wanted, **contents})
            take_place(self.folder / "store", self.path)
        except BaseException as error:
            if self.keeps and not isinstance(error, ValueError):
                logger.warning("%s: what is finished is kept; run it again to go on", self.folder)
            else:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_room(self) -> None:
        vocabulary = Vocabulary.from_dict(self.wanted["vocabulary"])
        needed = estimate([file.path for file in self.files], vocabulary)
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        require_room(self.path, needed - size_of_folder(self.folder), "the store")

    def _state(self) -> State:
        """How far an earlier process has come, if it was about the same; else an empty folder."""
        journal = self.folder / "journal.json"
        try:
            found = read_manifest(journal)
            state = State(**found["state"])
            if found["wanted"] != self.settings:
                raise ValueError("it was begun with other settings")
            num_files = len(state.sources)
            if change := changed_files(state.sources, self.files[:num_files]):
                raise ValueError(change)
        except FileNotFoundError:
            pass
        except ValueError as error:
            logger.warning("%s: is not gone on with, since %s", self.folder, error)
        else:
            return state
        with writing(self.path):
            shutil.rmtree(self.folder / "store", ignore_errors=True)
            journal.unlink(missing_ok=True)
            for name in ("store", "parts"):  # parts say themselves what they are of
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        return State()

    def _read(self, state: State) -> dict[str, Any]:
        """Pass all blocks of all files to the writer; what the store is made of."""
        with ExitStack() as stack:
            writer = stack.enter_context(closing(self._writer(state)))
            pool: InProcess | Processes
            if self.num_workers == 1:
                pool = InProcess(self.settings)
            else:
                pool = Processes(self.settings, self.num_workers, self.path)
            left = [
                None if i < len(state.sources) else file for i, file in enumerate(self.files)
            ]
            done = [state.blocks if i == len(state.sources) else [] for i in range(len(left))]
            reading = Reading(
                left,
                done,
                pool=pool,
                folder=self.folder / "parts",
                settings=self.settings["digest"],
                size=_BLOCK,
            )
            stack.callback(reading.close)
            stack.callback(pool.close)
            total = sum(file.size for file in self.files)
            shown = stack.enter_context(
                ReadingProgress(f"prepare {self.path.name}", total, enabled=self.progress)
            )
            self._append(reading, writer, state, shown)
        if not writer.kept:
            dropped = ", ".join(f"{n:,} {rule}" for rule, n in writer.counts.items() if n)
            raise ValueError(f"{self.path}: no sequence is left ({dropped}); loosen the filters")
        with writing(self.path):
            return {**writer.finish(), "sources": state.sources}

    def _writer(self, state: State) -> StoreWriter:
        """A writer that goes on where the journal says; one that begins if the disk disagrees."""
        unique, folder = self.filters.redundancy != "none", self.folder / "store"
        with writing(self.path):
            if state.writer is not None:
                try:
                    writer = StoreWriter(folder, unique=unique, state=state.writer)
                except Damage as error:
                    raise SourceChanged(str(error)) from error
                logger.info(
                    "%s: goes on after %s sequences", self.path, f"{writer.kept:,}"
                )
                return writer
            return StoreWriter(folder, unique=unique)

    def _append(
        self, reading: Reading, writer: StoreWriter, state: State, shown: ReadingProgress
    ) -> None:
        """Write everything in order, and the journal now and then."""
        journal = _Journal(self, writer, state)
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
                    shown.update(before + piece.position, sum(part.counts), part.num_nucleotides)
                    journal.wrote(piece.path)
            except (EOFError, zlib.error) as error:
                raise file.damaged(error, state.num_records) from error
            before += file.size
            state.sources.append(dict(file.source or {}))
            state.blocks, state.num_records = [], 0
            journal.commit()


class _Journal:
    """Says on the disk what of a build is finished."""

    def __init__(self, build: Build, writer: StoreWriter, state: State) -> None:
        self.build, self.writer, self.state = build, writer, state
        self._parts: list[Path] = []
        self._time, self._bytes = time.monotonic(), 0

    def wrote(self, part: Path) -> None:
        """Note that a block is in the files."""
        self._parts.append(part)
        self._bytes += _BLOCK
        if self._bytes >= _COMMIT or time.monotonic() - self._time >= _SECONDS:
            self.commit()

    def commit(self) -> None:
        """Bring everything to the disk, then remove the parts that are in it."""
        if not self.build.keeps:
            return
        with writing(self.build.path):
            self.state.writer = self.writer.state()
            contents = {
                "format": self.build.wanted["format"],
                "wanted": self.build.settings,
                "state": vars(self.state),
            }
            write_manifest(self.build.folder / "journal.json", contents)
            for part in self._parts:
                part.unlink(missing_ok=True)
        self._parts, self._time, self._bytes = [], time.monotonic(), 0
