"""Where the time of a run goes."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.pytorch.profilers import Profiler

PARTS = ("step", "data", "validation", "saving", "between")
"""What a process is doing: computing a batch; waiting for one; validating, with all that follows
from it; writing checkpoints; all else between two batches, such as callbacks and loggers."""

# What Lightning calls these sections when it tells its profiler of them.
_SECTIONS = {
    "[_TrainingEpochLoop].train_dataloader_next": "data",
    "run_training_batch": "step",
    "save_checkpoint": "saving",
}


class Clock:
    """Seconds of a run by what the process was doing, each of them counted once.

    It listens to what the trainer tells its profiler, whichever that is. A validation has no
    section there: :meth:`validate` begins it, and the next batch ends it.

    Args:
        before_saving: Called when a checkpoint is about to be written.
        now: Gives the time, in seconds.
    """

    def __init__(
        self,
        before_saving: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._before_saving, self._now = before_saving, now
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._parts: list[str] = []
        self._since = 0.0
        self._profiler: Profiler | None = None

    @property
    def running(self) -> bool:
        """Whether it is between :meth:`start` and :meth:`stop`."""
        return self._profiler is not None

    def start(self, profiler: Profiler) -> None:
        """Begin to count.

        Args:
            profiler: The trainer's.
        """
        self.stop()
        self._seconds.clear()
        self._parts, self._since = ["between"], self._now()
        self._profiler = profiler
        start, stop = profiler.start, profiler.stop

        def started(action_name: str) -> None:
            if (part := _SECTIONS.get(action_name)) is not None:
                self._enter(part)
            start(action_name)

        def stopped(action_name: str) -> None:
            stop(action_name)
            if (part := _SECTIONS.get(action_name)) is not None:
                self._leave(part)

        profiler.start, profiler.stop = started, stopped  # type: ignore[method-assign]

    def stop(self) -> None:
        """Count no more, and leave the profiler as it was."""
        if self._profiler is not None:
            self._charge()
            for name in ("start", "stop"):
                del vars(self._profiler)[name]
            self._profiler = None

    def validate(self) -> None:
        """A validation begins."""
        if self.running:
            self._charge()
            self._parts.append("validation")

    def read(self) -> dict[str, float]:
        """Seconds so far, by part."""
        if self.running:
            self._charge()
        return {part: self._seconds[part] for part in PARTS}

    def _enter(self, part: str) -> None:
        if part == "saving":
            self._before_saving()
        self._charge()
        if part != "saving":  # a batch comes: nothing is validated any more
            self._parts = self._parts[:1]
        self._parts.append(part)

    def _leave(self, part: str) -> None:
        self._charge()
        if self._parts[-1] == part:
            self._parts.pop()

    def _charge(self) -> None:
        now = self._now()
        self._seconds[self._parts[-1]] += now - self._since
        self._since = now


class Event(Protocol):
    """A moment in the work of a device, as ``torch.cuda.Event``."""

    def record(self) -> Any:
        """Put it behind all work that the device has been given."""

    def elapsed_time(self, end_event: Any) -> float:
        """Milliseconds to a later one, when the device has come by both."""


class DeviceWaits:
    """Seconds that a device had nothing to do because the process waited for data.

    A process gives a GPU work ahead of time, so that it may wait for data while the GPU does not.
    Of each pause of the device between two batches, only as much counts as the process waited.

    Args:
        event: Makes an event.
    """

    def __init__(self, event: Callable[[], Event]) -> None:
        self._event = event
        self._last: Event | None = None
        self._pauses: list[tuple[Event, Event, float]] = []

    def begin(self, waited: float) -> None:
        """A batch begins, for which the process has waited so many seconds."""
        if self._last is not None:
            begun = self._event()
            begun.record()
            self._pauses.append((self._last, begun, waited))

    def end(self) -> None:
        """A batch ends."""
        self._last = self._event()
        self._last.record()

    def settle(self) -> float:
        """The seconds since the last call; the device must have done all its work."""
        pauses, self._pauses = self._pauses, []
        return sum(min(end.elapsed_time(begun) / 1e3, waited) for end, begun, waited in pauses)
