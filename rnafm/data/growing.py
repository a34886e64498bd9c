"""Files that grow, with checksums: cut back to what is known to be good after a kill."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from rnafm.data.checksums import FileSums, Spans

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_BUFFER = 1 << 20


class GrowingFile:
    """A file of plain values that is appended to.

    Args:
        path: The file.
        sums: What of it is known to be good, and was compared; the rest is cut off. Without it the
            file starts empty.
    """

    def __init__(self, path: Path, sums: FileSums | None = None) -> None:
        self.path = path
        if sums is None:
            self._spans = Spans()
            self._file = path.open("wb", buffering=_BUFFER)
        else:
            os.truncate(path, sums["size"])
            self._spans = Spans.going_on(path, sums)
            self._file = path.open("ab", buffering=_BUFFER)

    @property
    def size(self) -> int:
        """Number of bytes so far."""
        return self._spans.size

    @property
    def sums(self) -> FileSums:
        """Size and checksums of all that was appended."""
        return self._spans.sums()

    def append(self, values: NDArray[Any]) -> None:
        """Add values."""
        if len(values):
            self._file.write(values.data)
            self._spans.update(values)

    def flush(self) -> None:
        """Bring everything to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> FileSums:
        """Close the file; what the disk refuses comes out here."""
        self._file.close()
        return self.sums

    def close(self) -> None:
        """Close the file, complete or not."""
        with contextlib.suppress(OSError):  # what could not be written fails again
            self._file.close()
