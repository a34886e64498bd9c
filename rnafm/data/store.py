"""Token stores: sequences read once, then memory-mapped by any number of processes."""

from __future__ import annotations

import itertools
import logging
import zlib
from contextlib import closing
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.fasta import FastaFile
from rnafm.data.filters import Filters
from rnafm.data.manifest import FORMAT, difference, read_manifest, write_manifest
from rnafm.data.progress import ReadingProgress
from rnafm.data.publish import locked, publish, writing
from rnafm.data.vocabulary import Vocabulary
from rnafm.data.writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from rnafm.data.vocabulary import OnUnknown

__all__ = ["Filters", "SequenceStore", "build_store"]

logger = logging.getLogger(__name__)


class SequenceStore:
    """Sequences as token ids, without ``cls`` and ``eos``, on disk.

    A store is a folder: ``tokens.bin`` (uint8), ``offsets.npy``, ``hashes.npy``, ``names.bin`` and
    ``name_offsets.npy``, one ``column_*.npy`` per column of the headers, and ``store.json``, which
    says what it was made of. Opening takes no time and no memory, whatever the size. A store can be
    pickled and survives ``fork``: every process maps the files for itself.

    Args:
        path: The folder.

    Attributes:
        info: What ``store.json`` says: format, sources, vocabulary, settings, counts, checksum.

    Raises:
        FileNotFoundError: If there is no store.
        ValueError: If it is damaged or of another version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.info = read_manifest(self.path)
        expected = self.info["counts"]["kept"]
        if (
            len(self.hashes) != expected
            or len(self.offsets) != expected + 1
            or (self.path / "tokens.bin").stat().st_size != self.info["tokens"]
        ):
            raise ValueError(
                f"{path}: the files of the store do not fit together; delete it and build it again "
                "with: rnafm prepare"
            )

    @classmethod
    def open(cls, path: Path | str) -> SequenceStore:
        """Open the store in a folder."""
        return cls(path)

    def __getstate__(self) -> dict[str, Any]:
        """Only where it is: the other process maps the files itself."""
        return {"path": self.path, "info": self.info}

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.offsets) - 1

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the tokens mean."""
        return Vocabulary.from_dict(self.info["vocabulary"])

    @cached_property
    def tokens(self) -> NDArray[np.uint8]:
        """All sequences end to end, uint8 (N,); a plain array, since memmap slices are slow."""
        return np.asarray(np.memmap(self.path / "tokens.bin", np.uint8, "r"))

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each sequence starts, and N at the end, int64 (B + 1,)."""
        return self._array("offsets.npy")

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Number of tokens of each sequence, int64 (B,); in memory."""
        return np.diff(self.offsets)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """Hash of each sequence, the same on every machine, uint64 (B,)."""
        return self._array("hashes.npy")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.info["columns"])

    def column(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """A column of the headers.

        Returns:
            A code for each sequence, int32 (B,), and the categories that the codes number. Category
            0 is the empty text, for headers that say nothing.

        Raises:
            ValueError: If there is no such column.
        """
        if name not in self.info["columns"]:
            raise ValueError(
                f"{self.path}: has no column {name!r} (it has: {', '.join(self.columns) or 'none'}"
                "); build it with an expression for 'columns' that names it"
            )
        column = self.info["columns"][name]
        return self._array(column["file"]), column["categories"]

    def name(self, index: int) -> str:
        """Name of a sequence."""
        index = self._checked(index)
        names, offsets = self._names
        return names[offsets[index] : offsets[index + 1]].tobytes().decode()

    def names(self) -> Iterator[list[str]]:
        """All names in order, in lists of some ten thousand."""
        text, offsets = self._names
        for start in range(0, len(self), 1 << 16):
            ends = offsets[start : start + (1 << 16) + 1]
            words, base = text[ends[0] : ends[-1]].tobytes(), int(ends[0])
            places = (ends - base).tolist()
            yield [words[a:b].decode() for a, b in itertools.pairwise(places)]

    def sequence(self, index: int) -> str:
        """Letters of a sequence, as the vocabulary writes them."""
        index = self._checked(index)
        return self.vocabulary.decode(self.tokens[self.offsets[index] : self.offsets[index + 1]])

    def verify(self) -> None:
        """Read all tokens and compare their checksum.

        Raises:
            ValueError: If it differs.
        """
        checksum = 0
        for start in range(0, len(self.tokens), 1 << 24):
            checksum = zlib.crc32(self.tokens[start : start + (1 << 24)].data, checksum)
        if self.info["checksum"] != f"crc32:{checksum:08x}":
            raise ValueError(
                f"{self.path}/tokens.bin: has checksum crc32:{checksum:08x}, not "
                f"{self.info['checksum']}; delete the store and build it again with: rnafm prepare"
            )

    @cached_property
    def _names(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        path = self.path / "names.bin"
        size = path.stat().st_size  # an empty file cannot be mapped
        names = np.asarray(np.memmap(path, np.uint8, "r")) if size else np.empty(0, np.uint8)
        return names, self._array("name_offsets.npy")

    def _array(self, name: str) -> NDArray[Any]:
        try:
            return np.asarray(np.load(self.path / name, mmap_mode="r"))
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"{self.path / name}: cannot be read ({error}); delete the store and build it "
                "again with: rnafm prepare"
            ) from error

    def _checked(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path}: has {len(self):,} sequences, none with index {index}")
        return int(index) % len(self)


def build_store(
    fasta: Sequence[Path | str],
    path: Path | str,
    *,
    vocabulary: Vocabulary,
    filters: Filters | None = None,
    columns: str | None = None,
    on_unknown: OnUnknown = "error",
    progress: bool = True,
) -> SequenceStore:
    """Read FASTA files once, in order, into a store; or open the store if it is up to date.

    A store appears whole or not at all: it is written beside its place, brought to the disk and
    then renamed. Of several processes that build the same store one works, the others wait. Memory
    does not grow with the files but for 12 to 24 bytes per sequence that find duplicates.

    Args:
        fasta: FASTA files, plain or gzip.
        path: Folder of the store.
        vocabulary: What the sequences are encoded with.
        filters: Which sequences are left out; see :class:`Filters` for what holds without.
        columns: Names the columns of the headers; see :class:`rnafm.data.columns.HeaderColumns`.
        on_unknown: What to do about letters that the vocabulary lacks: stop, or write ``unk``.
        progress: Whether to show progress on standard error.

    Raises:
        FileNotFoundError: If a file is missing.
        OSError: If the store cannot be written.
        ValueError: If a file is damaged, a sequence cannot be encoded, nothing is left, or the
            folder holds something else.
    """
    path, files = Path(path), [FastaFile(name) for name in fasta]
    if not files:
        raise ValueError(f"{path}: no FASTA files are given; name at least one")
    filters = filters or Filters()
    wanted = {
        "format": FORMAT,
        "vocabulary": vocabulary.to_dict(),
        "settings": {"filters": asdict(filters), "columns": columns, "on_unknown": on_unknown},
    }
    if difference(path, wanted, files) is not None:
        with locked(path):
            change = difference(path, wanted, files)  # another process may just have built it
            if change is not None:
                if path.exists():
                    logger.warning("%s: is built again, since %s", path, change)
                with (
                    publish(path) as folder,
                    closing(StoreWriter(folder, vocabulary, filters, columns, on_unknown)) as to,
                ):
                    _read(files, to, path, progress=progress)
                    with writing(path):
                        contents = {**to.finish(), "sources": [file.source for file in files]}
                        write_manifest(folder, {**wanted, **contents})
                return SequenceStore(path)
    logger.info("%s: is up to date and used as it is", path)
    return SequenceStore(path)


def _read(files: Sequence[FastaFile], writer: StoreWriter, path: Path, *, progress: bool) -> None:
    """Pass all records of all files to the writer."""
    done = 0
    total = sum(file.size for file in files)
    with ReadingProgress(f"prepare {path.name}", total, enabled=progress) as shown:
        for file in files:
            for records in file.batches():
                with writing(path):
                    num_nucleotides = writer.add(records, str(file.path))
                shown.update(done + file.position, len(records), num_nucleotides)
            done += file.size
    rules = dict(writer.counts)
    if not rules["kept"]:
        dropped = ", ".join(f"{count:,} {rule}" for rule, count in rules.items() if count)
        raise ValueError(f"{path}: no sequence is left ({dropped}); loosen the filters")
