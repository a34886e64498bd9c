"""Stores of others that hold the same token ids as bytes: litdata, HF datasets and Parquet."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

os.environ |= {"HF_DATASETS_OFFLINE": "1", "LITDATA_DISABLE_VERSION_CHECK": "1"}

import datasets  # reads these settings when it is imported
import litdata
import pyarrow as pa
import pyarrow.parquet as pq

from rnafm.data.store import SequenceStore

if TYPE_CHECKING:
    from pathlib import Path

_BATCH = 512
_GROUP = 1000  # sequences of a row group

Reads = Callable[[], Iterator[int]]


def size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def sequences(path: str) -> Iterator[bytes]:
    """Token ids of all sequences of one of our stores."""
    store = SequenceStore(path)
    for start, end in zip(store.offsets[:-1].tolist(), store.offsets[1:].tolist(), strict=True):
        yield store.tokens[start:end].tobytes()


class Other(ABC):
    """A store of others, made of one of ours.

    Args:
        path: Its folder.
        ours: Where the sequences come from.
    """

    title: str
    in_order: str

    def __init__(self, path: Path, ours: SequenceStore) -> None:
        self.path = path
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        self.make(ours)

    @abstractmethod
    def make(self, ours: SequenceStore) -> None:
        """Write and open it."""

    @abstractmethod
    def get(self, index: int) -> bytes:
        """One sequence."""

    @abstractmethod
    def read(self) -> Iterator[int]:
        """Lengths of all sequences, in order."""

    def at_random(self, order: Sequence[int]) -> dict[str, Reads]:
        """Ways to read sequences at random."""
        return {"one at a time": lambda: (len(self.get(i)) for i in order)}

    def shuffled(self) -> Reads | None:
        """Lengths of all sequences in an order of its own, if that is what it is made for."""
        return None

    def check(self, ours: SequenceStore, some: Sequence[int]) -> None:
        """Refuse to measure a store that gives something else."""
        for i in some:
            expected = ours.tokens[ours.offsets[i] : ours.offsets[i + 1]].tobytes()
            if self.get(i) != expected:
                raise ValueError(f"{self.title}: sequence {i} is another one")


class Litdata(Other):
    """Chunks of 64 MB that ``litdata.optimize`` wrote."""

    title, in_order = "litdata", "StreamingDataset"

    def make(self, ours: SequenceStore) -> None:
        """Write and open it."""
        litdata.optimize(
            sequences, [str(ours.path)], str(self.path), chunk_bytes="64MB", num_workers=1
        )
        self.dataset = litdata.StreamingDataset(str(self.path), shuffle=False)

    def get(self, index: int) -> bytes:
        """One sequence."""
        found: bytes = self.dataset[index]
        return found

    def read(self) -> Iterator[int]:
        """Lengths of all sequences, in order."""
        return map(len, self.dataset)

    def shuffled(self) -> Reads:
        """Chunks and their parts in a random order."""
        dataset = litdata.StreamingDataset(str(self.path), shuffle=True)
        return lambda: map(len, dataset)


class HuggingFace(Other):
    """An Arrow file, memory-mapped by HF datasets."""

    title, in_order = "HF datasets", "iterated"

    def make(self, ours: SequenceStore) -> None:
        """Write and open it."""
        rows = pa.array(sequences(str(ours.path)), pa.large_binary())
        made = datasets.Dataset(pa.table({"tokens": rows}))
        made.save_to_disk(str(self.path))
        self.dataset = datasets.load_from_disk(str(self.path))

    def get(self, index: int) -> bytes:
        """One sequence."""
        found: bytes = self.dataset[index]["tokens"]
        return found

    def at_random(self, order: Sequence[int]) -> dict[str, Reads]:
        """One at a time, and lists of several hundred at a time."""

        def batches() -> Iterator[int]:
            for start in range(0, len(order), _BATCH):
                yield from map(len, self.dataset[order[start : start + _BATCH]]["tokens"])

        return {**super().at_random(order), f"{_BATCH} at a time": batches}

    def read(self) -> Iterator[int]:
        """Lengths of all sequences, in order."""
        return (len(row["tokens"]) for row in self.dataset)


class Parquet(Other):
    """A file of row groups, compressed with zstd."""

    title, in_order = "Parquet, zstd", f"row groups of {_GROUP:,}"

    def make(self, ours: SequenceStore) -> None:
        """Write and open it."""
        table = pa.table({"tokens": pa.array(sequences(str(ours.path)), pa.binary())})
        file = self.path / "data.parquet"
        pq.write_table(table, file, row_group_size=_GROUP, compression="zstd", use_dictionary=False)
        self.file = pq.ParquetFile(file)

    def get(self, index: int) -> bytes:
        """One sequence, for which its row group is read."""
        group: Any = self.file.read_row_group(index // _GROUP, use_threads=False)
        found: bytes = group["tokens"][index % _GROUP].as_py()
        return found

    def read(self) -> Iterator[int]:
        """Lengths of all sequences, in order."""
        for batch in self.file.iter_batches(_GROUP, use_threads=False):
            yield from map(len, batch["tokens"].to_pylist())


OTHERS = (Litdata, HuggingFace, Parquet)
