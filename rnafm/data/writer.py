"""Writes the files of a token store, part by part and in constant memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.checksums import compare
from rnafm.data.columns import Categories
from rnafm.data.compaction import TYPE_COLUMNS
from rnafm.data.encoding import select
from rnafm.data.filters import RULES
from rnafm.data.growing import GrowingFile
from rnafm.data.seen import Seen

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from rnafm.data.encoding import Part

_CHUNK = 1 << 20  # values that are in memory at a time
_CORE = ("tokens", "offsets", "hashes", "names", "name_offsets")


class StoreWriter:
    """The files of a store that is not yet complete.

    Args:
        folder: Where they are.
        unique: Whether only the first of equal sequences stays.
        state: What :meth:`state` said when the files were known to be good; they go on from there.

    Attributes:
        counts: Number of sequences by the rule that decided about them; ``kept`` if none did.
    """

    def __init__(self, folder: Path, *, unique: bool, state: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.counts = dict.fromkeys([*RULES, "duplicate"], 0)
        self.num_ambiguous = 0
        self._categories = Categories()
        # By code, for each column that may turn out to be the types; empty headers have code 0.
        self._duplicates = {name: np.zeros(1, np.int64) for name in TYPE_COLUMNS}
        self._seen = Seen() if unique else None
        self._files: dict[str, GrowingFile] = {}
        names = [*_CORE, "checks"] if unique else [*_CORE]  # what Seen needs beside the hashes
        if state is not None:
            self._restore(state)
        else:
            for name in names:
                self._files[name] = GrowingFile(folder / f"{name}.bin")
            for name in ("offsets", "name_offsets"):
                self._files[name].append(np.zeros(1, np.int64))

    @property
    def kept(self) -> int:
        """Number of sequences so far."""
        return self.counts["kept"]

    def append(self, part: Part) -> None:
        """Write what a block of text has become.

        Raises:
            ValueError: If a column has more values than categories can have.
        """
        arrays, codes = part.arrays, self._translated(part)
        hashes = arrays["hashes"]
        if self._seen is not None and len(hashes):
            repeated = self._seen.add(hashes, arrays["checks"])
            if repeated.any():
                self._count_duplicates(codes, repeated)
                arrays = select(arrays, ~repeated)
                codes = {name: values[~repeated] for name, values in codes.items()}
                self.counts["duplicate"] += int(repeated.sum())
        self._append_codes(codes, len(arrays["hashes"]))
        for rule, count in zip(RULES[1:], part.counts[1:], strict=True):
            self.counts[rule] += count
        self.counts["kept"] += len(arrays["hashes"])
        self.num_ambiguous += int(arrays["ambiguous"].sum())
        for ends, lengths, values in (
            ("offsets", "lengths", "tokens"),
            ("name_offsets", "name_lengths", "names"),
        ):
            self._files[ends].append(self._files[values].size + np.cumsum(arrays[lengths]))
            self._files[values].append(arrays[values])
        self._files["hashes"].append(arrays["hashes"])
        if "checks" in self._files:
            self._files["checks"].append(arrays["checks"])

    def state(self) -> dict[str, Any]:
        """Bring everything to the disk; what a new writer needs to go on, as plain values."""
        for file in self._files.values():
            file.flush()
        return {
            "files": {name: file.sums for name, file in self._files.items()},
            "counts": self.counts,
            "ambiguous": self.num_ambiguous,
            "categories": self._categories.to_dict(),
            "duplicates": {name: found.tolist() for name, found in self._duplicates.items()},
        }

    def finish(self) -> dict[str, Any]:
        """Complete all files.

        Returns:
            What the store is made of, for ``store.json``.
        """
        sums = {f"{name}.bin": file.finish() for name, file in self._files.items()}
        sums.pop("checks.bin", None)  # of no use in a store, but to go on with until that is said
        categories = self._categories.to_dict()
        return {
            "counts": {"read": sum(self.counts.values()), **self.counts},
            "tokens": sums["tokens.bin"]["size"],
            "ambiguous": self.num_ambiguous,
            "columns": {
                name: {"file": f"column_{i}.bin", "dtype": "<i4", "categories": values}
                for i, (name, values) in enumerate(categories.items())
            },
            "files": sums,
            "duplicates": {name: found.tolist() for name, found in self._duplicates.items()},
        }

    def close(self) -> None:
        """Close all files, complete or not."""
        for file in self._files.values():
            file.close()

    def _restore(self, state: dict[str, Any]) -> None:
        """Compare the files, cut them back, and fill the table of duplicates."""
        compare(self.folder, {f"{name}.bin": sums for name, sums in state["files"].items()})
        for name, sums in state["files"].items():
            self._files[name] = GrowingFile(self.folder / f"{name}.bin", sums)
        self.counts, self.num_ambiguous = dict(state["counts"]), state["ambiguous"]
        self._categories = Categories(state["categories"])
        self._duplicates = {
            name: np.array(found, np.int64) for name, found in state["duplicates"].items()
        }
        if self._seen is None:
            return
        with (
            self._files["hashes"].path.open("rb") as hashes,
            self._files["checks"].path.open("rb") as checks,
        ):
            while len(some := np.fromfile(hashes, np.uint64, _CHUNK)):
                self._seen.add(some, np.fromfile(checks, np.uint32, _CHUNK))

    def _translated(self, part: Part) -> dict[str, NDArray[np.int32]]:
        """The codes of a part, as this store numbers the values."""
        tables = self._categories.merge(part.categories)
        return {name: tables[name][codes] for name, codes in part.codes.items()}

    def _count_duplicates(
        self, codes: dict[str, NDArray[np.int32]], repeated: NDArray[np.bool_]
    ) -> None:
        """Count duplicates by type."""
        number = int(repeated.sum())
        for name, before in self._duplicates.items():
            found = np.array([number])
            if name in codes:
                found = np.bincount(codes[name][repeated])
            longest = max(len(found), len(before))
            both = [np.pad(some, (0, longest - len(some))) for some in (found, before)]
            self._duplicates[name] = both[0] + both[1]

    def _append_codes(self, codes: dict[str, NDArray[np.int32]], count: int) -> None:
        """Append to the columns; one that is new starts with empty values, as do those not seen."""
        for i, name in enumerate(self._categories.names):
            file = self._files.get(f"column_{i}")
            if file is None:
                file = GrowingFile(self.folder / f"column_{i}.bin")
                self._files[f"column_{i}"] = file
                for start in range(0, self.kept, _CHUNK):
                    file.append(np.zeros(min(_CHUNK, self.kept - start), np.int32))
            file.append(codes.get(name, np.zeros(count, np.int32)))
