"""Tables of embeddings, written piece by piece in constant memory."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import zipfile
from abc import abstractmethod
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.files import atomic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    Arrays = Sequence[NDArray[np.float32]]


class Writer:
    """Takes names and embeddings in order.

    Args:
        path: File to write.
        dim: Width of the embeddings.
        per_token: Whether a sequence has (L, D) embeddings rather than (D,).
    """

    def __init__(self, path: Path, dim: int, *, per_token: bool) -> None:
        self.path, self.dim, self.per_token = path, dim, per_token
        self._file: Any = None

    @abstractmethod
    def add(self, names: Sequence[str], embeddings: Arrays) -> None:
        """Write some sequences."""

    @abstractmethod
    def close(self) -> None:
        """Complete the file."""

    def abort(self) -> None:
        """Let go of a file that will not be completed."""
        with contextlib.suppress(OSError, ValueError):
            self._file.close()


class ParquetWriter(Writer):
    """Columns ``name`` and ``embedding``: a list of D numbers, per token a list of such lists."""

    def __init__(self, path: Path, dim: int, *, per_token: bool) -> None:
        super().__init__(path, dim, per_token=per_token)
        self._arrow = load_package("pyarrow", "parquet")
        arrow = self._arrow
        vector = arrow.list_(arrow.float32(), dim)
        columns = [("name", arrow.string()), ("embedding", vector)]
        if per_token:
            columns = [("name", arrow.string()), ("embedding", arrow.list_(vector))]
        self._schema = arrow.schema(columns)
        parquet = importlib.import_module("pyarrow.parquet")
        self._file = parquet.ParquetWriter(path, self._schema)

    def add(self, names: Sequence[str], embeddings: Arrays) -> None:
        """See :meth:`Writer.add`."""
        arrow = self._arrow
        if not names:
            return
        flat = np.concatenate([part.reshape(-1) for part in embeddings])
        column = arrow.FixedSizeListArray.from_arrays(arrow.array(flat), self.dim)
        if self.per_token:
            bounds = np.cumsum([0, *(len(part) for part in embeddings)]).astype(np.int32)
            column = arrow.ListArray.from_arrays(arrow.array(bounds), column)
        names_column = arrow.array(list(names), arrow.string())
        self._file.write_table(arrow.table([names_column, column], schema=self._schema))

    def close(self) -> None:
        """See :meth:`Writer.close`."""
        self._file.close()


class NpzWriter(Writer):
    """Arrays ``names``, ``embeddings`` (rows of all sequences), and ``offsets`` if per token."""

    def __init__(self, path: Path, dim: int, *, per_token: bool) -> None:
        super().__init__(path, dim, per_token=per_token)
        self._rows = path.with_name(path.name + ".rows")  # the shape is known at the end only
        self._file = self._rows.open("wb")
        self._names: list[str] = []
        self._lengths: list[int] = []

    def add(self, names: Sequence[str], embeddings: Arrays) -> None:
        """See :meth:`Writer.add`."""
        self._names.extend(names)
        for part in embeddings:
            part = np.ascontiguousarray(part.reshape(-1, self.dim), np.float32)  # noqa: PLW2901
            self._lengths.append(len(part))
            self._file.write(part.tobytes())

    def abort(self) -> None:
        """See :meth:`Writer.abort`."""
        super().abort()
        self._rows.unlink()

    def close(self) -> None:
        """See :meth:`Writer.close`."""
        self._file.close()
        try:
            small = {"names": np.array(self._names, dtype=np.str_)}
            if self.per_token:
                small["offsets"] = np.cumsum([0, *self._lengths])
            header = {
                "descr": "<f4",
                "fortran_order": False,
                "shape": (sum(self._lengths), self.dim),
            }
            with zipfile.ZipFile(self.path, "w", allowZip64=True) as archive:
                for name, array in small.items():
                    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                        np.lib.format.write_array(member, array, allow_pickle=False)
                with archive.open("embeddings.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    with self._rows.open("rb") as rows:
                        shutil.copyfileobj(rows, member, 1 << 20)
        finally:
            self._rows.unlink()


class Hdf5Writer(Writer):
    """Datasets ``names``, ``embeddings`` (rows of all sequences), and ``offsets`` if per token."""

    def __init__(self, path: Path, dim: int, *, per_token: bool) -> None:
        super().__init__(path, dim, per_token=per_token)
        h5py = load_package("h5py", "hdf5")
        self._file = h5py.File(path, "w")
        text = h5py.string_dtype()
        self._names = self._file.create_dataset("names", (0,), text, maxshape=(None,))
        self._rows = self._file.create_dataset(
            "embeddings", (0, dim), np.float32, maxshape=(None, dim), chunks=(64, dim)
        )
        self._lengths: list[int] = []

    def add(self, names: Sequence[str], embeddings: Arrays) -> None:
        """See :meth:`Writer.add`."""
        if not names:
            return
        parts = [part.reshape(-1, self.dim) for part in embeddings]
        rows = np.concatenate(parts)
        for dataset, values in ((self._names, list(names)), (self._rows, rows)):
            start = len(dataset)
            dataset.resize(start + len(values), axis=0)
            dataset[start:] = values
        self._lengths.extend(len(part) for part in parts)

    def close(self) -> None:
        """See :meth:`Writer.close`."""
        if self.per_token:
            self._file["offsets"] = np.cumsum([0, *self._lengths])
        self._file.close()


_WRITERS: dict[str, type[Writer]] = {
    ".parquet": ParquetWriter,
    ".npz": NpzWriter,
    ".h5": Hdf5Writer,
}


@contextmanager
def open_writer(path: Path, dim: int, *, per_token: bool) -> Iterator[Writer]:
    """The writer for a file name; the file appears only when it is complete.

    Args:
        path: Its ending chooses the format.
        dim: Width of the embeddings.
        per_token: Whether a sequence has (L, D) embeddings rather than (D,).

    Raises:
        ValueError: If the ending stands for no format, or its package is not installed.
    """
    if path.suffix not in _WRITERS:
        raise ValueError(f"{path}: the name must end in one of: {', '.join(_WRITERS)}")
    with atomic(path) as temporary:
        writer = _WRITERS[path.suffix](temporary, dim, per_token=per_token)
        try:
            yield writer
        except BaseException:
            writer.abort()
            raise
        writer.close()


def load_package(package: str, extra: str) -> Any:
    """A package that may be missing; ``extra`` of this one brings it."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"this format needs {package}, which is not installed: pip install 'rnafm[{extra}]'"
        ) from error
