"""Predictions as files: tables for sequences and tokens, structures for contacts."""

from __future__ import annotations

import csv
import io
import json
import shutil
import zipfile
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from rnafm.files import atomic
from rnafm.tools.writers import load_package

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from rnafm.data.fasta import Record
    from rnafm.tasks import Objective, SupervisedTask


class PredictionFile:
    """Writes parts and puts them together.

    Args:
        task: Says what the predictions are.
        probabilities: Whether all probabilities are written, not only those of what was chosen.
    """

    levels: ClassVar[tuple[str, ...]] = ("pairs",)

    def __init__(self, task: SupervisedTask, *, probabilities: bool) -> None:
        self.task, self.probabilities = task, probabilities

    @abstractmethod
    def part(self, path: Path, records: Sequence[Record], predictions: Sequence[Any]) -> None:
        """Write the predictions of some sequences."""

    def merge(self, parts: Iterable[Path], out: Path) -> None:
        """Put parts together, one after the other."""
        with out.open("wb") as file:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, file)


class Structures(PredictionFile):
    """Dot-bracket, CT or BPSEQ: name, sequence and structure of each RNA.

    Args:
        task: See :class:`PredictionFile`.
        probabilities: Not used: see :class:`PairProbabilities`.
        suffix: ``.dbn``, ``.ct`` or ``.bpseq``.
    """

    def __init__(self, task: SupervisedTask, *, probabilities: bool, suffix: str) -> None:
        super().__init__(task, probabilities=probabilities)
        self.suffix = suffix

    def part(self, path: Path, records: Sequence[Record], predictions: Sequence[Any]) -> None:
        """See :class:`PredictionFile`."""
        from rnafm.data.structure import format_bpseq, format_ct, format_dbn

        write = {".dbn": format_dbn, ".ct": format_ct, ".bpseq": format_bpseq}[self.suffix]
        with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for record, fold in zip(records, predictions, strict=True):
                file.write(write(record.name, record.sequence, fold.pairs))


class PairProbabilities(PredictionFile):
    """NPZ with one float32 array (L, L) of base-pair probabilities for each RNA, under its name."""

    def part(self, path: Path, records: Sequence[Record], predictions: Sequence[Any]) -> None:
        """See :class:`PredictionFile`."""
        with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for record, fold in zip(records, predictions, strict=True):
                with archive.open(f"{record.name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, fold.probabilities, allow_pickle=False)

    def merge(self, parts: Iterable[Path], out: Path) -> None:
        """See :class:`PredictionFile`."""
        names: set[str] = set()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for part in parts:
                with zipfile.ZipFile(part) as source:
                    for name in source.namelist():
                        if name in names:
                            raise ValueError(
                                f"{name.removesuffix('.npy')!r} is the name of two sequences, "
                                f"{out.suffix} needs different ones; rename one"
                            )
                        names.add(name)
                        with (
                            source.open(name) as member,
                            archive.open(name, "w", force_zip64=True) as copy,
                        ):
                            shutil.copyfileobj(member, copy)


class Table(PredictionFile):
    """CSV: a row for each sequence, with what is predicted and how probable it is."""

    levels: ClassVar[tuple[str, ...]] = ("sequence", "token")

    def rows(self, records: Sequence[Record], predictions: Sequence[Any]) -> list[dict[str, Any]]:
        """The table as plain values; lists where there is a value for each nucleotide."""
        objective, level = self.task.objective, self.task.level
        rows = []
        for record, values in zip(records, predictions, strict=True):
            row: dict[str, Any] = {"id": record.name, "length": len(record.sequence)}
            cells = columns_of(objective, np.atleast_2d(values), all_of_them=self.probabilities)
            if level == "sequence":
                row |= {name: each[0] for name, each in cells.items()}
            else:
                row |= cells
            rows.append(row)
        return rows

    def part(self, path: Path, records: Sequence[Record], predictions: Sequence[Any]) -> None:
        """See :class:`PredictionFile`."""
        rows = self.rows(records, predictions)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow([_cell(value) for value in row.values()])
        with atomic(path) as temporary:
            temporary.write_text(text.getvalue(), encoding="utf-8")

    def merge(self, parts: Iterable[Path], out: Path) -> None:
        """Keep the header of the first part only."""
        with out.open("wb") as file:
            for number, part in enumerate(parts):
                with part.open("rb") as source:
                    if number:
                        source.readline()
                    shutil.copyfileobj(source, file)


class ParquetTable(Table):
    """The same table as Parquet; values for each nucleotide are lists."""

    def part(self, path: Path, records: Sequence[Record], predictions: Sequence[Any]) -> None:
        """See :class:`PredictionFile`."""
        arrow = load_package("pyarrow", "parquet")
        parquet = load_package("pyarrow.parquet", "parquet")
        with atomic(path) as temporary:
            table = arrow.Table.from_pylist(self.rows(records, predictions))
            parquet.write_table(table, temporary)

    def merge(self, parts: Iterable[Path], out: Path) -> None:
        """A row group for each part."""
        parquet = load_package("pyarrow.parquet", "parquet")
        writer = None
        for part in parts:
            table = parquet.read_table(part)
            writer = writer or parquet.ParquetWriter(out, table.schema)
            writer.write_table(table)
        if writer is not None:
            writer.close()


def columns_of(
    objective: Objective, values: NDArray[np.floating], *, all_of_them: bool
) -> dict[str, list[Any]]:
    """Predictions as columns: what is predicted, and the probability of it.

    Args:
        objective: What the values are.
        values: As its ``predict`` gives them, (n, C).
        all_of_them: Whether there is a column for the probability of every class.
    """
    from rnafm.tasks import Binary, Multiclass, Multilabel

    titles = objective.titles()
    columns: dict[str, list[Any]] = {}
    if isinstance(objective, Multiclass):
        best = values.argmax(axis=1)
        columns["prediction"] = [titles[i] for i in best]
        columns["probability"] = values.max(axis=1).tolist()
    elif isinstance(objective, Binary):
        words = objective.names or ("0", "1")
        columns["prediction"] = [words[int(p > 0.5)] for p in values[:, 0]]  # noqa: PLR2004
        columns[f"p_{words[1]}"] = values[:, 0].tolist()
        return columns
    elif isinstance(objective, Multilabel):
        columns["prediction"] = [
            ";".join(t for t, p in zip(titles, row, strict=True) if p > 0.5)  # noqa: PLR2004
            for row in values
        ]
    else:
        names = objective.names or (
            ("prediction",) if len(titles) == 1 else tuple(f"output_{t}" for t in titles)
        )
        return {name: values[:, i].tolist() for i, name in enumerate(names)}
    if all_of_them:
        columns |= {f"p_{title}": values[:, i].tolist() for i, title in enumerate(titles)}
    return columns


def open_format(out: Path, task: SupervisedTask, *, probabilities: bool) -> PredictionFile:
    """The writer for a file name.

    Raises:
        ValueError: If the ending stands for no format of this task's predictions.
    """
    kinds: dict[str, type[PredictionFile]] = {
        ".csv": Table,
        ".parquet": ParquetTable,
        ".npz": PairProbabilities,
    }
    structures = (".dbn", ".ct", ".bpseq")
    if out.suffix in structures and task.level == "pairs":
        return Structures(task, probabilities=probabilities, suffix=out.suffix)
    kind = kinds.get(out.suffix)
    if kind is None or task.level not in kind.levels:
        fitting = [suffix for suffix, each in kinds.items() if task.level in each.levels]
        if task.level == "pairs":
            fitting += structures
        raise ValueError(
            f"{out}: predictions of a {task.level} task are written to {', '.join(fitting)}, "
            f"not to {out.suffix or 'a name without ending'}"
        )
    return kind(task, probabilities=probabilities)


def _cell(value: Any) -> Any:
    """Letters side by side, numbers as a JSON list, and nothing with more digits than it has."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if not isinstance(value, list):
        return value
    if all(isinstance(each, str) and len(each) == 1 for each in value):
        return "".join(value)
    return json.dumps([round(each, 6) if isinstance(each, float) else each for each in value])
