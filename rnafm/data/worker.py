"""A process that encodes blocks: started by :mod:`rnafm.data.workers`.

It is no ``multiprocessing.Process``, so that a script without ``if __name__ == "__main__"`` is not
run again in it, and so that it does not depend on what threads of the parent hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rnafm.data.encoding import Encoder


def main(handle: int) -> None:
    """Answer jobs until the parent closes the connection or is gone.

    Args:
        handle: Number of an open socket to the parent.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt means
    parent = os.getppid()
    with Connection(handle) as connection:
        settings = json.loads(connection.recv_bytes())
        encoder = Encoder(settings["vocabulary"], settings["settings"])
        while True:
            try:
                job = json.loads(connection.recv_bytes())
                text = connection.recv_bytes()
            except (EOFError, OSError):  # also in the middle of a text
                return
            answer = _answer(encoder, text, job, settings["digest"])
            if os.getppid() != parent:
                return
            with contextlib.suppress(OSError):
                connection.send_bytes(json.dumps(answer).encode())


def _answer(encoder: Encoder, text: bytes, job: dict[str, Any], settings: str) -> dict[str, Any]:
    """Encode a block into a file; what went wrong, if anything did."""
    try:
        part = encoder.encode(text, job["source"])
        part.save(Path(job["path"]), job["text"], settings)
    except ValueError as error:
        return {"ValueError": str(error)}
    except OSError as error:
        return {"errno": error.errno, "strerror": error.strerror}
    return {}
