"""Encodes blocks of text in other processes, or in this one where that does not pay."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rnafm.data.encoding import Encoder, Part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


_START = """
import sys
sys.path.append(sys.argv[2])
from rnafm.data.worker import main
main(int(sys.argv[1]))
"""


class Job:
    """A block to encode.

    Args:
        text: Whole records.
        source: What errors call the file.
        path: Where the part is put, if another process makes it.
        digest: XXH3 of the text.
    """

    def __init__(self, text: bytes, source: str, path: Path, digest: str) -> None:
        self.text, self.source, self.path, self.digest = text, source, path, digest


class InProcess:
    """Encodes here, when the part is asked for: for small files and single cores.

    Args:
        settings: ``vocabulary``, ``settings`` and their ``digest``.
    """

    num_readers = 1
    ahead = 1  # blocks that wait, with their text

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._encoder = Encoder(settings["vocabulary"], settings["settings"])

    def submit(self, job: Job) -> Callable[[], Part]:
        """What makes the part."""
        return lambda: self._encoder.encode(job.text, job.source)

    def close(self) -> None:
        """Give the memory back."""
        self._encoder.close()


class Processes:
    """Encodes in processes, each driven by a thread that waits for it; parts go through the disk.

    Args:
        settings: ``vocabulary``, ``settings`` and their ``digest``.
        num_workers: How many processes.
        path: What errors call the work.
    """

    ahead = 0  # any number of parts may wait on the disk

    def __init__(self, settings: Mapping[str, Any], num_workers: int, path: Path) -> None:
        self.settings, self.path = settings, path
        self.num_readers = (num_workers + 2) // 3  # unpacking takes a third of the time of encoding
        self._mine = threading.local()
        self._workers: list[_Worker] = []
        self._free = threading.Semaphore(num_workers + 1)  # texts in memory
        self._closed = False
        self._pool = ThreadPoolExecutor(num_workers, "encode")
        InProcess(settings).close()  # what is wrong with the settings is said here

    def submit(self, job: Job) -> Callable[[], Part]:
        """Start on a part as soon as a process is free; waits while too many blocks do."""
        self._free.acquire()
        future = self._pool.submit(self._encode, job)
        future.add_done_callback(lambda _: self._free.release())
        path, digest = job.path, job.digest

        def part() -> Part:
            future.result()
            found = Part.load(path, digest, self.settings["digest"])
            if found is None:
                raise OSError(
                    f"{path}: is not what was written to it; check the disk, then run it again"
                )
            return found

        return part

    def close(self) -> None:
        """End all processes; what they are about is not finished."""
        self._closed = True
        for worker in list(self._workers):
            worker.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for worker in self._workers:
            worker.close()

    def _encode(self, job: Job) -> None:
        if self._closed:
            return
        worker = getattr(self._mine, "worker", None)
        if worker is None:
            worker = self._mine.worker = _Worker(self.settings, self.path)
            self._workers.append(worker)
        answer = worker.ask(job)
        if "ValueError" in answer:
            raise ValueError(answer["ValueError"])
        if "errno" in answer:
            raise OSError(answer["errno"], answer["strerror"])


class _Worker:
    """One process."""

    def __init__(self, settings: Mapping[str, Any], path: Path) -> None:
        self.path = path
        self._connection, theirs = Pipe()
        package = str(Path(__file__).parents[2])  # found last: nothing in it hides a module
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", _START, str(theirs.fileno()), package],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._connection.send_bytes(json.dumps(settings).encode())

    def ask(self, job: Job) -> dict[str, Any]:
        """Have a block encoded.

        Raises:
            ChildProcessError: If the process ends.
        """
        words = {"source": job.source, "path": str(job.path), "text": job.digest}
        try:
            self._connection.send_bytes(json.dumps(words).encode())
            self._connection.send_bytes(job.text)
            answer: dict[str, Any] = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError) as error:
            code = self._process.wait()
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
            raise ChildProcessError(
                f"{self.path}: a process that encodes was ended {how}, perhaps for want of memory; "
                "run it again: it goes on with what is finished (fewer num_workers need less "
                "memory)"
            ) from error
        return answer

    def kill(self) -> None:
        """End the process, whatever it is about."""
        self._process.kill()

    def close(self) -> None:
        """Wait for the end of the process, and close the connection."""
        self.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._connection.close()
