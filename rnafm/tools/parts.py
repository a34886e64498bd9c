"""Long predictions in parts: in order, on any number of processes, to be continued after a stop."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from rnafm.files import atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Processes:
    """Who takes part.

    Attributes:
        rank: Number of this process.
        world_size: Number of processes that share the work.
    """

    rank: int = 0
    world_size: int = 1

    @classmethod
    def from_environment(cls) -> Processes:
        """As ``torchrun`` says; a process alone otherwise."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


class Parts:
    """Numbered files in a folder beside the output, each whole or not there.

    A context: when it is left by an error, the parts stay for the next time. The processes need
    nothing but a common file system. They wait for each other without an end: what starts them
    has to stop all when one fails, as ``torchrun`` does.

    Args:
        out: The file to write in the end.
        identity: What the parts are made of, plain values by name; parts of something else are
            thrown away.
        processes: Who takes part.

    Raises:
        ValueError: If the folder is there and holds something else.
    """

    def __init__(self, out: Path, identity: dict[str, Any], processes: Processes) -> None:
        self.out, self.processes = out, processes
        self.identity: dict[str, Any] = json.loads(json.dumps(identity, default=str))
        self.folder = out.with_name(f"{out.name}.parts")
        self._about = self.folder / "about.json"

    def __enter__(self) -> Self:
        """Keep what is there if it is of the same; the first process decides."""
        if self.processes.rank:
            _wait(lambda: self._found() == self.identity)
        elif (found := self._found()) == self.identity:
            for marker in self.folder.glob("*.done"):
                marker.unlink()
            print(f"continuing {self.out}: {self._count()} parts are done", file=sys.stderr)
        else:
            self._refuse_strangers()
            if found:
                others = [name for name in self.identity if found.get(name) != self.identity[name]]
                print(
                    f"starting {self.out} over: the parts in {self.folder} are of another "
                    f"{' and '.join(others)}",
                    file=sys.stderr,
                )
            shutil.rmtree(self.folder, ignore_errors=True)
            with atomic(self._about) as temporary:
                temporary.write_text(json.dumps(self.identity))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say what is left of a run that did not end."""
        if kind is None or self.processes.rank:
            return
        if done := self._count():
            print(
                f"{done} parts are kept in {self.folder}; the same command goes on from there",
                file=sys.stderr,
            )
        elif self.processes.world_size == 1:
            shutil.rmtree(self.folder, ignore_errors=True)

    def missing(self, number: int) -> bool:
        """Whether this process is to make this part."""
        mine = number % self.processes.world_size == self.processes.rank
        return mine and not self.path(number).is_file()

    def path(self, number: int) -> Path:
        """The file of a part."""
        return self.folder / f"{number:07}.part"

    def finish(self, count: int, merge: Callable[[Iterator[Path], Path], None]) -> bool:
        """Put the parts together once all are there: done by the first process.

        No process returns before the output is there.

        Args:
            count: Number of parts.
            merge: Writes the output from the parts in order.

        Returns:
            Whether this process did it.
        """
        if self.processes.rank:
            while self._about.is_file():
                # Again and again: the first process may start last, and clears old markers then.
                with contextlib.suppress(FileNotFoundError):
                    (self.folder / f"{self.processes.rank}.done").touch()
                time.sleep(_POLL_SECONDS)
            return False
        # Also for the processes: one still on its way would make its parts anew in a folder gone.
        needed = [self.path(number) for number in range(count)]
        needed += [self.folder / f"{rank}.done" for rank in range(1, self.processes.world_size)]
        _wait(lambda: all(path.is_file() for path in needed))
        with atomic(self.out) as temporary:
            merge((self.path(number) for number in range(count)), temporary)
        gone = self.folder.rename(self.folder.with_name(f".{os.getpid()}.{self.folder.name}"))
        shutil.rmtree(gone)
        return True

    def _found(self) -> dict[str, Any] | None:
        """What the parts in the folder are made of."""
        try:
            content = json.loads(self._about.read_text())
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def _count(self) -> int:
        return sum(1 for _ in self.folder.glob("*.part"))

    def _refuse_strangers(self) -> None:
        """Nothing is thrown away that is not known to be of a prediction."""
        names = [path.name for path in self.folder.glob("[!.]*")]
        strange = [name for name in names if not name.endswith((".part", ".done", "about.json"))]
        if strange or (self.folder.exists() and not self.folder.is_dir()):
            holds = f" holds {strange[0]} and" if strange else ""
            raise ValueError(
                f"{self.folder}:{holds} is not the folder of parts of a prediction; move it away, "
                "or give --out another name"
            )


def _wait(done: Callable[[], bool]) -> None:
    while not done():
        time.sleep(_POLL_SECONDS)


def identity_of(path: Path) -> list[Any]:
    """What tells a file or folder from others: its path, and name, size and time of its files.

    Raises:
        FileNotFoundError: If there is nothing.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file; correct the path")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    statuses = [(file.name, file.stat()) for file in files if file.is_file()]
    return [
        str(path.resolve()),
        *([name, status.st_size, status.st_mtime_ns] for name, status in statuses),
    ]
