"""Runs a command of rnafm and writes down what the process had used when a run reached its marks.

python benchmarks/watch.py OUT.json fit --config ... runs `rnafm fit --config ...`.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

IMPORTED = time.process_time()
MARKS: dict[str, dict[str, float]] = {}


def memory() -> float:
    """Megabytes that the process has of its own: mapped files, which it shares, do not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1e3


def mark(name: str) -> None:
    """Note CPU seconds beyond importing Lightning, and memory, the first time that it is called."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    MARKS.setdefault(
        name,
        {
            "cpu_s": time.process_time() - IMPORTED,
            "own_mb": memory(),
            "peak_rss_mb": peak / 1e3,  # with them
        },
    )


class Enough(Exception):  # noqa: N818  # no error
    """What was to be measured is measured."""


class Watch(pl.Callback):
    """Marks where a run stands."""

    def setup(self, *_: Any, **__: Any) -> None:
        """Data were prepared and set up."""
        mark("set up")

    def on_train_batch_start(self, *_: Any) -> None:
        """The first batch is there; without ``WATCH_STEP`` that is all that is asked for."""
        mark("first batch")
        if "WATCH_STEP" not in os.environ:
            raise Enough

    def on_train_batch_end(self, *_: Any) -> None:
        """The first step is done."""
        mark("first step")
        raise Enough


def main() -> None:
    """Run the command with a :class:`Watch` among the callbacks."""
    sys.modules["watch"] = sys.modules["__main__"]  # so that there is one Watch
    out, words = Path(sys.argv[1]), sys.argv[2:]
    from rnafm.cli import main as rnafm

    mark("rnafm imported")
    with contextlib.suppress(Enough):
        rnafm([*words, "--trainer.callbacks+=watch.Watch"])
    out.write_text(json.dumps({"import": {"cpu_s": IMPORTED}, **MARKS}))


if __name__ == "__main__":
    main()
