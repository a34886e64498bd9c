"""Builds a token store: any number of processes, the same bytes, and resumable at any moment."""

from __future__ import annotations

import logging
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from rnafm.data import filling
from rnafm.data.checksums import Damage, Spans, compare, default_threads
from rnafm.data.compaction import by_type, check_containment, compact, find_kinds
from rnafm.data.filling import Filling
from rnafm.data.filters import Filters
from rnafm.data.journal import Journal
from rnafm.data.manifest import NAME, read_manifest, write_manifest
from rnafm.data.publish import remove_left_over, take_place, writing
from rnafm.data.reading import SourceChanged
from rnafm.data.room import estimate, require_room, size_of_folder
from rnafm.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from rnafm.data.fasta import FastaFile

logger = logging.getLogger(__name__)

_SMALL = 64 << 20  # bytes on disk below which starting processes takes longer than it saves


class Build:
    """One build of a store, in the folder ``<store>.building`` beside it.

    It has ``journal.json``, the files of the store in ``store/``, in ``parts/`` what processes have
    encoded and is not in the store yet, and at the end ``contained/``, the files without what is
    contained in other sequences.

    Args:
        path: Where the store is to be.
        files: What it is made of.
        wanted: Format, vocabulary and settings, as the store will state them.
        num_workers: How many processes encode; 1 for this one.
        annotate: Adds columns to the store in a folder, before anything contained is left out.
        progress: Whether to show progress.
    """

    def __init__(
        self,
        path: Path,
        files: Sequence[FastaFile],
        wanted: Mapping[str, Any],
        *,
        num_workers: int | None,
        annotate: Callable[[Path], None] | None = None,
        progress: bool,
    ) -> None:
        self.annotate = annotate
        self.path, self.files, self.wanted, self.progress = path, files, wanted, progress
        self.folder = path.with_name(f"{path.name}.building")
        small = sum(file.size for file in files) < _SMALL
        self.num_workers = num_workers or (1 if small else default_threads())
        self.filters = Filters(**wanted["settings"]["filters"])
        self.vocabulary = Vocabulary.from_dict(wanted["vocabulary"])
        self.settings = {
            **wanted,
            "block": filling.BLOCK,
            "digest": xxhash.xxh3_128_hexdigest(repr(wanted).encode()),
        }
        self.journal = Journal(self.folder / "journal.json", self.settings, enabled=not small)

    def run(self) -> None:
        """Build the store and put it in its place.

        What is finished stays if the process is killed, interrupted, or out of room, and the next
        run goes on with it. It is removed if the build was refused for what is in the files.
        """
        if self.filters.redundancy == "contained":
            check_containment(self.vocabulary)
        self._check_room()
        remove_left_over(self.path)
        try:
            self._begin()
            try:
                folder = self._build()
            except SourceChanged as error:
                logger.warning("%s: begins anew, since %s", self.path, error)
                self.clean()
                self._begin()
                folder = self._build()  # of nothing that was there before
            take_place(folder, self.path)
        except BaseException as error:
            in_files = isinstance(error, ValueError) and self.journal.state.contents is None
            if self.journal.enabled and not in_files:
                logger.warning("%s: what is finished is kept; run it again to go on", self.folder)
            else:
                self.clean()
            raise
        self.clean()

    def clean_finished(self) -> None:
        """Remove what a kill has left of a build of this very store, and of no other."""
        if self.journal.read(self.files) is None:
            self.clean()

    def clean(self) -> None:
        """Remove what is of no use once the store is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check_room(self) -> None:
        sets = 2 if self.filters.redundancy == "contained" else 1
        needed = sets * estimate([file.path for file in self.files], self.vocabulary)
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        require_room(self.path, needed - size_of_folder(self.folder), "the store")

    def _begin(self) -> None:
        """Find out how far an earlier process has come; else make empty folders."""
        reason = self.journal.read(self.files)
        if reason is None:
            return
        if reason:
            logger.warning("%s: is not gone on with, since %s", self.folder, reason)
        with writing(self.path):
            # Without a journal the parts may be of use: they say themselves what they are of.
            shutil.rmtree(self.folder / "store" if not reason else self.folder, ignore_errors=True)
            for name in ("store", "parts"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)

    def _build(self) -> Path:
        """Bring the build to its end; the folder that is to be the store."""
        state = self.journal.state
        if state.contents is None:
            state.contents = {**self.wanted, **self._filled(), "sources": state.sources}
            with writing(self.path):
                self.journal.commit()
        else:
            self._compare(self.folder / "store", state.contents["files"])
        folder = self.folder / "store"
        if self.annotate is not None:
            self._annotate(folder, state.contents)
        contents = dict(state.contents)
        duplicates = contents.pop("duplicates")
        if self.filters.redundancy == "contained":
            folder, contents = self._leave_out(contents, duplicates)
        elif table := by_type(folder, contents, duplicates):
            contents["redundancy"] = table
        with writing(self.path):
            write_manifest(folder / NAME, contents)
            for file in folder.iterdir():  # what only the work needed
                if file.name not in contents["files"] and file.name != NAME:
                    file.unlink()
        return folder

    def _annotate(self, folder: Path, contents: dict[str, Any]) -> None:
        """Add columns, so that what is left out is counted by their types."""
        with writing(self.path):
            write_manifest(folder / NAME, contents)
        if self.annotate is not None:
            self.annotate(folder)
        contents.update(read_manifest(folder / NAME))
        with writing(self.path):
            self.journal.commit()

    def _leave_out(
        self, contents: dict[str, Any], duplicates: dict[str, list[int]]
    ) -> tuple[Path, dict[str, Any]]:
        """Leave out what other sequences contain."""
        state, file, store = self.journal.state, self.folder / "kinds.bin", self.folder / "store"
        if state.kinds is None:
            kinds, memory = find_kinds(store, self.vocabulary, progress=self.progress)
            spans = Spans()
            spans.update(kinds)
            state.kinds, state.made = spans.sums(), {"memory_bytes": memory}
            with writing(self.path):
                file.write_bytes(kinds.data)
                self.journal.commit()
        else:
            self._compare(self.folder, {file.name: state.kinds})
        kinds, folder = np.fromfile(file, np.uint8), self.folder / "contained"
        with writing(self.path):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            found = compact(store, folder, contents, kinds)
        if table := by_type(store, contents, duplicates, kinds):
            found["redundancy"] = table
        return folder, {**found, "made": state.made}

    def _compare(self, folder: Path, files: dict[str, Any]) -> None:
        """Begin anew if finished files are not what they were."""
        try:
            compare(folder, files)
        except Damage as error:
            raise SourceChanged(str(error)) from error

    def _filled(self) -> dict[str, Any]:
        """Read the files; what the store is made of."""
        return Filling(
            self.path,
            self.folder,
            self.files,
            self.journal,
            unique=self.filters.redundancy != "none",
            num_workers=self.num_workers,
            progress=self.progress,
        ).run()
