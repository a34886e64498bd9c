"""Stores for tests: built in small blocks, so that a kilobyte is what gigabytes are elsewhere."""

import os
import random
import time

from rnafm.data import building, filling, journal, workers
from rnafm.data.encoding import Encoder
from rnafm.data.fasta import Record
from rnafm.data.store import build_store
from rnafm.data.vocabulary import Vocabulary

RNA = Vocabulary.named("rna")
TYPES = ("tRNA", "rRNA", "miRNA", "")


def records(count, seed=0, repeats=0.1):
    """Random sequences, some of them twice, with types in some headers."""
    rng, found = random.Random(seed), []  # noqa: S311
    for i in range(count):
        sequence = "".join(rng.choices("ACGU", k=rng.randint(20, 120)))
        if found and rng.random() < repeats:
            sequence = rng.choice(found).sequence.lower()
        kind = rng.choice(TYPES)
        found.append(Record(f"r{seed}.{i}", sequence, f"type={kind}" if kind else "é"))
    return found


class LocalWorker:
    """What a process does, in the thread that drives it: parts go through the disk all the same."""

    def __init__(self, settings, _):
        self.settings = settings
        self.encoder = Encoder(settings["vocabulary"], settings["settings"])

    def ask(self, job):
        try:
            part = self.encoder.encode(job.text, job.source)
        except ValueError as error:
            return {"ValueError": str(error)}
        part.save(job.path, job.digest, self.settings["digest"])
        return {}

    def kill(self):
        """Nothing to end."""

    def close(self):
        self.encoder.close()


def in_small_blocks(patch, *, local=True, size=1200):
    """Blocks of some kilobytes, each written to the journal; processes are threads."""
    patch.setattr(filling, "BLOCK", size)
    patch.setattr(building, "_SMALL", 0)
    patch.setattr(journal, "_COMMIT", 1)
    patch.setattr(
        os, "fsync", lambda _: None
    )  # a kill leaves what is in memory; a power cut no test
    if local:
        patch.setattr(workers, "_Worker", LocalWorker)


def build(files, path, **options):
    return build_store(files, path, **{"vocabulary": RNA, "progress": False, **options})


def contents(path):
    """All files of a store."""
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def run_and_kill(work, seconds):
    """Run something in a fork of this process and kill it; whether it was killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    time.sleep(seconds)
    os.kill(child, 9)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def counted_encoding(patch, log):
    """Have every block that is encoded, in any process, add a byte to a file."""
    encode = Encoder.encode

    def counted(self, text, source):
        part = encode(self, text, source)
        with log.open("ab") as file:
            file.write(b".")
        return part

    patch.setattr(Encoder, "encode", counted)
