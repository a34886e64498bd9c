"""What a test says of single sequences, as a table of W&B, and its scores."""

from __future__ import annotations

import csv
import json
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

_NUM_PICTURES = 8  # of structures: each takes a fifth of a second
_DIGITS = 4  # of predicted numbers of tokens


def scores_of_test(folder: Path) -> dict[str, float]:
    """Scores of ``metrics.json``, flat: of the model, with intervals, and of what it is beside.

    Args:
        folder: Of the test.
    """
    report = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    scores = {"test/sequences": report["num_sequences"]}
    for name, found in report["metrics"].items():
        ends = {"": found["value"], "_low": found["low"], "_high": found["high"]}
        scores |= {f"test/{name}{end}": value for end, value in ends.items()}
    for floor, about in report["floors"].items():
        for name, found in about["metrics"].items():
            scores[f"test_beside/{floor}/{name}"] = found["value"]
    return {name: value for name, value in scores.items() if value is not None}


def prediction_table(
    folder: Path,
    data: Any,
    predictions: Mapping[int, Any],
    num_rows: int,
    picture: Callable[[Path, str], Any],
) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows: sequence, label, prediction and scores of the first test sequences.

    Scores, and labels of whole sequences, are those of ``per_sequence.csv``. Labels and predictions
    of nucleotides are written as lists, structures as dot-bracket, the first eight also as arcs.

    Args:
        folder: Of the test, where pictures go too.
        data: With labels bound.
        predictions: Of some rows of the data.
        num_rows: How many at most.
        picture: Makes what a table holds of a file with a picture and its caption.
    """
    by_name = {data.names[row]: row for row in sorted(predictions)}
    with (folder / "per_sequence.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = next(reader)
        scored = list(islice((cells for cells in reader if cells[0] in by_name), num_rows))
    spec = data.spec
    pairs, written = spec.level == "pairs", spec.level != "sequence"
    drawn = ["arcs"] * pairs
    columns = ["id", "sequence", *["label", "prediction"] * written, *drawn, *header[1:]]
    rows: list[list[Any]] = []
    for cells in scored:
        row = by_name[cells[0]]
        entries = [cells[0], data.sequences[row]]
        if written:
            entries += _written(data, row, predictions[row])
        if pairs:
            few = len(rows) < _NUM_PICTURES
            entries.append(_arcs(folder, data, row, predictions[row], picture) if few else None)
        rows.append(entries)
    scores = zip(*(_column(cells) for cells in zip(*scored, strict=True)), strict=True)
    rows = [[*entries, *cells[1:]] for entries, cells in zip(rows, scores, strict=True)]
    return list(_distinct(columns)), rows


def _written(data: Any, row: int, prediction: Any) -> tuple[str, str]:
    """Label and prediction of each nucleotide as text."""
    from rnafm.data.structure import dot_bracket

    spec, label = data.spec, data.labels[row]
    if spec.level == "pairs":
        length = len(data.sequences[row])
        return dot_bracket(label, length), dot_bracket(np.asarray(prediction), length)
    found = np.asarray(prediction)
    if spec.kind == "class":
        names = spec.output_names
        said = [names[i] if i >= 0 else "" for i in label.tolist()]
        return " ".join(said), " ".join(names[i] for i in found.argmax(-1).tolist())
    return _numbers(label), _numbers(found)


def _numbers(values: Any) -> str:
    found = np.asarray(values, np.float64)
    found = found.squeeze(-1) if found.shape[-1] == 1 else found
    return json.dumps(np.round(found, _DIGITS).tolist()).replace("NaN", "null")


def _arcs(
    folder: Path, data: Any, row: int, pairs: Any, picture: Callable[[Path, str], Any]
) -> Any:
    from rnafm.reports.pictures import arc_diagram, save

    name = data.names[row]
    figure = arc_diagram(data.sequences[row], np.asarray(pairs), data.labels[row], name)
    path = folder / "table" / f"arcs_{row}.png"
    save(figure, path)
    return picture(path, name)


def _column(cells: Sequence[str]) -> list[float | None] | list[str]:
    """Numbers, if all that is there are numbers."""
    try:
        return [float(cell) if cell else None for cell in cells]
    except ValueError:
        return list(cells)


def _distinct(names: list[str]) -> Iterator[str]:
    """The same names, those that occur again with a mark."""
    seen: set[str] = set()
    for name in names:
        marked = name
        while marked in seen:
            marked += "_"
        seen.add(marked)
        yield marked
