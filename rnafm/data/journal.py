"""How far the building of a store is: said on the disk, so that a kill costs seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rnafm.data.manifest import changed_files, read_manifest, write_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rnafm.data.checksums import FileSums
    from rnafm.data.fasta import FastaFile
    from rnafm.data.writer import StoreWriter

_COMMIT = 256 << 20  # bytes of text that a kill may cost, at most
_SECONDS = 10.0  # and at most so much time


@dataclass
class State:
    """How far a build is.

    Args:
        sources: The files that are in the store as a whole.
        blocks: XXH3 of the blocks of the next file that are in the store.
        num_records: Records in these blocks.
        writer: What the writer goes on with.
        contents: What ``store.json`` is to say, once all files are read.
        kinds: Checksums of ``kinds.bin``, once it is known which sequences others contain.
        made: What the work took, for ``store.json``.
    """

    sources: list[dict[str, Any]] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    num_records: int = 0
    writer: dict[str, Any] | None = None
    contents: dict[str, Any] | None = None
    kinds: FileSums | None = None
    made: dict[str, Any] = field(default_factory=dict)


class Journal:
    """Writes and reads the state of a build.

    Args:
        path: The file.
        settings: What the build is about; of a build about something else nothing is used.
        enabled: Whether anything is written: what takes a second is not worth it.

    Attributes:
        state: How far the build is.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, enabled: bool) -> None:
        self.path, self.settings, self.enabled = path, settings, enabled
        self.state = State()
        self._parts: list[Path] = []
        self._time, self._bytes = time.monotonic(), 0

    def read(self, files: Sequence[FastaFile]) -> str | None:
        """Go on with what an earlier process has written, if it holds for these files.

        Returns:
            Why not; empty if there was none, None if it goes on.
        """
        self.state = State()
        try:
            found = read_manifest(self.path)
        except FileNotFoundError:
            return ""
        except ValueError as error:
            return str(error)
        if found["settings"] != self.settings:
            return "it was begun with other settings or another version"
        state = State(**found["state"])
        if change := changed_files(state.sources, files[: len(state.sources)]):
            return change
        self.state = state
        return None

    def wrote(self, part: Path, size: int, writer: StoreWriter) -> None:
        """Note that a block is in the files, and say so on the disk now and then.

        Args:
            part: Where the part may be, which is of no use any more then.
            size: Bytes of text.
            writer: What has written it.
        """
        self._parts.append(part)
        self._bytes += size
        if self._bytes >= _COMMIT or time.monotonic() - self._time >= _SECONDS:
            self.commit(writer)

    def commit(self, writer: StoreWriter | None = None) -> None:
        """Bring everything to the disk, then remove the parts that are in it."""
        if not self.enabled:
            return
        self.state.writer = writer.state() if writer is not None else None
        contents = {
            "format": self.settings["format"],
            "settings": self.settings,
            "state": vars(self.state),
        }
        write_manifest(self.path, contents)
        for part in self._parts:
            part.unlink(missing_ok=True)
        self._parts, self._time, self._bytes = [], time.monotonic(), 0
