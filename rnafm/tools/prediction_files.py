"""Predictions as files: tables for sequences and tokens, structures for contacts."""

from __future__ import annotations

import csv
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
    needs_unique_names: ClassVar[bool] = False

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
    """Dot-bracket, CT or BPSEQ: name (one word), sequence and structure of each RNA.

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
        with atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for record, fold in zip(records, predictions, strict=True):
                file.write(structure_text(record, fold.pairs, self.suffix))


class PairProbabilities(PredictionFile):
    """NPZ with one float32 array (L, L) of base-pair probabilities for each RNA, under its name."""

    needs_unique_names = True

    def part(self, path: Path, records: Sequence[Record], predictions: Sequence[Any]) -> None:
        """See :class:`PredictionFile`."""
        with atomic(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            for record, fold in zip(records, predictions, strict=True):
                with archive.open(f"{record.name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, fold.probabilities, allow_pickle=False)

    def merge(self, parts: Iterable[Path], out: Path) -> None:
        """See :class:`PredictionFile`."""
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for part in parts:
                with zipfile.ZipFile(part) as source:
                    for name in source.namelist():
                        with (
                            source.open(name) as member,
                            archive.open(name, "w", force_zip64=True) as copy,
                        ):
                            shutil.copyfileobj(member, copy)


class Table(PredictionFile):
    """CSV: a row for each sequence, with what is predicted and how probable it is.

    Values for each nucleotide are one cell: letters side by side where every class has a letter,
    else a JSON list.
    """

    levels: ClassVar[tuple[str, ...]] = ("sequence", "token")

    def rows(self, records: Sequence[Record], predictions: Sequence[Any]) -> list[dict[str, Any]]:
        """The table as plain values; lists where there is a value for each nucleotide."""
        objective, level = self.task.objective, self.task.level
        rows = []
        for record, values in zip(records, predictions, strict=True):
            row: dict[str, Any] = {"id": record.name, "length": len(record.sequence)}
            cells = columns_of(objective, np.atleast_2d(values), all_of_them=self.probabilities)
            for name, each in cells.items():
                title = f"predicted_{name}" if name in ("id", "length") else name
                row[title] = each[0] if level == "sequence" else each
            rows.append(row)
        return rows

    def part(self, path: Path, records: Sequence[Record], predictions: Sequence[Any]) -> None:
        """See :class:`PredictionFile`."""
        rows = self.rows(records, predictions)
        is_text = _has_letters(self.task.objective)
        with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(rows[0])
            for row in rows:
                writer.writerow([_cell(value, is_text=is_text) for value in row.values()])

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

    def __init__(self, task: SupervisedTask, *, probabilities: bool) -> None:
        super().__init__(task, probabilities=probabilities)
        self._arrow = load_package("pyarrow", "parquet")
        self._parquet = load_package("pyarrow.parquet", "parquet")

    def part(self, path: Path, records: Sequence[Record], predictions: Sequence[Any]) -> None:
        """See :class:`PredictionFile`."""
        with atomic(path) as temporary:
            table = self._arrow.Table.from_pylist(self.rows(records, predictions))
            self._parquet.write_table(table, temporary)

    def merge(self, parts: Iterable[Path], out: Path) -> None:
        """A row group for each part."""
        first, *others = parts
        table = self._parquet.read_table(first)
        with self._parquet.ParquetWriter(out, table.schema) as writer:
            writer.write_table(table)
            for part in others:
                writer.write_table(self._parquet.read_table(part))


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

    columns: dict[str, list[Any]] = {}
    titles = _titles(objective)
    if isinstance(objective, Multiclass):
        columns["prediction"] = [titles[i] for i in values.argmax(axis=1)]
        columns["probability"] = values.max(axis=1).tolist()
    elif isinstance(objective, Binary):
        columns["prediction"] = [titles[int(p > 0.5)] for p in values[:, 0]]  # noqa: PLR2004
        columns[f"p_{titles[1]}"] = values[:, 0].tolist()
        return columns
    elif isinstance(objective, Multilabel):
        columns["prediction"] = [
            ";".join(str(t) for t, p in zip(titles, row, strict=True) if p > 0.5)  # noqa: PLR2004
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


def structure_text(record: Record, pairs: NDArray[np.int64], suffix: str) -> str:
    """One structure as dot-bracket, CT or BPSEQ.

    Args:
        record: Sequence, and the name, of which one word is made.
        pairs: Of the structure, (P, 2).
        suffix: ``.dbn``, ``.ct`` or ``.bpseq``.

    Raises:
        ValueError: If the format cannot hold the pairs.
    """
    from rnafm.data.structure import StructureError, format_bpseq, format_ct, format_dbn

    write = {".dbn": format_dbn, ".ct": format_ct, ".bpseq": format_bpseq}[suffix]
    try:
        return write("_".join(record.name.split()), record.sequence, pairs)
    except StructureError as error:
        raise ValueError(
            f"{record.description}: {error}; or fold with another decoder, such as: rnafm fold "
            "--decoder nested"
        ) from error


def open_format(out: Path, task: SupervisedTask, *, probabilities: bool) -> PredictionFile:
    """The writer for a file name.

    Raises:
        ValueError: If the ending stands for no format of this task's predictions, or its package
            is not installed.
    """
    kinds: dict[str, type[PredictionFile]] = {
        ".csv": Table,
        ".parquet": ParquetTable,
        ".npz": PairProbabilities,
    }
    structures = (".dbn", ".ct", ".bpseq")
    suffix = out.suffix.lower()
    if out.is_dir():
        raise ValueError(f"{out}: is a folder; name a file to write")
    if suffix in structures and task.level == "pairs":
        return Structures(task, probabilities=probabilities, suffix=suffix)
    kind = kinds.get(suffix)
    if kind is None or task.level not in kind.levels:
        fitting = [each for each, kind in kinds.items() if task.level in kind.levels]
        if task.level == "pairs":
            fitting = [*structures, *fitting]
        what = "base pairs" if task.level == "pairs" else f"a label per {task.level}"
        raise ValueError(
            f"{out}: the task predicts {what}, which is written to {', '.join(fitting)}, not to "
            f"{suffix or 'a name without ending'}; give --out another name"
        )
    return kind(task, probabilities=probabilities)


def _titles(objective: Objective) -> tuple[Any, ...]:
    """Names of the classes or outputs, or their numbers; of a single flag the words for 0 and 1."""
    from rnafm.tasks import Binary

    count = 2 if isinstance(objective, Binary) else objective.num_outputs
    return objective.names or tuple(range(count))


def _has_letters(objective: Objective) -> bool:
    """Whether every class is one letter, so that a text has one for each nucleotide.

    Not digits: programs would take them for one large number.
    """
    from rnafm.tasks import Binary, Multiclass

    titles = map(str, _titles(objective))
    return isinstance(objective, Binary | Multiclass) and all(
        len(title) == 1 and not title.isdigit() for title in titles
    )


def _cell(value: Any, *, is_text: bool) -> Any:
    """A cell of CSV; of numbers the seven digits that float32 has."""
    if isinstance(value, float):
        return f"{value:.7g}"
    if not isinstance(value, list):
        return value
    if is_text and isinstance(value[0], str):
        return "".join(value)
    return json.dumps([float(f"{each:.7g}") if isinstance(each, float) else each for each in value])
