"""The pictures that belong to a test."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.reports.drawing import draw_structure
from rnafm.reports.pictures import arc_diagram, contact_map, save
from rnafm.reports.plots import (
    calibration,
    confusion_matrix,
    scatter,
    score_by_group,
    score_by_length,
)
from rnafm.reports.scores import confusion_counts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from rnafm.data.labels import LabelSpec
    from rnafm.data.supervised import SupervisedDataModule
    from rnafm.reports.report import Report

logger = logging.getLogger(__name__)


def draw_all(
    folder: Path,
    data: SupervisedDataModule,
    predictions: Mapping[int, Any],
    report: Report,
    headline: str,
) -> list[Path]:
    """Draw what fits the labels, into a folder.

    Args:
        folder: Where to.
        data: With labels bound.
        predictions: By row; of structures with ``probabilities`` and ``pairs``.
        report: The numbers.
        headline: The metric that is shown by group.

    Returns:
        The files.
    """
    spec = data.spec
    assert spec is not None  # noqa: S101  # bound before
    if spec.kind == "pairs":
        figures = _structures(data, predictions, report)
    else:
        figures = _labels(data, spec, predictions)
    paths = []
    for name, figure in [*figures, *_groups(report, headline, data.description)]:
        paths.append(folder / f"{_safe(name)}.png")
        save(figure, paths[-1])
    return paths


def _structures(
    data: SupervisedDataModule, predictions: Mapping[int, Any], report: Report
) -> Iterator[tuple[str, Figure]]:
    """Three structures, of low, middle and high F1."""
    rows = sorted(predictions)
    scores = report.records.values["f1"]
    order = np.argsort(scores, kind="stable")
    families = data.columns.get("family", [""] * len(data.names))
    for share, word in ((0.1, "low"), (0.5, "middle"), (0.9, "high")):
        place = int(order[round(share * (len(order) - 1))])
        row = rows[place]
        sequence, fold, reference = data.sequences[row], predictions[row], data.labels[row]
        of = f" ({families[row]})" if families[row] else ""
        title = f"{data.names[row]}{of}, F1 {scores[place]:.2f}"
        yield f"contacts {word}", contact_map(fold.probabilities, reference, title)
        yield f"arcs {word}", arc_diagram(sequence, fold.pairs, reference, title)
        try:
            yield f"structure {word}", draw_structure(sequence, fold.pairs, reference, title)
        except ValueError as error:  # without ViennaRNA there is no layout
            logger.info("no drawings of structures: %s", error)


def _labels(
    data: SupervisedDataModule, spec: LabelSpec, predictions: Mapping[int, Any]
) -> Iterator[tuple[str, Figure]]:
    """How predictions and labels agree, over all sequences (nucleotides) of the test."""
    rows, width = sorted(predictions), spec.num_outputs
    found = np.concatenate([predictions[row].reshape(-1, width) for row in rows])
    title = f"Test: {data.description}"
    if spec.kind == "class":
        classes = np.concatenate([np.atleast_1d(data.labels[row]) for row in rows])
        counts = confusion_counts(classes, found.argmax(1), width)
        yield "confusion", confusion_matrix(counts, spec.output_names, title)
        yield "calibration", calibration(found, classes, title)
        return
    labels = np.concatenate([data.labels[row].reshape(-1, width) for row in rows])
    for i, name in enumerate(spec.output_names):
        known = ~np.isnan(labels[:, i])
        truth, guess = labels[known, i], found[known, i]
        if spec.kind == "flag":
            yield from _flag(name, truth, guess, spec.names if spec.is_binary else ("no", "yes"))
        else:
            yield f"scatter {name}", scatter(truth, guess, name, title=title)


def _flag(
    name: str, truth: NDArray[np.floating], guess: NDArray[np.floating], words: tuple[str, ...]
) -> Iterator[tuple[str, Figure]]:
    decided = (guess > 0.5).astype(np.int64)  # noqa: PLR2004  # where the scores cut as well
    counts = confusion_counts(truth.astype(np.int64), decided, 2)
    yield f"confusion {name}", confusion_matrix(counts, words, f"Test: {name}")
    yield f"calibration {name}", calibration(guess, truth, f"Test: {name}")


def _groups(report: Report, headline: str, title: str) -> Iterator[tuple[str, Figure]]:
    overall = report.metrics[headline]
    for column, groups in report.groups.items():
        draw = score_by_length if column == "length" else score_by_group
        about = f"Test: {title}, by {column}"
        yield f"{headline} by {column}", draw(groups, headline, about, overall=overall)


def _safe(name: str) -> str:
    return "".join(sign if sign.isalnum() else "_" for sign in name)
