"""Seconds are counted once, and a device's waiting only where it had nothing to do."""

import contextlib

import pytest
from hand_clock import FETCH, Time
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler

from rnafm.callbacks.clock import PARTS, Clock, DeviceWaits


class Event:
    """As of a device whose times are known."""

    times = ()

    def record(self):
        self.time = Event.times.pop(0)

    def elapsed_time(self, end_event):
        return 1e3 * (end_event.time - self.time)


@pytest.fixture
def watched():
    time, profiler = Time(), PassThroughProfiler()
    clock = Clock(now=time)
    clock.start(profiler)
    return clock, profiler, time


def test_every_second_has_its_part(watched):
    clock, profiler, time = watched
    for _ in range(2):
        time.spend(0.5)  # callbacks
        with profiler.profile(FETCH):
            time.spend(3)
        time.spend(0.25)  # transfer
        with profiler.profile("run_training_batch"), profiler.profile("optimizer_step"):
            time.spend(1)
    parts = clock.read()
    assert parts == {"step": 2, "data": 6, "validation": 0, "saving": 0, "between": 1.5}
    assert tuple(parts) == PARTS and sum(parts.values()) == time.now - 100


def test_a_validation_lasts_until_the_next_batch_but_saving_is_saving(watched):
    clock, profiler, time = watched
    clock.validate()
    time.spend(4)
    with profiler.profile("save_checkpoint"):
        time.spend(2)
    time.spend(1)  # pictures
    with profiler.profile(FETCH):
        time.spend(0.5)
    clock.validate()  # made up for between a batch and its step
    time.spend(8)
    with profiler.profile("run_training_batch"):
        time.spend(1)
    time.spend(1)
    expected = {"step": 1, "data": 0.5, "validation": 13, "saving": 2, "between": 1}
    assert clock.read() == expected


def test_a_section_that_fails_is_over(watched):
    clock, profiler, time = watched
    with contextlib.suppress(StopIteration), profiler.profile(FETCH):
        time.spend(1)
        raise StopIteration  # the end of an epoch
    time.spend(2)
    assert clock.read()["data"] == 1 and clock.read()["between"] == 2


def test_before_a_checkpoint_is_written_somebody_is_told():
    time, profiler = Time(), PassThroughProfiler()
    clock = Clock(lambda: time.spend(5), time)  # waits for a device that still computes
    clock.start(profiler)
    with profiler.profile("save_checkpoint"):
        time.spend(1)
    assert clock.read()["saving"] == 1 and clock.read()["between"] == 5


def test_a_profiler_goes_on_and_is_given_back(watched):
    clock, quiet, time = watched
    clock.stop()
    assert vars(quiet).keys() == vars(PassThroughProfiler()).keys() and not clock.running
    time.spend(9)
    assert sum(clock.read().values()) == 0
    profiler = SimpleProfiler()
    clock.start(profiler)
    with profiler.profile(FETCH):
        time.spend(1)
    clock.stop()
    assert clock.read()["data"] == 1
    assert len(profiler.recorded_durations[FETCH]) == 1 and "start" not in vars(profiler)
    clock.validate()  # of a run that is over
    time.spend(1)
    assert clock.read()["validation"] == 0


def test_a_device_that_has_work_does_not_wait():
    waits = DeviceWaits(Event)
    # It ends batches at 1.0, 2.5 and 3.0 and begins the next ones at 1.4, 2.5 and 5.0.
    Event.times = [1.0, 1.4, 2.5, 2.5, 3.0, 5.0, 6.0]
    waits.begin(7)  # the first batch: nobody knows since when
    waits.end()
    waits.begin(0.3)  # of 0.4 s without work 0.3 for want of data
    waits.end()
    waits.begin(0.9)  # the process waited while the device computed
    waits.end()
    assert waits.settle() == pytest.approx(0.3)
    waits.begin(0.5)
    waits.end()
    assert waits.settle() == 0.5 and waits.settle() == 0
    assert Event.times == []
