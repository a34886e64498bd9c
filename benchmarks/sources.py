"""Stores that the benchmarks read: of a real file, of the repository's sample, or synthetic."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from prepare import lengths_like_rnacentral

from rnafm.data.encoding import Part
from rnafm.data.manifest import FORMAT, write_manifest
from rnafm.data.store import Filters, SequenceStore, build_store
from rnafm.data.vocabulary import Vocabulary
from rnafm.data.writer import StoreWriter

SAMPLE = Path(__file__).parents[1] / "examples" / "ncrna_sample.fa.gz"
RNA = Vocabulary.named("rna")
_PART = 1 << 18  # sequences written at a time


def fasta_of(data: Path | None) -> Path:
    """``ncrna.fa.gz`` in the folder of public data, or the repository's sample."""
    return SAMPLE if data is None else data / "ncrna.fa.gz"


def store_of(fasta: Path, folder: Path, **filters: Any) -> SequenceStore:
    """The store of a FASTA file, in a folder for scratch."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{fasta.name}.store"
    return build_store(
        [fasta], path, vocabulary=RNA, filters=Filters(**filters), progress=False, num_workers=1
    )


def remove(fasta: Path, folder: Path) -> None:
    """Make room for a store of the file that is made from the beginning."""
    shutil.rmtree(folder / f"{fasta.name}.store", ignore_errors=True)


def synthetic(folder: Path, sequences: int, scale: float, seed: int = 0) -> SequenceStore:
    """A store of random letters, written once: lengths like RNAcentral's times ``scale``.

    Args:
        folder: Where stores are kept.
        sequences: How many.
        scale: 1 for lengths with a mean of 660.
        seed: Chooses lengths and letters.
    """
    path = folder / f"synthetic-{sequences}-{scale:g}-{seed}.store"
    if path.exists():
        return SequenceStore(path)
    beside = path.with_suffix(".tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    writer, rng = StoreWriter(beside, unique=False), np.random.default_rng(seed)
    for first in range(0, sequences, _PART):
        writer.append(_part(first, min(_PART, sequences - first), scale, rng))
    writer.state()  # to the disk
    settings = {"filters": {"redundancy": "none"}, "columns": None, "on_unknown": "error"}
    about = {"format": FORMAT, "vocabulary": RNA.to_dict(), "settings": settings, "sources": []}
    write_manifest(beside / "store.json", {**about, **writer.finish()})
    writer.close()
    beside.rename(path)
    return SequenceStore(path)


def _part(first: int, count: int, scale: float, rng: np.random.Generator) -> Part:
    """Some sequences; names are numbers of ten digits."""
    lengths = np.maximum(10, lengths_like_rnacentral(count, rng)[0] * scale).astype(np.int64)
    standard = np.array(RNA.standard_ids, np.uint8)
    random = np.frombuffer(rng.bytes(int(lengths.sum())), np.uint8)
    digits = np.arange(first, first + count)[:, None] // 10 ** np.arange(9, -1, -1) % 10
    arrays: dict[str, Any] = {
        "tokens": standard[random & 3],
        "lengths": lengths,
        "hashes": rng.integers(1, 2**64, count, np.uint64),
        "ambiguous": np.zeros(count, np.int64),
        "names": (digits + ord("0")).astype(np.uint8).ravel(),
        "name_lengths": np.full(count, digits.shape[1]),
    }
    part = Part(arrays, {}, {})
    part.counts[0] = count
    return part
