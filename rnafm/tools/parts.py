"""Long predictions in parts: in order, on any number of processes, to be continued after a stop."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rnafm.files import atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Processes:
    """Who takes part.

    Attributes:
        rank: Number of this process.
        world_size: Number of processes; those that ``torchrun`` starts share the work.
    """

    rank: int
    world_size: int

    @classmethod
    def from_environment(cls) -> Processes:
        """As ``torchrun`` and SLURM's launchers say; a process alone otherwise."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


class Parts:
    """Numbered files in a folder beside the output, each whole or not there.

    Args:
        out: The file to write in the end.
        identity: What the parts are made of; parts of something else are thrown away.
    """

    def __init__(self, out: Path, identity: dict[str, Any], processes: Processes) -> None:
        self.out, self.processes = out, processes
        self.folder = out.with_name(f"{out.name}.parts")
        self._about = self.folder / "about.json"
        text = json.dumps(identity, sort_keys=True, default=str)
        if self._about.is_file() and self._about.read_text() == text:
            if processes.rank == 0:
                done = sum(1 for _ in self.folder.glob("*.part"))
                print(f"continuing {out}: {done} parts are done", file=sys.stderr)
        elif processes.rank == 0:
            shutil.rmtree(self.folder, ignore_errors=True)
            with atomic(self._about) as temporary:
                temporary.write_text(text)
        else:
            _wait(lambda: self._about.is_file() and self._about.read_text() == text)

    def missing(self, number: int) -> bool:
        """Whether this process is to make this part."""
        mine = number % self.processes.world_size == self.processes.rank
        return mine and not self.path(number).is_file()

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"{number:07}.part"

    def finish(self, count: int, merge: Callable[[Iterator[Path], Path], None]) -> bool:
        """Put the parts together once all are there: done by the first process.

        Args:
            count: Number of parts.
            merge: Writes the output from the parts in order.

        Returns:
            Whether this process did it.
        """
        if self.processes.rank:
            return False
        _wait(lambda: all(self.path(number).is_file() for number in range(count)))
        with atomic(self.out) as temporary:
            merge((self.path(number) for number in range(count)), temporary)
        shutil.rmtree(self.folder)
        return True


def _wait(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(_POLL_SECONDS)


def identity_of(path: Path) -> list[Any]:
    """Name, size and time of a file."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns]
