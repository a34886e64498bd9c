"""Tables of RNAs with labels, per sequence or per nucleotide."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rnafm.data.labels import encode_labels
from rnafm.data.supervised import FILE_COLUMN, Rows, SupervisedDataModule
from rnafm.data.table import Table, concatenate, join_fasta, read_table, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from rnafm.data.labels import LabelSpec


class LabelledDataModule(SupervisedDataModule):
    """Fine-tuning data from CSV, TSV, Parquet or JSON lines (``.gz`` too).

    Args:
        files: Tables. With ``val_files`` or ``test_files`` these are for training.
        labels: Columns with the labels. Per sequence: a number, a class, 0 or 1. Per nucleotide: a
            list, or a text with a letter for each. Several columns are several outputs.
        val_files: Tables for validation.
        test_files: Tables for the test.
        fasta: FASTA file with the sequences, where the tables have none: joined by ``id_column``.
        sequence_column: Column with the sequence.
        id_column: Column with the name; without it rows are named by their place.
        outputs: Which numbers of each list are used, counted from 0, where a column holds lists
            with several; all by default.
        label_length: Whether labels per nucleotide cover the sequence exactly, or may cover only
            its beginning (``prefix``); what they do not cover is not scored.
        **kwargs: See :class:`SupervisedDataModule`.
    """

    def __init__(  # noqa: PLR0913  # what a table is, in one place
        self,
        files: list[Path],
        labels: list[str],
        *,
        val_files: list[Path] | None = None,
        test_files: list[Path] | None = None,
        fasta: Path | None = None,
        sequence_column: str = "sequence",
        id_column: str | None = None,
        outputs: list[int] | None = None,
        label_length: Literal["exact", "prefix"] = "exact",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not files:
            raise ValueError("files is empty; name at least one table")
        self.files = {
            "train": [Path(path) for path in files],
            "val": [Path(path) for path in val_files or []],
            "test": [Path(path) for path in test_files or []],
        }
        self.label_columns, self.fasta = labels, fasta
        self.sequence_column, self.id_column = sequence_column, id_column
        self.label_length, self.outputs = label_length, outputs
        self._places: list[str] = []
        self._cells: list[Any] = []

    @property
    def description(self) -> str:
        """Files and columns."""
        files = ", ".join(str(path) for paths in self.files.values() for path in paths)
        return f"{', '.join(self.label_columns)} of {files}"

    @property
    def cache_folder(self) -> Path:
        """Beside the first table."""
        first = self.files["train"][0]
        return first.with_name(f"{first.name}.embeddings")

    def read(self) -> Rows:
        """Read the tables, and the sequences if they are elsewhere."""
        tables, origin = [], []
        for split, paths in self.files.items():
            for path in paths:
                tables.append(read_table(path))
                for column in self.label_columns:
                    require(tables[-1], column, "labels")
                origin += [split] * len(tables[-1])
        table = concatenate(tables)
        notes = []
        if self.fasta is not None:
            table, unused = join_fasta(
                table, self.fasta, self.id_column or "id", self.sequence_column
            )
            if unused:
                notes.append(f"{self.fasta}: {unused:,} sequences are in no table and left out")
        sequences = [
            _clean(text, place)
            for text, place in zip(
                require(table, self.sequence_column, "sequences"), table.places, strict=True
            )
        ]
        wanted = [require(table, column, "labels") for column in self.label_columns]
        self._places, self._cells = table.places, list(zip(*wanted, strict=True))
        columns = {
            name: ["" if cell is None else str(cell) for cell in cells]
            for name, cells in table.columns.items()
            if name not in (self.sequence_column, *self.label_columns)
            and not any(isinstance(cell, list | dict) for cell in cells)
        }
        if self.files["val"] or self.files["test"]:
            columns[FILE_COLUMN] = origin
        return Rows(self._names(table, notes), sequences, table.places, columns, notes)

    def encode(self, spec: LabelSpec, lengths: Sequence[int]) -> list[NDArray[Any]]:
        """See :class:`SupervisedDataModule`."""
        if spec.kind == "pairs":
            raise ValueError(
                "base pairs come from a StructureDataModule, which reads tables with a column "
                "structure or base_pairs as well; use it as the data"
            )
        return encode_labels(
            self._cells,
            spec,
            lengths,
            self._places,
            prefix=self.label_length == "prefix",
            letters_per_token=self.vocabulary.letters_per_token,
            outputs=self.outputs,
            columns=self.label_columns,
        )

    def _names(self, table: Table, notes: list[str]) -> list[str]:
        """A name for each row; those that occur again get a number."""
        column = self.id_column or ("id" if "id" in table.columns else None)
        if column is None:
            return list(table.places)
        seen: Counter[str] = Counter()
        names = []
        for cell, place in zip(require(table, column, "names"), table.places, strict=True):
            name = place if cell in (None, "") else str(cell)
            seen[name] += 1
            names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
        if again := sum(count > 1 for count in seen.values()):
            notes.append(f"{again:,} names of column {column!r} occur again and get #2, #3, ...")
        return names


def _clean(text: Any, place: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{place}: there is no sequence ({text!r}); fill it in or remove the row")
    return text.strip().upper().replace("T", "U")
