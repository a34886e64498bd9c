"""From a block of text to the part of a store that it becomes; the same in any process."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from rnafm.data.blocks import Block
from rnafm.data.columns import HeaderColumns
from rnafm.data.filters import RULES, Filters, Judge, sequence_digests
from rnafm.data.parsing import Parser
from rnafm.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_MAGIC = b"rnafm part 1\n"
_ARRAYS = {
    "tokens": "|u1",
    "lengths": "<i8",
    "hashes": "<u8",
    "checks": "<u4",
    "ambiguous": "<i8",
    "names": "|u1",
    "name_lengths": "<i8",
}


@dataclass
class Part:
    """What a block of text becomes, before anything is known of the blocks before it.

    Args:
        arrays: Of the sequences that no rule of their own leaves out: ``tokens`` end to end,
            ``lengths``, ``hashes``, ``checks``, numbers of ``ambiguous`` tokens, ``names`` (UTF-8,
            end to end) and ``name_lengths`` in bytes.
        codes: For each column, codes of the same sequences.
        categories: For each column, the values of the codes: those of this block only.
        counts: Number of sequences per rule of :data:`rnafm.data.filters.RULES`.
        num_nucleotides: How many were read.
    """

    arrays: dict[str, NDArray[Any]]
    codes: dict[str, NDArray[np.int32]]
    categories: dict[str, list[str]]
    counts: list[int] = field(default_factory=lambda: [0] * len(RULES))
    num_nucleotides: int = 0

    def save(self, path: Path, text: str, settings: str) -> None:
        """Write a file that says what it was made of and whether it is whole.

        Args:
            path: The file, which is complete or not there.
            text: XXH3 of the text.
            settings: XXH3 of the settings.
        """
        arrays = {**self.arrays, **{f"code {name}": codes for name, codes in self.codes.items()}}
        head = {
            "text": text,
            "settings": settings,
            "sizes": {name: len(array) for name, array in arrays.items()},
            "categories": self.categories,
            "counts": self.counts,
            "num_nucleotides": self.num_nucleotides,
        }
        line = json.dumps(head).encode()
        temporary = path.with_suffix(f".{os.getpid()}")  # a killed parent's process may be at it
        digest = xxhash.xxh3_128()
        with temporary.open("wb") as file:
            for piece in (_MAGIC, len(line).to_bytes(8, "little"), line):
                digest.update(piece)
                file.write(piece)
            for array in arrays.values():
                if len(array):
                    digest.update(array.data)
                    file.write(array.data)
            file.write(digest.digest())
        temporary.replace(path)

    @classmethod
    def load(cls, path: Path, text: str, settings: str) -> Part | None:
        """Read a file, if it is there, whole, and made of this text with these settings."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        start = len(_MAGIC) + 8
        if xxhash.xxh3_128_digest(memoryview(data)[:-16]) != data[-16:] or len(data) < start + 16:
            return None
        size = int.from_bytes(data[len(_MAGIC) : start], "little")
        head = json.loads(data[start : start + size])
        if (head["text"], head["settings"]) != (text, settings):
            return None
        arrays, start = {}, start + size
        for name, length in head["sizes"].items():
            arrays[name] = np.frombuffer(data, _ARRAYS.get(name, "<i4"), length, start)
            start += arrays[name].nbytes
        return cls(
            arrays={name: arrays[name] for name in _ARRAYS},
            codes={name: arrays[f"code {name}"] for name in head["categories"]},
            categories=head["categories"],
            counts=head["counts"],
            num_nucleotides=head["num_nucleotides"],
        )


class Encoder:
    """Parses, encodes and filters blocks of text.

    Args:
        vocabulary: What sequences are encoded with.
        settings: ``filters``, ``columns`` and ``on_unknown``, as a store states them.
    """

    def __init__(self, vocabulary: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self.vocabulary = Vocabulary.from_dict(dict(vocabulary))
        self.settings = dict(settings)
        HeaderColumns(self.settings["columns"])  # a wrong expression is said before any reading
        self._judge = Judge(Filters(**settings["filters"]), self.vocabulary)
        self._parser = Parser()

    def close(self) -> None:
        """Give the memory back."""
        self._parser.close()

    def encode(self, text: bytes, source: str) -> Part:
        """What a block becomes.

        Args:
            text: Whole records.
            source: What errors call the file.

        Raises:
            ValueError: If the text is no FASTA or cannot be encoded; with file and record.
        """
        columns = HeaderColumns(self.settings["columns"])
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in _ARRAYS}
        codes: list[dict[str, NDArray[np.int32]]] = []
        counts, num_nucleotides = np.zeros(len(RULES), np.int64), 0
        for some in Block(text, 0).parts():
            records = self._parser.parse(some, source)
            if not records:
                continue
            names, sequences, descriptions = zip(*records, strict=True)
            arrays, rules = self._arrays(names, sequences, source)
            num_nucleotides += int(arrays["lengths"].sum()) * self.vocabulary.letters_per_token
            counts += np.bincount(rules, minlength=len(RULES))
            kept = rules == 0
            read = columns.read(names, descriptions)
            if not kept.all():
                arrays = select(arrays, kept)
                names = tuple(itertools.compress(names, kept))
                read = {name: values[kept] for name, values in read.items()}
            arrays |= _encoded(names)
            for name, array in arrays.items():
                found[name].append(array)
            codes.append(read)
        categories = columns.categories.to_dict()
        sizes = [len(lengths) for lengths in found["lengths"]]
        return Part(
            arrays={
                name: np.concatenate([np.empty(0, dtype), *found[name]], dtype=dtype)
                for name, dtype in _ARRAYS.items()
            },
            codes={name: _joined(name, codes, sizes) for name in categories},
            categories=categories,
            counts=counts.tolist(),
            num_nucleotides=num_nucleotides,
        )

    def _arrays(
        self, names: Sequence[str], sequences: Sequence[str], source: str
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
        """Arrays of some sequences, and the rules that they fall under."""
        try:
            tokens, lengths = self.vocabulary.encode_many(
                sequences, names=names, on_unknown=self.settings["on_unknown"]
            )
        except ValueError as error:
            raise ValueError(f"{source}:{error}") from error
        hashes, checks = sequence_digests(sequences)
        rules, ambiguous = self._judge.decide(tokens, lengths)
        arrays: dict[str, NDArray[Any]] = {
            "tokens": tokens,
            "lengths": lengths,
            "hashes": hashes,
            "checks": checks,
            "ambiguous": ambiguous,
        }
        return arrays, rules


def select(arrays: Mapping[str, NDArray[Any]], kept: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """The arrays of the sequences that are kept; names, where they are, too."""
    ends = {"tokens": "lengths", "names": "name_lengths"}
    return {
        name: _pick(array, arrays[ends[name]], kept) if name in ends else array[kept]
        for name, array in arrays.items()
    }


def _pick(
    values: NDArray[Any], lengths: NDArray[np.int64], kept: NDArray[np.bool_]
) -> NDArray[Any]:
    """Values of the sequences that are kept, run by run."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    edges = np.flatnonzero(np.diff(kept, prepend=False, append=False))
    runs = offsets[edges].reshape(-1, 2).tolist()
    return np.concatenate([values[:0], *(values[start:end] for start, end in runs)])


def _encoded(names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Names as bytes end to end, and the length of each."""
    text = "".join(names)
    words: Sequence[str | bytes] = names if text.isascii() else [name.encode() for name in names]
    return {
        "names": np.frombuffer(text.encode(), np.uint8),
        "name_lengths": np.fromiter(map(len, words), np.int64, len(words)),
    }


def _joined(
    name: str, codes: Sequence[Mapping[str, NDArray[np.int32]]], sizes: Sequence[int]
) -> NDArray[np.int32]:
    """Codes of a column; empty where it was not known yet."""
    parts = [
        read[name] if name in read else np.zeros(size, np.int32)
        for read, size in zip(codes, sizes, strict=True)
    ]
    return np.concatenate([np.empty(0, np.int32), *parts])
