"""Several processes of one run, forked from this one, so that nothing has to be imported again."""

import multiprocessing
import os
import socket
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

from rnafm.cli import main


@dataclass
class End:
    """How a process ended."""

    code: int
    text: str


def free_port():
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def fork(folder, world_size, words, limit=100):
    """Run ``rnafm`` as torchrun would start it; how each process ended.

    Whoever is alive after ``limit`` seconds is killed, and the test fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(world_size),
        "LOCAL_WORLD_SIZE": str(world_size),
        "GROUP_RANK": "0",
        "TORCHELASTIC_RUN_ID": "test",
    }
    context = multiprocessing.get_context("fork")
    processes = []
    for rank in range(world_size):
        own = environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
        path = folder / f"rank{rank}.txt"
        processes.append((context.Process(target=_run, args=(words, own, path)), path))
    for process, _ in processes:
        process.start()
    end = time.monotonic() + limit
    for process, _ in processes:
        process.join(max(0, end - time.monotonic()))
    hanging = [rank for rank, (process, _) in enumerate(processes) if process.is_alive()]
    for process, _ in processes:
        process.kill()
        process.join()
    ends = [End(process.exitcode, path.read_text()) for process, path in processes]
    texts = "\n".join(each.text[-2000:] for each in ends)
    assert not hanging, f"processes {hanging} did not end in {limit} s:\n{texts}"
    return ends


def succeed(folder, world_size, words, limit=100):
    """The same, where all is to go well; what the first process said."""
    ends = fork(folder, world_size, words, limit)
    codes, texts = [each.code for each in ends], "\n".join(each.text[-2000:] for each in ends)
    assert codes == [0] * world_size, f"{codes}\n{texts}"
    return ends[0].text


def _run(words, environment, path: Path):
    os.environ.update(environment)
    # Those of the compiler are not shown to users.
    for text in ("`torch.jit", "The .grad attribute"):
        warnings.filterwarnings("ignore", text)
    file = path.open("w")  # open until the end: what ends the process is printed last
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    sys.stdout = sys.stderr = file
    main(words)
