"""Progress of reading files, on standard error."""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger(__name__)


class ReadingProgress:
    """A bar on a terminal; elsewhere a line now and then, and one at the end.

    Args:
        what: What is being done.
        total: Bytes to read.
        enabled: Whether to show anything.
        seconds: Time between two lines where there is no terminal.
        already: Bytes that need no reading, since an earlier process has.
    """

    def __init__(
        self,
        what: str,
        total: int,
        *,
        enabled: bool = True,
        seconds: float = 30.0,
        already: int = 0,
    ) -> None:
        self.what, self.total, self.enabled, self.seconds = what, total, enabled, seconds
        self.already = already
        self.num_records = self.num_letters = 0
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        """Start the clock, and the bar on a terminal."""
        self._started = self._spoken = time.perf_counter()
        if self.enabled and sys.stderr.isatty():
            self._bar = Progress(
                TextColumn(self.what),
                BarColumn(bar_width=30),
                TextColumn("{task.percentage:.0f} %  {task.fields[rate]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(self.what, total=self.total, rate="")
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the bar; say how fast it was."""
        if self._bar is not None:
            self._bar.stop()
        if self.enabled and kind is None:
            self._say(f"{self.what}: {self.amount} in {self.taken:.1f} s ({self.rate})")

    @property
    def taken(self) -> float:
        """Seconds since the start."""
        return max(time.perf_counter() - self._started, 1e-9)

    @property
    def amount(self) -> str:
        """What was done."""
        return f"{self.num_records:,} records, {self.num_letters:,} nt"

    @property
    def rate(self) -> str:
        """Records and nucleotides per second."""
        letters = self.num_letters / self.taken
        amount = f"{letters / 1e6:,.1f} M" if letters > 1e5 else f"{letters / 1e3:,.1f} k"  # noqa: PLR2004
        return f"{self.num_records / self.taken:,.0f} seq/s, {amount}nt/s"

    def update(self, position: int, num_records: int, num_letters: int) -> None:
        """Show how far the reading is.

        Args:
            position: Bytes read since the start.
            num_records: Records since the last call.
            num_letters: Nucleotides since the last call.
        """
        self.num_records += num_records
        self.num_letters += num_letters
        if self._bar is not None:
            self._bar.update(self._task, completed=position, rate=self.rate)
        elif self.enabled and time.perf_counter() - self._spoken > self.seconds:
            self._spoken = time.perf_counter()
            left = self.taken * (self.total - position) / max(position - self.already, 1)
            self._say(
                f"{self.what}: {position / max(self.total, 1):.0%}, {self.amount} ({self.rate}), "
                f"{left:,.0f} s left"
            )

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201


class CopyProgress(ReadingProgress):
    """Progress of copying files; parameters as for :class:`ReadingProgress`."""

    _copied = 0

    @property
    def amount(self) -> str:
        """What was done."""
        return f"{self._copied / 1e6:,.1f} MB"

    @property
    def rate(self) -> str:
        """Bytes per second."""
        return f"{self._copied / self.taken / 1e6:,.0f} MB/s"

    def copied(self, size: int) -> None:
        """Show that so many more bytes are copied."""
        self._copied += size
        self.update(self._copied, 0, 0)
