"""Writes the files of a token store, batch by batch and in constant memory."""

from __future__ import annotations

import contextlib
import itertools
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy

from rnafm.data.columns import HeaderColumns
from rnafm.data.filters import Judge, sequence_digests

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rnafm.data.filters import Filters
    from rnafm.data.vocabulary import OnUnknown, Vocabulary

_BUFFER = 1 << 20


class _Array:
    """A ``.npy`` file that grows; numpy leaves room in the header for its length."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.file = path.open("wb", buffering=_BUFFER)
        self._dtype, self._length = np.dtype(dtype), 0
        self._header()

    def append(self, values: NDArray[Any]) -> None:
        self.file.write(np.ascontiguousarray(values, self._dtype).data)
        self._length += len(values)

    def finish(self) -> None:
        self.file.seek(0)
        self._header()
        self.file.close()

    def _header(self) -> None:
        shape = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._length,)}
        npy.write_array_header_1_0(self.file, shape)


def _pick(
    tokens: NDArray[np.uint8], lengths: NDArray[np.int64], kept: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Tokens of the sequences that are kept, run by run."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    edges = np.flatnonzero(np.diff(kept, prepend=False, append=False))
    runs = offsets[edges].reshape(-1, 2).tolist()
    return np.concatenate([tokens[:0], *(tokens[start:end] for start, end in runs)])


class StoreWriter:
    """The files of a store that is not yet complete.

    Args:
        folder: An empty folder.
        vocabulary: What sequences are encoded with.
        filters: Which sequences are left out.
        columns: See :class:`rnafm.data.columns.HeaderColumns`.
        on_unknown: What to do about letters that the vocabulary lacks.
    """

    def __init__(
        self,
        folder: Path,
        vocabulary: Vocabulary,
        filters: Filters,
        columns: str | None,
        on_unknown: OnUnknown,
    ) -> None:
        self.folder, self.vocabulary = folder, vocabulary
        self.on_unknown: OnUnknown = on_unknown
        self.num_tokens = self.num_ambiguous = self.checksum = 0
        self.num_names = 0
        self._judge = Judge(filters, vocabulary)
        self._columns = HeaderColumns(columns)
        self._codes: dict[str, _Array] = {}
        self._files = {
            name: (folder / f"{name}.bin").open("wb", buffering=_BUFFER)
            for name in ("tokens", "names")
        }
        self._arrays = {
            "offsets": _Array(folder / "offsets.npy", "<i8"),
            "name_offsets": _Array(folder / "name_offsets.npy", "<i8"),
            "hashes": _Array(folder / "hashes.npy", "<u8"),
        }
        for name in ("offsets", "name_offsets"):
            self._arrays[name].append(np.zeros(1, np.int64))

    @property
    def counts(self) -> dict[str, int]:
        """Number of sequences by the rule that decided about them."""
        return self._judge.counts

    def add(self, records: Sequence[tuple[str, str, str]], source: str) -> int:
        """Encode, filter and write some records.

        Args:
            records: Names, sequences and descriptions.
            source: What errors call the file.

        Returns:
            Number of nucleotides read.

        Raises:
            ValueError: If a sequence cannot be encoded; the message names file and record.
        """
        names, sequences, descriptions = zip(*records, strict=True)
        try:
            tokens, lengths = self.vocabulary.encode_many(
                sequences, names=names, on_unknown=self.on_unknown
            )
        except ValueError as error:
            raise ValueError(f"{source}:{error}") from error
        hashes, checks = sequence_digests(sequences)
        before = self.counts["kept"]
        kept, ambiguous = self._judge.decide(tokens, lengths, (hashes, checks))
        codes = self._columns.read(names, descriptions)
        num_tokens = len(tokens)
        if not kept.all():
            tokens = _pick(tokens, lengths, kept)
            lengths, hashes, ambiguous = lengths[kept], hashes[kept], ambiguous[kept]
            names = tuple(itertools.compress(names, kept))
            codes = {name: values[kept] for name, values in codes.items()}
        self._write_codes(codes, before)
        self._write_names(names)
        self._files["tokens"].write(tokens.data)
        self._arrays["offsets"].append(self.num_tokens + np.cumsum(lengths))
        self._arrays["hashes"].append(hashes)
        self.checksum = zlib.crc32(tokens.data, self.checksum)
        self.num_tokens += len(tokens)
        self.num_ambiguous += int(ambiguous.sum())
        return num_tokens * self.vocabulary.letters_per_token

    def finish(self) -> dict[str, Any]:
        """Complete all files.

        Returns:
            What the store is made of, for ``store.json``.
        """
        for array in (*self._arrays.values(), *self._codes.values()):
            array.finish()
        for file in self._files.values():
            file.close()  # what the disk refuses comes out here
        return {
            "counts": {"read": sum(self.counts.values()), **self.counts},
            "tokens": self.num_tokens,
            "ambiguous": self.num_ambiguous,
            "checksum": f"crc32:{self.checksum:08x}",
            "columns": {
                name: {"file": f"column_{i}.npy", "categories": self._columns.categories(name)}
                for i, name in enumerate(self._codes)
            },
        }

    def close(self) -> None:
        """Close all files, complete or not."""
        arrays = (*self._arrays.values(), *self._codes.values())
        for file in (*self._files.values(), *(array.file for array in arrays)):
            with contextlib.suppress(OSError):  # what could not be written fails again
                file.close()

    def _write_names(self, names: Sequence[str]) -> None:
        """Append names."""
        text = "".join(names)
        encoded = names if text.isascii() else [name.encode() for name in names]
        ends = self.num_names + np.cumsum(np.fromiter(map(len, encoded), np.int64, len(names)))
        self._files["names"].write(text.encode())
        self._arrays["name_offsets"].append(ends)
        self.num_names = int(ends[-1]) if len(ends) else self.num_names

    def _write_codes(self, codes: dict[str, NDArray[np.int32]], before: int) -> None:
        """Append to the columns; one that is new starts with empty values."""
        for name, values in codes.items():
            if name not in self._codes:
                path = self.folder / f"column_{len(self._codes)}.npy"
                self._codes[name] = _Array(path, "<i4")
                self._codes[name].append(np.zeros(before, np.int32))
            self._codes[name].append(values)
