"""RNAs with known base pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from rnafm.data.rows import Rows
from rnafm.data.structure_files import find_structure_files, read_structures
from rnafm.data.supervised import SupervisedDataModule

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from rnafm.data.labels import LabelSpec
    from rnafm.data.structure_files import StructureRecord


class StructureDataModule(SupervisedDataModule):
    """Fine-tuning data from dot-bracket, CT, BPSEQ, Stockholm or CSV files (``.gz`` too).

    Args:
        files: Files, folders or patterns such as ``'data/*.ct'``. With ``val_files`` or
            ``test_files`` these are for training, and may be none where ``test_files`` are tested
            only.
        val_files: The same for validation.
        test_files: The same for the test.
        pairs_per_batch: Budget of a batch: the sum of squared lengths. Heads compute a map of so
            many pairs, so this and not the number of tokens decides on memory.
        structure_column: In tables, the column with dot-brackets, or with lists of pairs if its
            name ends in ``pairs``; by default ``structure`` or ``base_pairs``.
        index_base: Number of the first nucleotide where files list pairs.
        on_error: What to do about structures that contradict themselves: stop, or leave them out
            and count them.
        **kwargs: See :class:`SupervisedDataModule`.
    """

    def __init__(
        self,
        files: list[str],
        *,
        val_files: list[str] | None = None,
        test_files: list[str] | None = None,
        pairs_per_batch: int = 262_144,
        structure_column: str | None = None,
        index_base: Literal[0, 1] = 1,
        on_error: Literal["error", "drop"] = "error",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not (files or val_files or test_files):
            raise ValueError("files is empty; name files, folders or patterns")
        self.files = {"train": files, "val": val_files or [], "test": test_files or []}
        self.pairs_per_batch, self.structure_column = pairs_per_batch, structure_column
        self.index_base, self.on_error = index_base, on_error
        self._pairs: list[NDArray[np.int64]] = []

    @property
    def description(self) -> str:
        """Files."""
        return ", ".join(str(path) for paths in self.files.values() for path in paths)

    @property
    def first_file(self) -> Path:
        """The first file of all that are meant."""
        return find_structure_files(path for paths in self.files.values() for path in paths)[0]

    @property
    def budget(self) -> int:
        """See :class:`RNADataModule`: here it is squares of lengths."""
        return self.pairs_per_batch

    def read(self) -> Rows:
        """Read all files."""
        rows = Rows([], [], [])
        self._pairs = []
        by_file = bool(self.files["val"] or self.files["test"])
        for side, paths in self.files.items():
            if not paths:
                continue
            records, dropped = read_structures(
                find_structure_files(paths),
                structure_column=self.structure_column,
                index_base=self.index_base,
                allow_multiplets=True,  # a contact map can hold them
                on_error=self.on_error,
            )
            rows.notes += [
                f"structures left out: {count:,} ({reason}), such as {dropped.examples[reason]}"
                for reason, count in dropped.items()
            ]
            for record in records:
                self._add(rows, record)
            rows.sides += [side] * len(records) * by_file
        return rows

    def encode(
        self, spec: LabelSpec, lengths: Sequence[int], used: NDArray[np.bool_]
    ) -> list[NDArray[Any]]:
        """See :class:`SupervisedDataModule`; the pairs were checked when they were read."""
        if spec.kind != "pairs":
            raise ValueError(
                f"the task predicts a {spec.kind} per {spec.level}, the data are base pairs; use "
                "ContactPrediction, or a LabelledDataModule"
            )
        return list(self._pairs)

    def _add(self, rows: Rows, record: StructureRecord) -> None:
        number = len(rows.names)
        rows.names.append(record.name)
        rows.sequences.append(record.sequence)
        rows.places.append(record.place)
        self._pairs.append(record.pairs)
        for name in dict.fromkeys((*rows.columns, *record.columns)):
            cells = rows.columns.setdefault(name, [""] * number)
            cells.append(record.columns.get(name, ""))
