"""Clusters of similar sequences of a store of any size, by mmseqs2."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from rnafm.data.checksums import num_cores
from rnafm.data.progress import ReadingProgress
from rnafm.data.publish import writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from rnafm.data.store import SequenceStore
    from rnafm.data.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

_LEAST = 0.5
_ROWS = 1 << 16  # sequences that are written at a time
_BLOCK = 8 << 20  # bytes of a table that are read at a time
_SHORT = 32  # shorter sequences have too few words to be compared
_LAST_LINES = 10


@dataclass(frozen=True)
class StoreClusters:
    """Which sequences of a store belong together.

    Args:
        labels: Number of the cluster of each sequence, in the order in which they first appear,
            int64 (B,).
        method: What found them, with its version and settings.
        num_dropped: Sequences that mmseqs left out; each is a cluster with those equal to it.
    """

    labels: NDArray[np.int64]
    method: str
    num_dropped: int


def cluster_store(
    store: SequenceStore,
    identity: float,
    *,
    coverage: float = 0.8,
    num_threads: int | None = None,
    progress: bool = True,
) -> StoreClusters:
    """Find clusters of similar sequences with ``mmseqs linclust``, in linear time.

    Sequences join the longest one that they are similar to, on either strand. Letters other than A,
    C, G and U count as N. Equal sequences are always in one cluster, also those that are too short
    to be compared. Some four times the size of the tokens is needed for a while in a folder beside
    the store. Memory here is 24 bytes per sequence; mmseqs takes what the machine has, if it needs
    it.

    Args:
        store: The sequences.
        identity: Least share of equal nucleotides in an alignment, between 0.5 and 1.
        coverage: Least share of both sequences that the alignment covers.
        num_threads: Threads; all cores if not given.
        progress: Whether to show progress on standard error.

    Raises:
        ValueError: If ``identity`` or ``coverage`` is out of range, or mmseqs is missing.
        OSError: If the disk is full or the folder of the store read-only.
        ChildProcessError: If mmseqs failed; with what it wrote.
    """
    if not 0 < coverage <= 1:
        raise ValueError(f"coverage ({coverage}) must be over 0 and at most 1; 0.8 is usual")
    program = find_mmseqs(identity)
    num_threads = num_threads or num_cores()
    settings = f"--min-seq-id {identity} -c {coverage} --cov-mode 0"
    longest = int(store.lengths.max(initial=0)) * store.vocabulary.letters_per_token
    with writing(store.path):
        beside = tempfile.TemporaryDirectory(
            prefix=f"{store.path.name}.tmp-clusters-", dir=store.path.parent
        )
    with beside as name:
        run = _Run(program, Path(name))
        # Behind what libraries complain of.
        version = run.command("version").strip().rpartition("\n")[2]
        _write_fasta(store, run.folder / "in.fasta", progress=progress)
        run.command("createdb in.fasta db --dbtype 2 -v 2")
        (run.folder / "in.fasta").unlink()
        logger.info("%s: %s sequences go to mmseqs", store.path, f"{len(store):,}")
        # At most 65,535 letters by default; the rest of a longer sequence would be ignored.
        options = f"--threads {num_threads} --max-seq-len {max(longest + 1, 65_535)} -v 2"
        run.command(f"linclust db clusters tmp {settings} {options}")
        run.command(f"createtsv db db clusters out.tsv --threads {num_threads} -v 2")
        labels, num_dropped = _read_labels(run.folder / "out.tsv", len(store))
    if num_dropped:
        logger.warning(
            "%s: mmseqs left out %s sequences; each is a cluster of its own",
            store.path,
            f"{num_dropped:,}",
        )
    _join_equal(labels, store)
    method = f"mmseqs {version}, linclust, identity {identity} over {coverage:.0%} of both"
    return StoreClusters(_numbered(labels), method, num_dropped)


class _Run:
    """Calls mmseqs in a folder; what it says is kept in a file, and told if it fails."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder = program, folder

    def command(self, text: str) -> str:
        """What it wrote."""
        path = self.folder / "log.txt"
        with path.open("w+b") as log:
            done = subprocess.run(  # noqa: S603  # words are ours, and no shell reads them
                [self.program, *text.split()],
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                check=False,
            )
            written = _end(log)
        if done.returncode:
            verb, free = text.partition(" ")[0], shutil.disk_usage(self.folder).free
            last = "\n".join(written.strip().splitlines()[-_LAST_LINES:])
            raise ChildProcessError(
                f"{self.program} {verb} failed with exit status {done.returncode}, with "
                f"{free / 1e9:,.1f} GB free in {self.folder.parent}; make room there if that is "
                f"little, or see what it wrote:\n{last}"
            )
        return written


def find_mmseqs(identity: float) -> str:
    """The program, before anything costly is begun.

    Raises:
        ValueError: If it is missing, or cannot find clusters of this identity.
    """
    if not _LEAST <= identity <= 1:
        raise ValueError(
            f"identity ({identity}) must lie between {_LEAST} and 1 for clusters by mmseqs; for "
            "more distant relatives split by a column such as the family"
        )
    program = shutil.which("mmseqs")
    if program is None:
        raise ValueError(
            "clusters of a store need mmseqs, and there is none on the PATH; install it (apt-get "
            "install mmseqs2, or conda install -c bioconda mmseqs2), or leave out the clusters"
        )
    return program


def _end(log: IO[bytes]) -> str:
    """The last lines of a file."""
    log.seek(max(0, log.seek(0, os.SEEK_END) - (1 << 16)))
    return log.read().decode(errors="replace")


def _write_fasta(store: SequenceStore, path: Path, *, progress: bool) -> None:
    """All sequences as DNA, named by their numbers."""
    letters, offsets = _letters(store.vocabulary), store.offsets
    size = letters.shape[1]
    with (
        ReadingProgress("write FASTA for mmseqs", len(store.tokens), enabled=progress) as shown,
        writing(store.path),
        path.open("wb") as file,
    ):
        for first in range(0, len(store), _ROWS):
            last = min(first + _ROWS, len(store))
            ends = offsets[first : last + 1]
            text = letters[store.tokens[ends[0] : ends[-1]]].tobytes()
            places = ((ends - ends[0]) * size).tolist()
            file.writelines(
                b">%d\n%b\n" % (row, text[start:end])
                for row, (start, end) in enumerate(itertools.pairwise(places), first)
            )
            shown.update(int(ends[-1]), last - first, len(text))


def _letters(vocabulary: Vocabulary) -> NDArray[np.uint8]:
    """Token id -> letters of DNA, (256, letters per token)."""
    size = vocabulary.letters_per_token
    letters = np.full((256, size), ord("N"), np.uint8)
    for token, i in vocabulary.ids.items():
        if len(token) == size and not token.startswith("<"):
            plain = token.upper().replace("U", "T")
            letters[i] = [ord(letter) if letter in "ACGT" else ord("N") for letter in plain]
    return letters


def _blocks(path: Path) -> Iterator[bytes]:
    """Whole lines, some at a time."""
    rest = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            text = rest + block
            cut = text.rfind(b"\n") + 1
            yield text[:cut]
            rest = text[cut:]
    yield rest


def _read_labels(path: Path, size: int) -> tuple[NDArray[np.int64], int]:
    """The representative of each sequence, and how many had none."""
    labels = np.full(size, -1)
    for block in _blocks(path):
        pairs = np.array(block.split(), np.int64).reshape(-1, 2)  # representative, member
        labels[pairs[:, 1]] = pairs[:, 0]
    dropped = np.flatnonzero(labels < 0)
    labels[dropped] = dropped
    return labels, len(dropped)


def _join_equal(labels: NDArray[np.int64], store: SequenceStore) -> None:
    """Give equal ones of the short sequences that are alone the label of the first of them."""
    short = store.lengths * store.vocabulary.letters_per_token < _SHORT
    alone = np.flatnonzero(short & (np.bincount(labels, minlength=1)[labels] == 1))
    _, first, codes = np.unique(store.hashes[alone], return_index=True, return_inverse=True)
    labels[alone] = alone[first[codes]]


def _numbered(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels in the order in which they first appear."""
    rows = np.arange(len(labels))
    first = np.empty_like(rows)
    first[labels[::-1]] = rows[::-1]  # of those with one label the last to be written wins
    first = first[labels]
    numbers: NDArray[np.int64] = (np.cumsum(first == rows) - 1)[first]
    return numbers
