"""The bar shows what was logged and costs nothing in between."""

from types import SimpleNamespace

import pytest
import torch

from rnafm.callbacks import RunProgress, progress


class Trainer:
    """Counts how often its metrics are read, which waits for a GPU each time."""

    def __init__(self, log_every=5):
        self.global_step, self.max_steps, self.log_every_n_steps = 0, 100, log_every
        self.sanity_checking, self.state = False, SimpleNamespace(fn="fit")
        self.reads = 0

    @property
    def progress_bar_metrics(self):
        self.reads += 1
        return {
            "train/loss": 1.2345678,
            "throughput/tokens_per_second": 512345.6,
            "throughput/mfu": 0.3344,
            "image": torch.zeros(2),
        }


@pytest.fixture
def now(monkeypatch):
    """The time, which passes when a test says so."""
    time = SimpleNamespace(value=50.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: time.value)
    return time


def train(bar, trainer, now, steps, seconds):
    for _ in range(steps):
        bar.on_train_batch_start(trainer, None, None, 0)
        now.value += seconds
        trainer.global_step += 1
        bar.on_train_batch_end(trainer, None, None, None, 0)


def test_metrics_are_read_once_when_they_were_logged(now, capsys):
    bar, trainer = RunProgress(), Trainer(log_every=5)
    bar.on_train_start(trainer, None)
    train(bar, trainer, now, 5, 1.0)
    assert trainer.reads == 0  # the callbacks behind this one have still to log theirs
    train(bar, trainer, now, 5, 1.0)
    assert trainer.reads == 1
    train(bar, trainer, now, 30, 1.0)
    assert trainer.reads == 7
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["step 21/100  1:19 left  train/loss 1.235  512,346 tokens/s  MFU 33.4 %"]


def test_metrics_are_read_twice_a_second_at_most(now):
    bar, trainer = RunProgress(), Trainer(log_every=1)
    bar.on_train_start(trainer, None)
    train(bar, trainer, now, 1000, 0.01)
    assert 15 <= trainer.reads <= 20


def test_accumulated_batches_of_a_step_are_one(now):
    bar, trainer = RunProgress(), Trainer(log_every=1)
    bar.on_train_start(trainer, None)
    train(bar, trainer, now, 1, 1.0)
    for _ in range(4):
        now.value += 1
        bar.on_train_batch_start(trainer, None, None, 0)
        bar.on_train_batch_end(trainer, None, None, None, 0)
    assert trainer.reads == 1


def test_a_validation_shows_its_scores_at_once(now, capsys):
    bar, trainer = RunProgress(), Trainer()
    bar.on_train_start(trainer, None)
    train(bar, trainer, now, 5, 1.0)
    bar.on_validation_end(trainer, None)
    assert "train/loss" in capsys.readouterr().err
    bar.on_train_batch_start(trainer, None, None, 0)
    assert trainer.reads == 1


def test_a_process_without_a_bar_reads_nothing(now):
    bar, trainer = RunProgress(), Trainer(log_every=1)
    bar.disable()
    bar.on_train_start(trainer, None)
    train(bar, trainer, now, 10, 1.0)
    bar.on_validation_end(trainer, None)
    assert trainer.reads == 0


def test_a_terminal_gets_a_bar(now, monkeypatch, capsys):
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True)
    bar, trainer = RunProgress(), Trainer(log_every=1)
    bar.on_train_start(trainer, None)
    train(bar, trainer, now, 3, 1.0)
    (task,) = bar._progress.tasks
    assert (task.completed, task.total) == (3, 100)
    assert task.fields["metrics"] == "train/loss 1.235  512,346 tokens/s  MFU 33.4 %"
    bar.on_train_end(trainer, None)
    assert "MFU 33.4 %" in capsys.readouterr().err
