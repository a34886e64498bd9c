"""Tables of RNAs with labels, per sequence or per nucleotide."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rnafm.data.labels import encode_labels
from rnafm.data.rows import Rows
from rnafm.data.supervised import SupervisedDataModule
from rnafm.data.table import Table, concatenate, join_fasta, read_table, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from rnafm.data.labels import LabelSpec


class LabelledDataModule(SupervisedDataModule):
    """Fine-tuning data from CSV, TSV, Parquet or JSON lines (``.gz`` too).

    Args:
        files: Tables. With ``val_files`` or ``test_files`` these are for training, and may be none
            where ``test_files`` are tested only.
        labels: Columns with the labels. Per sequence: a number, a class, 0 or 1. Per nucleotide: a
            list, or a text with a letter for each. Several columns are several outputs.
        val_files: Tables for validation.
        test_files: Tables for the test.
        fasta: FASTA file with the sequences, where the tables have none: joined by ``id_column``.
        sequence_column: Column with the sequence.
        id_column: Column with the name; by default ``id``. Without one, rows are named by their
            place.
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
        if not (files or val_files or test_files):
            raise ValueError("files is empty; name at least one table")
        if not labels:
            raise ValueError("labels is empty; name at least one column with labels")
        self.files = {
            "train": [Path(path) for path in files],
            "val": [Path(path) for path in val_files or []],
            "test": [Path(path) for path in test_files or []],
        }
        self.label_columns, self.fasta = labels, fasta
        self.sequence_column, self.id_column = sequence_column, id_column
        self.label_length, self.outputs = label_length, outputs
        self._cells: list[Any] = []

    @property
    def description(self) -> str:
        """Files and columns."""
        files = ", ".join(str(path) for paths in self.files.values() for path in paths)
        return f"{', '.join(self.label_columns)} of {files}"

    @property
    def first_file(self) -> Path:
        """The first table."""
        return next(path for paths in self.files.values() for path in paths)

    def read(self) -> Rows:
        """Read the tables, and the sequences if they are elsewhere."""
        tables, sides = [], []
        for side, paths in self.files.items():
            for path in paths:
                tables.append(self._read_table(path))
                sides += [side] * len(tables[-1])
        table, notes = concatenate(tables), list[str]()
        if self.fasta is not None:
            table, unused = join_fasta(
                table, self.fasta, self.id_column or "id", self.sequence_column
            )
            if unused:
                notes.append(f"{self.fasta}: {unused:,} sequences are in no table and left out")
        texts = require(table, self.sequence_column, "sequences")
        sequences = [_clean(text, at) for text, at in zip(texts, table.places, strict=True)]
        wanted = [require(table, column, "labels") for column in self.label_columns]
        self._cells = list(zip(*wanted, strict=True))
        others = [
            name
            for name, cells in table.columns.items()
            if name not in (self.sequence_column, *self.label_columns)
            and not any(isinstance(cell, list | dict) for cell in cells)
        ]
        columns = {
            name: ["" if cell is None else str(cell) for cell in table.columns[name]]
            for name in others
        }
        by_file = sides if self.files["val"] or self.files["test"] else []
        return Rows(self._names(table), sequences, table.places, columns, by_file, notes)

    def encode(
        self, spec: LabelSpec, lengths: Sequence[int], used: NDArray[np.bool_]
    ) -> list[NDArray[Any]]:
        """See :class:`SupervisedDataModule`."""
        if spec.kind == "pairs":
            raise ValueError(
                "base pairs come from a StructureDataModule, which reads tables with a column "
                "structure or base_pairs as well; use it as the data"
            )
        unlabelled = (None,) * len(self.label_columns)
        return encode_labels(
            [row if use else unlabelled for row, use in zip(self._cells, used, strict=True)],
            spec,
            lengths,
            self._places,
            prefix=self.label_length == "prefix",
            letters_per_token=self.vocabulary.letters_per_token,
            outputs=self.outputs,
            columns=self.label_columns,
        )

    def titles(self, spec: LabelSpec) -> tuple[str, ...]:
        """See :class:`SupervisedDataModule`: outputs are called as their columns."""
        yes_or_no = spec.kind == "flag" and spec.num_outputs == 1  # its names are two words
        own = len(self.label_columns) == spec.num_outputs and not yes_or_no
        own = own and spec.kind != "class"
        return spec.names or (tuple(self.label_columns) if own else ())

    def _read_table(self, path: Path) -> Table:
        """One file, with all columns that are needed: another file cannot make up for them."""
        table = read_table(path)
        for column in self.label_columns:
            require(table, column, "labels")
        if self.fasta is None:
            require(table, self.sequence_column, "sequences (data.sequence_column)")
        if self.id_column is not None:
            require(table, self.id_column, "names (data.id_column)")
        return table

    def _names(self, table: Table) -> list[str]:
        """A name for each row: its place, where it has no other."""
        cells = table.columns.get(self.id_column or "id", [None] * len(table))
        return [
            at if cell in (None, "") else str(cell)
            for cell, at in zip(cells, table.places, strict=True)
        ]


def _clean(text: Any, place: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"{place}: there is no sequence ({text!r}); fill it in or remove the row")
    return text.strip().upper().replace("T", "U")
