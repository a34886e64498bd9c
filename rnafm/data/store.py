"""Token stores: sequences read once, then memory-mapped by any number of processes."""

from __future__ import annotations

import contextlib
import itertools
import logging
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.building import Build
from rnafm.data.fasta import FastaFile
from rnafm.data.filters import Filters
from rnafm.data.manifest import FORMAT, NAME, difference, fingerprint, read_manifest
from rnafm.data.publish import locked
from rnafm.data.schema import check_store
from rnafm.data.verify import check_codes, check_offsets, check_tokens, decoded, verify_store
from rnafm.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from rnafm.data.vocabulary import OnUnknown

__all__ = ["Filters", "SequenceStore", "build_store"]

logger = logging.getLogger(__name__)

_CHUNK = 1 << 16  # sequences whose lengths are computed together


class SequenceStore:
    """Sequences as token ids, without ``cls`` and ``eos``, on disk.

    A store is a folder: ``tokens.bin`` (uint8), ``offsets.bin`` and ``name_offsets.bin`` (int64),
    ``hashes.bin`` (uint64), ``names.bin`` (UTF-8), one ``column_<n>.bin`` per column (int32 or
    int64), all little-endian, and ``store.json``, which says what it was made of and has checksums
    of everything. Opening takes no time and no memory, whatever the size. A store can be pickled
    and survives ``fork``: every process maps the files for itself. A store may come from anybody:
    it holds plain values only, and what does not fit together is refused before it is used.

    Args:
        path: The folder.

    Attributes:
        info: What ``store.json`` says: format, sources, vocabulary, settings, counts, checksums.

    Raises:
        FileNotFoundError: If there is no store.
        ValueError: If it is damaged or of another version.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not (self.path / NAME).exists():
            raise FileNotFoundError(f"{path}: holds no token store; make one with: rnafm prepare")
        self.info = read_manifest(self.path / NAME)
        check_store(self.path, self.info)

    @classmethod
    def open(cls, path: Path | str) -> SequenceStore:
        """Open the store in a folder."""
        return cls(path)

    def __getstate__(self) -> dict[str, Any]:
        """Only where it is: the other process maps the files itself."""
        return {"path": self.path, "info": self.info}

    def __len__(self) -> int:
        """Number of sequences."""
        return int(self.info["counts"]["kept"])

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all that the store holds, whatever files it was made from and when."""
        return fingerprint(self.info)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the tokens mean."""
        return Vocabulary.from_dict(self.info["vocabulary"])

    @cached_property
    def tokens(self) -> NDArray[np.uint8]:
        """All sequences end to end, uint8 (N,); a plain array, since memmap slices are slow."""
        return self._array("tokens.bin", "|u1")

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each sequence starts, and N at the end, int64 (B + 1,).

        Raises:
            ValueError: If they do not lead through the tokens from start to end.
        """
        check_offsets(self.path / "offsets.bin", self.info["tokens"])
        return self._array("offsets.bin", "<i8")

    @cached_property
    def lengths(self) -> NDArray[np.int32] | NDArray[np.int64]:
        """Number of tokens of each sequence, (B,); in memory.

        int32, which is 160 MB for 40 million, unless one is longer than that can say.
        """
        offsets = self.offsets
        lengths = np.empty(len(self), np.int32)
        for start in range(0, len(lengths), _CHUNK):
            some = np.diff(offsets[start : start + _CHUNK + 1])
            if some.max() > np.iinfo(np.int32).max:
                return np.diff(offsets)
            lengths[start : start + _CHUNK] = some
        return lengths

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """Hash of each sequence, the same on every machine, uint64 (B,)."""
        return self._array("hashes.bin", "<u8")

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(self.info["columns"])

    def column(self, name: str) -> tuple[NDArray[np.integer[Any]], list[str] | None]:
        """A column, of the headers or added later.

        Returns:
            A code for each sequence, int32 or int64 (B,), and the categories that the codes number.
            Category 0 of a column of the headers is the empty text: the header says nothing. None
            instead of categories if the codes themselves are the values.

        Raises:
            ValueError: If there is no such column, or if a code has no category.
        """
        if name not in self.info["columns"]:
            raise ValueError(
                f"{self.path}: has no column {name!r} (it has: {', '.join(self.columns) or 'none'}"
                "); build it with an expression for 'columns' that names it"
            )
        column = self.info["columns"][name]
        codes, categories = self._array(column["file"], column["dtype"]), column["categories"]
        if categories is not None:
            check_codes(self.path / column["file"], codes, len(categories))
        return codes, categories

    def name(self, index: int) -> str:
        """Name of a sequence."""
        index = self._checked(index)
        names, offsets = self._names
        return decoded(self.path, [names[offsets[index] : offsets[index + 1]].tobytes()])[0]

    def names(self) -> Iterator[list[str]]:
        """All names in order, in lists of some ten thousand."""
        text, offsets = self._names
        for start in range(0, len(self), 1 << 16):
            ends = offsets[start : start + (1 << 16) + 1]
            words, base = text[ends[0] : ends[-1]].tobytes(), int(ends[0])
            places = (ends - base).tolist()
            yield decoded(self.path, [words[a:b] for a, b in itertools.pairwise(places)])

    def sequence(self, index: int) -> str:
        """Letters of a sequence, as the vocabulary writes them."""
        index = self._checked(index)
        tokens = self.tokens[self.offsets[index] : self.offsets[index + 1]]
        check_tokens(self.path / "tokens.bin", tokens, len(self.vocabulary))
        return self.vocabulary.decode(tokens)

    def verify(self, num_threads: int | None = None) -> None:
        """Read everything and compare it with its checksums, and the values with one another.

        Args:
            num_threads: How many parts are read at a time; by default one per core, at most 8.

        Raises:
            ValueError: If anything is not as it was written; with file and place.
        """
        verify_store(self, num_threads)

    @cached_property
    def _names(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        return self._array("names.bin", "|u1"), self._array("name_offsets.bin", "<i8")

    def _array(self, name: str, dtype: str) -> NDArray[Any]:
        path = self.path / name
        if not path.stat().st_size:  # an empty file cannot be mapped
            return np.empty(0, dtype)
        return np.asarray(np.memmap(path, dtype, "r"))

    def _checked(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.path}: has {len(self):,} sequences, none with index {index}")
        return int(index) % len(self)


def build_store(  # noqa: PLR0913  # one option each
    fasta: Sequence[Path | str],
    path: Path | str,
    *,
    vocabulary: Vocabulary,
    filters: Filters | None = None,
    columns: str | None = None,
    on_unknown: OnUnknown = "error",
    num_workers: int | None = None,
    annotate: Callable[[Path], None] | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> SequenceStore:
    """Read FASTA files once, in order, into a store; or open the store if it is up to date.

    A store appears whole or not at all: it is written beside its place, brought to the disk and
    then renamed. If the process ends before that, however it does, what is finished is kept in
    ``<store>.building``, and the next call goes on with it (files of less than 64 MB begin anew).
    Of several processes that build the same store one works, the others wait. The store is the
    same, byte by byte, however it came about. Memory does not grow with the files but for 12 to 24
    bytes per sequence that find duplicates.

    Args:
        fasta: FASTA files, plain or gzip.
        path: Folder of the store.
        vocabulary: What the sequences are encoded with.
        filters: Which sequences are left out; see :class:`Filters` for what holds without.
        columns: Names the columns of the headers; see :class:`rnafm.data.columns.HeaderColumns`.
        on_unknown: What to do about letters that the vocabulary lacks: stop, or write ``unk``.
        num_workers: Processes that encode, of about 130 MB each; by default one per core, at most
            8, and 1, which is this process, for files of less than 64 MB.
        annotate: Called with a folder that holds the store before anything contained is left out,
            to add columns with :func:`rnafm.data.store_columns.add_columns`: so what is left out is
            counted by their types. Not called if the store is up to date.
        overwrite: Whether a store may be replaced that took long to make: one without contained
            sequences, or with columns that were added. Any other is, where settings or files are
            not the same.
        progress: Whether to show progress on standard error.

    Raises:
        FileNotFoundError: If a file is missing.
        OSError: If the store cannot be written, or there is no room for it.
        ValueError: If a file is damaged, a sequence cannot be encoded, nothing is left, or the
            folder holds something else.
    """
    path, files = Path(path), [FastaFile(name) for name in fasta]
    if not files:
        raise ValueError(f"{path}: no FASTA files are given; name at least one")
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers ({num_workers}) must be at least 1")
    wanted = wanted_of(vocabulary, filters or Filters(), columns, on_unknown)
    build = Build(
        path, files, wanted, num_workers=num_workers, annotate=annotate, progress=progress
    )
    if difference(path, wanted, files) is not None:
        with locked(path):
            change = difference(path, wanted, files)  # another process may just have built it
            if change is not None:
                if path.exists():
                    if not overwrite:
                        keep_if_costly(path, change)
                    logger.warning("%s: is built again, since %s", path, change)
                build.run()
                return SequenceStore(path)
    elif build.folder.exists():  # killed after the store was in its place
        with contextlib.suppress(OSError), locked(path):
            build.clean_finished()
    logger.info("%s: is up to date and used as it is", path)
    return SequenceStore(path)


def wanted_of(
    vocabulary: Vocabulary, filters: Filters, columns: str | None, on_unknown: OnUnknown
) -> dict[str, Any]:
    """What a store of these settings says of itself, before anything is read."""
    settings = {"filters": asdict(filters), "columns": columns, "on_unknown": on_unknown}
    return {"format": FORMAT, "vocabulary": vocabulary.to_dict(), "settings": settings}


def keep_if_costly(path: Path, change: str) -> None:
    """Refuse to replace what took hours to make because an option was forgotten."""
    try:
        info = read_manifest(path / NAME)
    except (ValueError, OSError):
        return  # it is of no use as it is
    added = [f"with {name}" for name in info.get("added", {})]
    if info["settings"]["filters"]["redundancy"] == "contained":
        added.insert(0, "without contained sequences")
    if added:
        raise ValueError(
            f"{path}: is a store {' and '.join(added)}, and would be built again, since {change}. "
            "Give the same settings; or use it as it is (rnafm fit --data.fasta null --data.store "
            f"{path}); or replace it with rnafm prepare --overwrite"
        )
