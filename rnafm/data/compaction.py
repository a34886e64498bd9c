"""Leaves out of a store what other sequences of it contain."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack, closing
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from rnafm.data.encoding import select
from rnafm.data.filters import Filters, Judge
from rnafm.data.growing import GrowingFile
from rnafm.data.vocabulary import Vocabulary

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

KINDS = ("kept", "duplicate", "contained", "contained_reverse")
"""What a sequence can be, as :data:`rnafm.data.containment.KINDS` has it."""

TYPE_COLUMNS = ("rna_type", "type")
_CHUNK = 1 << 16  # sequences
_TOKENS = 32 << 20
_MOST_TYPES = 1000


def check_containment(vocabulary: Vocabulary) -> None:
    """Refuse at once what would be refused only when everything is read.

    Raises:
        ValueError: If the vocabulary has no complements, or numba is missing.
    """
    from rnafm.data.containment import complement_of

    complement_of(vocabulary)
    if importlib.util.find_spec("numba") is None:
        raise ValueError(
            "redundancy: contained needs numba, which is not installed; install it with: pip "
            "install 'rnafm[contained]', or choose redundancy: exact"
        )


def find_kinds(
    folder: Path, vocabulary: Vocabulary, *, progress: bool
) -> tuple[NDArray[np.uint8], int]:
    """Which sequences are contained in others.

    Args:
        folder: The files of a store.
        vocabulary: What its tokens mean.
        progress: Whether to show progress.

    Returns:
        For each sequence its place in :data:`KINDS`, uint8 (B,), and the bytes that it took.
    """
    from rnafm.data.containment import complement_of, find_redundant

    found = find_redundant(
        np.asarray(np.memmap(folder / "tokens.bin", np.uint8, "r")),
        np.asarray(np.memmap(folder / "offsets.bin", np.int64, "r")),
        complement=complement_of(vocabulary),
        progress=progress,
    )
    return found.kinds, found.peak_bytes


def compact(
    source: Path, target: Path, contents: Mapping[str, Any], kinds: NDArray[np.uint8]
) -> dict[str, Any]:
    """Write the files of the sequences that are kept.

    Args:
        source: The files of a store.
        target: An empty folder.
        contents: What ``store.json`` says of the store, with its vocabulary and settings.
        kinds: For each sequence its place in :data:`KINDS`.

    Returns:
        What ``store.json`` is to say of the new one.
    """
    vocabulary = Vocabulary.from_dict(contents["vocabulary"])
    judge = Judge(Filters(**contents["settings"]["filters"]), vocabulary)
    columns = {column["file"]: column["dtype"] for column in contents["columns"].values()}
    ambiguous = 0
    with ExitStack() as stack:
        files = {
            name: stack.enter_context(closing(GrowingFile(target / name)))
            for name in contents["files"]
        }
        for name in ("offsets.bin", "name_offsets.bin"):
            files[name].append(np.zeros(1, np.int64))
        start = 0
        for arrays in _chunks(source, columns):
            count = len(arrays["hashes"])
            kept = kinds[start : start + count] == 0
            start += count
            arrays = select(arrays, kept) if not kept.all() else arrays  # noqa: PLW2901
            ambiguous += int(judge.is_ambiguous(arrays["tokens"]).sum())
            for ends, lengths, values in (
                ("offsets.bin", "lengths", "tokens"),
                ("name_offsets.bin", "name_lengths", "names"),
            ):
                files[ends].append(files[f"{values}.bin"].size + np.cumsum(arrays[lengths]))
                files[f"{values}.bin"].append(arrays[values])
            for name in ("hashes.bin", *columns):
                files[name].append(arrays[name.removesuffix(".bin")])
        sums = {name: file.finish() for name, file in files.items()}
    numbers = np.bincount(kinds, minlength=len(KINDS)).tolist()
    counts = dict(contents["counts"])
    counts["kept"] = numbers[0]
    counts["duplicate"] += numbers[1]
    counts |= {"contained": numbers[2], "contained reverse complement": numbers[3]}
    return {
        **contents,
        "counts": counts,
        "tokens": sums["tokens.bin"]["size"],
        "ambiguous": ambiguous,
        "files": sums,
    }


def by_type(
    folder: Path,
    contents: Mapping[str, Any],
    duplicates: Mapping[str, list[int]],
    kinds: NDArray[np.uint8] | None = None,
) -> dict[str, Any]:
    """How many sequences of each type are kept, and why others are not.

    Args:
        folder: The files of the store that the kinds are of.
        contents: What ``store.json`` says of it.
        duplicates: How many duplicates of each type were left out before, by column.
        kinds: For each sequence its place in :data:`KINDS`; all are kept without.

    Returns:
        The name of the column and, by type, the number of sequences per kind; empty if there is no
        column of types or it has too many of them.
    """
    name = next((name for name in TYPE_COLUMNS if name in contents["columns"]), None)
    types = contents["columns"][name]["categories"] if name is not None else None
    if name is None or types is None or len(types) > _MOST_TYPES:
        return {}
    table = np.zeros((len(KINDS), len(types)), np.int64)
    table[1, : len(duplicates[name])] = duplicates[name]
    start = 0
    with (folder / contents["columns"][name]["file"]).open("rb") as file:
        while len(codes := np.fromfile(file, "<i4", _CHUNK)):
            places = codes.astype(np.int64)
            if kinds is not None:
                places += len(types) * kinds[start : start + len(codes)].astype(np.int64)
            table += np.bincount(places, minlength=table.size).reshape(table.shape)
            start += len(codes)
    rows = dict(zip(types, table.T.tolist(), strict=True))
    return {
        "column": name,
        "types": {
            value: dict(zip(KINDS, row, strict=True)) for value, row in rows.items() if any(row)
        },
    }


def _chunks(folder: Path, columns: Mapping[str, str]) -> Iterator[dict[str, NDArray[Any]]]:
    """All arrays of a store, some sequences at a time; files are read, not mapped."""
    with ExitStack() as stack:

        def opened(name: str) -> IO[bytes]:
            return stack.enter_context((folder / name).open("rb"))

        ends, name_ends = opened("offsets.bin"), opened("name_offsets.bin")
        tokens, names, hashes = opened("tokens.bin"), opened("names.bin"), opened("hashes.bin")
        codes = {name: opened(name) for name in columns}
        place, name_place = np.fromfile(ends, "<i8", 1), np.fromfile(name_ends, "<i8", 1)
        while len(some := np.fromfile(ends, "<i8", _CHUNK)):
            fit = max(int(np.searchsorted(some, place[0] + _TOKENS, side="right")), 1)
            ends.seek(8 * (fit - len(some)), 1)
            lengths = np.diff(some[:fit], prepend=place)
            name_lengths = np.diff(np.fromfile(name_ends, "<i8", fit), prepend=name_place)
            place, name_place = some[fit - 1 : fit], name_place + name_lengths.sum()
            yield {
                "lengths": lengths,
                "tokens": np.fromfile(tokens, np.uint8, int(lengths.sum())),
                "name_lengths": name_lengths,
                "names": np.fromfile(names, np.uint8, int(name_lengths.sum())),
                "hashes": np.fromfile(hashes, "<u8", fit),
                **{
                    name.removesuffix(".bin"): np.fromfile(file, columns[name], fit)
                    for name, file in codes.items()
                },
            }
