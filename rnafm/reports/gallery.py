"""The pictures that belong to a test."""

from __future__ import annotations

import logging
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.reports.drawing import draw_structure
from rnafm.reports.evaluate import output_names
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

_MANY_OUTPUTS = 12  # pictures of more would not be looked at
_SHOWN_FILES, _TITLE = 3, 90


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
        predictions: By row; of structures some are enough, with ``probabilities`` and ``pairs``.
        report: The numbers.
        headline: The metric that is shown by group.

    Returns:
        The files.
    """
    spec = data.spec
    assert spec is not None  # noqa: S101  # bound before
    title = f"Test: {shortened(data.description)}"
    if spec.kind == "pairs":
        figures = _structures(data, predictions, report)
    else:
        figures = _labels(data, spec, predictions, title)
    paths: list[Path] = []
    used: Counter[str] = Counter()
    for name, figure in [*figures, *_groups(report, headline, title)]:
        safe = "".join(sign if sign.isalnum() else "_" for sign in name)
        used[safe] += 1
        again = f"_{used[safe]}" if used[safe] > 1 else ""
        paths.append(folder / f"{safe}{again}.png")
        save(figure, paths[-1])
    return paths


def shortened(description: str, most: int = _TITLE) -> str:
    """A description of data that fits into a title: no folders, few of many files.

    >>> shortened("half_life of data/x/a.csv, data/x/b.csv, c.csv, d.csv, e.csv")
    'half_life of a.csv, b.csv, c.csv and 2 more'
    """
    parts = [re.sub(r"\S*/(?=[^\s/])", "", part) for part in description.split(", ")]
    more = len(parts) - _SHOWN_FILES
    text = ", ".join(parts[:_SHOWN_FILES]) + (f" and {more:,} more" if more > 0 else "")
    half = (most - 5) // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"


def _structures(
    data: SupervisedDataModule, predictions: Mapping[int, Any], report: Report
) -> Iterator[tuple[str, Figure]]:
    """Three structures, of low, middle and high F1."""
    rows = sorted(predictions)
    f1 = dict(zip(report.records.names, report.records.values["f1"].tolist(), strict=True))
    scores = np.array([f1[data.names[row]] for row in rows])
    order, has_layout = np.argsort(scores, kind="stable"), True
    families = data.columns.get("family", [""] * len(data.names))
    for share, word in ((0.1, "low"), (0.5, "middle"), (0.9, "high")):
        place = int(order[round(share * (len(order) - 1))])
        row = rows[place]
        sequence, fold, reference = data.sequences[row], predictions[row], data.labels[row]
        of = f" ({families[row]})" if families[row] else ""
        title = f"{data.names[row]}{of}, F1 {scores[place]:.2f}"
        yield f"contacts {word}", contact_map(fold.probabilities, reference, title)
        yield f"arcs {word}", arc_diagram(sequence, fold.pairs, reference, title)
        if not has_layout:
            continue
        try:
            yield f"structure {word}", draw_structure(sequence, fold.pairs, reference, title)
        except ValueError as error:  # without ViennaRNA there is no layout
            logger.info("no drawings of structures: %s", error)
            has_layout = False


def _labels(
    data: SupervisedDataModule, spec: LabelSpec, predictions: Mapping[int, Any], title: str
) -> Iterator[tuple[str, Figure]]:
    """How predictions and labels agree, over all sequences (nucleotides) of the test."""
    rows, width = sorted(predictions), spec.num_outputs
    found = np.concatenate([predictions[row].reshape(-1, width) for row in rows])
    if spec.kind == "class":
        classes = np.concatenate([np.atleast_1d(data.labels[row]) for row in rows])
        counts = confusion_counts(classes, found.argmax(1), width)
        yield "confusion", confusion_matrix(counts, spec.output_names, title)
        yield "calibration", calibration(found, classes, title)
        return
    labels = np.concatenate([data.labels[row].reshape(-1, width) for row in rows])
    names = output_names(data, spec)
    if width > _MANY_OUTPUTS:
        logger.info("pictures of the first %d of %d outputs", _MANY_OUTPUTS, width)
    for i, name in enumerate(names[:_MANY_OUTPUTS]):
        known = ~np.isnan(labels[:, i])
        truth, guess = labels[known, i], found[known, i]
        about = title if width == 1 else f"{title}: {name}"
        if not known.any():
            logger.info("no picture of %s: no test sequence has a label", name)
        elif spec.kind == "flag":
            words = spec.names if spec.is_binary else (f"not {name}", name)
            yield from _flag(name, truth, guess, words, about)
        else:
            yield f"scatter {name}", scatter(truth, guess, name, title=about)


def _flag(
    name: str,
    truth: NDArray[np.floating],
    guess: NDArray[np.floating],
    words: tuple[str, ...],
    title: str,
) -> Iterator[tuple[str, Figure]]:
    decided = (guess > 0.5).astype(np.int64)  # noqa: PLR2004  # where the scores cut as well
    counts = confusion_counts(truth.astype(np.int64), decided, 2)
    yield f"confusion {name}", confusion_matrix(counts, words, title)
    yield f"calibration {name}", calibration(guess, truth, title)


def _groups(report: Report, headline: str, title: str) -> Iterator[tuple[str, Figure]]:
    overall = report.metrics[headline]
    if not np.isfinite(overall.value):
        return
    for column, groups in report.groups.items():
        draw = score_by_length if column == "length" else score_by_group
        yield (
            f"{headline} by {column}",
            draw(groups, headline, f"{title}, by {column}", overall=overall),
        )
