"""Whether a store is what was written, and its values fit one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.checksums import Damage, compare
from rnafm.data.manifest import AGAIN

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rnafm.data.store import SequenceStore

_CHUNK = 1 << 20


def verify_store(store: SequenceStore, num_threads: int | None = None) -> None:
    """Read all files of a store; see :meth:`SequenceStore.verify`."""
    files, path = store.info["files"], store.path

    def look(name: str, piece: memoryview) -> None:
        if name == "tokens.bin":
            check_tokens(path / name, np.frombuffer(piece, np.uint8), len(store.vocabulary))

    try:
        compare(path, files, num_threads=num_threads, look=look)
    except Damage as error:
        raise ValueError(f"{error}; {AGAIN}") from error
    check_offsets(path / "offsets.bin", store.info["tokens"])
    check_offsets(path / "name_offsets.bin", files["names.bin"]["size"])
    for name in store.columns:
        store.column(name)


def check_tokens(path: Path, tokens: NDArray[np.uint8], num_letters: int) -> None:
    """Refuse tokens that stand for nothing."""
    highest = int(tokens.max(initial=0))
    if highest >= num_letters:
        raise ValueError(f"{path}: has token {highest}, which no letter has; {AGAIN}")


def decoded(path: Path, names: Sequence[bytes]) -> list[str]:
    """Names as texts."""
    try:
        return [name.decode() for name in names]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}/names.bin: has names that are not UTF-8; {AGAIN}") from error


def check_offsets(path: Path, end: int) -> None:
    """Refuse offsets that lead out of a file; in little memory, since they are read in pieces."""
    last = 0
    with path.open("rb") as file:
        first = np.fromfile(file, "<i8", 1)
        while len(some := np.fromfile(file, "<i8", _CHUNK)):
            if int(some[0]) < last or (some[1:] < some[:-1]).any():
                raise ValueError(f"{path}: has places that run backwards; {AGAIN}")
            last = int(some[-1])
    if first.tolist() != [0] or last != end:
        raise ValueError(
            f"{path}: leads from {first.tolist()} to {last:,}, not to {end:,}; {AGAIN}"
        )


def check_codes(path: Path, codes: NDArray[np.integer[Any]], num_categories: int) -> None:
    """Refuse codes of a column that number no category."""
    for start in range(0, len(codes), _CHUNK):
        some = codes[start : start + _CHUNK]
        if int(some.min()) < 0 or int(some.max()) >= num_categories:
            raise ValueError(f"{path}: has codes without a category; {AGAIN}")
