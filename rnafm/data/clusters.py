"""Clusters of similar sequences, by mmseqs2 or cd-hit where installed, else by shared k-mers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from rnafm.data.kmers import KmerIndex, choose_k, kmer_sets, normalise

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

ClusterMethod = Literal["auto", "mmseqs", "cd-hit", "k-mers"]

_COVERED = 0.8  # share of both sequences that an alignment covers, as is usual for mmseqs
_MOST_KMERS = 256
_LEAST_SHARED = 8
_MMSEQS_LEAST = 17  # what its spaced 11-mers span
_CD_HIT_LEAST = 0.8  # cd-hit-est refuses less
_CD_HIT_WORDS = ((0.95, 10), (0.9, 8), (0.88, 7), (0.85, 6), (_CD_HIT_LEAST, 5))  # its user's guide
_PROGRAMS = {"mmseqs": "mmseqs", "cd-hit": "cd-hit-est"}


@dataclass(frozen=True)
class Clusters:
    """Which sequences belong together.

    Args:
        labels: Number of the cluster of each sequence, in the order in which they first appear,
            int64 (n,).
        method: What found them, with its version.
    """

    labels: NDArray[np.int64]
    method: str


def cluster(
    sequences: Sequence[str], identity: float = 0.8, method: ClusterMethod = "auto"
) -> Clusters:
    """Find clusters of similar sequences.

    Equal sequences (case does not matter, T is U) are always in one cluster. The clusters do not
    depend on the order of the sequences.

    Args:
        sequences: RNA or DNA; other letters than A, C, G, U and T count as N.
        identity: Least share of equal nucleotides in an alignment, between 0.5 and 1.
        method: ``mmseqs`` joins what aligns over 80 % of both sequences, directly or through
            others (connected components). ``cd-hit`` (cd-hit-est, at least 0.8) compares with the
            longest sequence of each cluster, over the whole of the shorter sequence; on one thread,
            since its result depends on their number. ``k-mers`` is built in: it joins two
            sequences, directly or through others, that share at least ``0.8 * identity**k`` of the
            distinct k-mers (at most 256, chosen by hash) of the one with more of them, which is
            what an identity over 80 % of a sequence leaves whole on average, and at least 8, so
            that short ones are not joined by chance. Conserved stretches join more than alignments
            do, which is safe but coarse: it finds 392 clusters in ArchiveII, where mmseqs finds
            1,277, and has 99 % of those whole. ``auto`` takes the first that is there.

    Raises:
        ValueError: If ``identity`` is out of range, or the method that is asked for is missing.
        ChildProcessError: If the program failed; with what it wrote.
    """
    least = _CD_HIT_LEAST if method == "cd-hit" else 0.5
    if not least <= identity <= 1:
        raise ValueError(
            f"identity ({identity}) must lie between {least} and 1 for clusters by {method}; for "
            "more distant relatives split by a group column such as the family"
        )
    if not sequences:
        return Clusters(np.zeros(0, np.int64), "none: no sequences")
    texts = normalise(sequences)
    distinct = sorted(set(texts), key=lambda text: (-len(text), text))
    if method == "auto":
        method = _first_there(identity)
    labels, name = _METHODS[method](distinct, identity)
    of_text = dict(zip(distinct, labels.tolist(), strict=True))
    rows = np.array([of_text[text] for text in texts])
    _, first, codes = np.unique(rows, return_index=True, return_inverse=True)
    return Clusters(np.argsort(np.argsort(first))[codes], name)


def _first_there(identity: float) -> ClusterMethod:
    if shutil.which(_PROGRAMS["mmseqs"]):
        return "mmseqs"
    if shutil.which(_PROGRAMS["cd-hit"]) and identity >= _CD_HIT_LEAST:
        return "cd-hit"
    return "k-mers"


def _by_mmseqs(sequences: list[str], identity: float) -> tuple[NDArray[np.int64], str]:
    # 11-mers find as many clusters as the 15-mers that are its default (18,229 and 18,230 of bpRNA)
    # with 60 MB instead of 8 GB.
    options = f"--min-seq-id {identity} -c {_COVERED} --cov-mode 0 --cluster-mode 1 -k 11 --mask 0"
    options += f" --dbtype 2 -v 1 --threads {min(os.cpu_count() or 1, 16)}"
    labels = np.arange(len(sequences))
    with tempfile.TemporaryDirectory() as folder:
        # It fails if it finds no k-mer in any sequence.
        if _write(sequences, folder, _MMSEQS_LEAST):
            _run("mmseqs", f"easy-cluster in.fasta out tmp {options}".split(), folder)
            text = Path(folder, "out_cluster.tsv").read_text()
            pairs = np.array(text.split(), np.int64).reshape(-1, 2)  # representative, member
            labels[pairs[:, 1]] = pairs[:, 0]
    version = _run("mmseqs", ["version"], ".").strip()
    return labels, f"mmseqs {version}, connected components"


def _by_cd_hit(sequences: list[str], identity: float) -> tuple[NDArray[np.int64], str]:
    word = next(word for least, word in _CD_HIT_WORDS if identity >= least)
    options = f"-c {identity} -n {word} -r 0 -M 0 -T 1 -d 0 -l {word}"
    with tempfile.TemporaryDirectory() as folder:
        _write(sequences, folder, 0)
        written = _run("cd-hit", f"-i in.fasta -o out {options}".split(), folder)
        text = Path(folder, "out.clstr").read_text()
    labels = np.arange(len(sequences))  # sequences that are shorter than a word stay alone
    for part in text.split(">Cluster")[1:]:
        members = [int(number) for number in re.findall(r">(\d+)\.\.\.", part)]
        labels[members] = members[0]
    version = re.search(r"CD-HIT, V([\d.]+)", written)
    return labels, f"cd-hit-est {version[1] if version else '(unknown version)'}"


def _by_kmers(sequences: list[str], identity: float) -> tuple[NDArray[np.int64], str]:
    """Connected components of the graph of sequences that share enough k-mers."""
    k = choose_k(sequences)
    sets = kmer_sets(sequences, k, _MOST_KMERS)
    least = np.maximum(_COVERED * identity**k * sets.sizes, _LEAST_SHARED)
    labels = np.arange(len(sequences))
    for part, shared in KmerIndex(sets, k).shared(sets):
        # Hardly any pair shares enough for the smaller threshold: only those few are looked at.
        first, second = np.nonzero(shared >= least[part, None])
        counts = shared[first, second]
        first += part.start
        near = (first != second) & (counts >= least[second])
        labels = _join(labels, first[near], second[near])
    return labels, f"built-in, shared {k}-mers"


def _join(
    labels: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give the two of each pair, and all that were one with them, one label: the lowest."""
    while len(first):
        lowest = np.minimum(labels[first], labels[second])
        np.minimum.at(labels, labels[first], lowest)
        np.minimum.at(labels, labels[second], lowest)
        while (labels != labels[labels]).any():
            labels = labels[labels]
        apart = labels[first] != labels[second]
        first, second = first[apart], second[apart]
    return labels


_METHODS: dict[str, Callable[[list[str], float], tuple[NDArray[np.int64], str]]] = {
    "mmseqs": _by_mmseqs,
    "cd-hit": _by_cd_hit,
    "k-mers": _by_kmers,
}


def _write(sequences: list[str], folder: str, least: int) -> int:
    """FASTA for the programs, which know DNA best; names are numbers.

    Returns:
        How many were written: those that have so many plain nucleotides in a row.
    """
    wanted = re.compile(f"[ACGT]{{{least}}}")
    count = 0
    with Path(folder, "in.fasta").open("w") as file:
        for number, sequence in enumerate(sequences):
            letters = re.sub("[^ACGT]", "N", sequence.replace("U", "T"))
            if wanted.search(letters):
                file.write(f">{number}\n{letters}\n")
                count += 1
    return count


def _run(method: str, words: list[str], folder: str) -> str:
    """What the program writes to its output."""
    program = shutil.which(_PROGRAMS[method])
    if program is None:
        raise ValueError(
            f"method {method!r}: there is no {_PROGRAMS[method]} on the PATH; install it (for "
            f"example: conda install -c bioconda {'mmseqs2' if method == 'mmseqs' else 'cd-hit'}) "
            "or use method: k-mers, which is built in"
        )
    done = subprocess.run(  # noqa: S603  # words are ours, and no shell reads them
        [program, *words], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
        raise ChildProcessError(
            f"{program} {words[0]} failed with exit status {done.returncode}; use method: k-mers, "
            f"which is built in, or see what it wrote:\n{last}"
        )
    return done.stdout
