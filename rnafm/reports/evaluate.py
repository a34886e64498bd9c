"""From predictions on a test split to a report, with floors made from the training split."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.reports.floors import Floor, kmer_model, majority_or_mean, rnafold_pairs
from rnafm.reports.records import Records
from rnafm.reports.report import Bootstrap, Report, make_report
from rnafm.reports.scores import class_scores
from rnafm.reports.statistics import MANY_LABELS, statistics_of
from rnafm.reports.token_floors import letter_model, window_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from rnafm.data.labels import LabelSpec
    from rnafm.data.supervised import SupervisedDataModule

    ScorePairs = Callable[[NDArray[np.int64], NDArray[np.int64], int], dict[str, float]]

logger = logging.getLogger(__name__)

RESAMPLES = 1000  # of the test split; a fifth of them where labels are many
_MANY_GROUPS = 40  # a column with more values, such as names, is no grouping


def evaluate(
    data: SupervisedDataModule,
    predictions: Mapping[int, Any],
    facts: Mapping[str, Any],
    score_pairs: ScorePairs | None = None,
) -> Report:
    """Score predictions of the test split and what simple predictors reach on it.

    Rows without a single label are left out, which the facts of the report say. So do they of
    columns by which sequences are not grouped, because hardly two of them have the same value.

    Args:
        data: With labels bound.
        predictions: By row of the data: (C,) per sequence, (L, C) per token, pairs (P, 2).
        facts: What is said about the test besides what the data say.
        score_pairs: How structures are compared.

    Raises:
        ValueError: If no row has a label.
    """
    spec = data.spec
    assert spec is not None  # noqa: S101  # bound before
    facts = {**facts, **data.facts}
    if spec.level == "pairs":
        rows = np.array(sorted(predictions))
        assert score_pairs is not None  # noqa: S101
        return _evaluate_pairs(data, rows, predictions, facts, score_pairs)
    rows = np.array([row for row in sorted(predictions) if _is_labelled(data.labels[row])], int)
    if not len(rows):
        raise ValueError(
            f"test: none of {len(predictions):,} sequences has a label, so there is nothing to "
            "score; for predictions alone use rnafm predict"
        )
    if without := len(predictions) - len(rows):
        facts["left_out"] = f"{without:,} test sequences without a label"
    return _evaluate_labels(data, spec, rows, predictions, facts)


def output_names(data: SupervisedDataModule, spec: LabelSpec) -> tuple[str, ...]:
    """A name for each output or class; outputs without one are called like their columns."""
    columns = tuple(getattr(data, "label_columns", ()))
    if not spec.names and spec.kind != "class" and len(columns) == spec.num_outputs:
        return columns
    return spec.output_names


def _evaluate_labels(
    data: SupervisedDataModule,
    spec: LabelSpec,
    rows: NDArray[np.int64],
    predictions: Mapping[int, NDArray[Any]],
    facts: dict[str, Any],
) -> Report:
    found = [np.asarray(predictions[row]) for row in rows.tolist()]
    labels = [data.labels[row] for row in rows]
    if spec.level == "sequence":
        labels = [np.atleast_1d(label) for label in labels]
        if spec.kind != "class":
            labels = [label[None] for label in labels]
        found = [values[None] for values in found]
    floors = {
        floor.name: (
            floor.about,
            None
            if floor.predictions is None
            else statistics_of(spec, _per_sequence(floor, spec), labels),
        )
        for floor in _floors(data, spec, rows)
    }
    num_labels = sum(label.size for label in labels)
    classes = None
    if spec.kind == "class":
        decided = [values.argmax(1) for values in found]
        classes = class_scores(labels, decided, spec.output_names)
    records = _label_records(data, spec, rows, found, labels)
    return make_report(
        records,
        statistics_of(spec, found, labels),
        floors=floors,
        group_by=_groupings(records, facts),
        facts=facts,
        classes=classes,
        bootstrap=Bootstrap(resamples=RESAMPLES if num_labels <= MANY_LABELS else RESAMPLES // 5),
    )


def _floors(data: SupervisedDataModule, spec: LabelSpec, rows: NDArray[np.int64]) -> list[Floor]:
    """What the training rows alone say about the test; only they are read for it."""
    train = [row for row in data.rows["train"].tolist() if _is_labelled(data.labels[row])]
    if not train:
        return [Floor("floors", "no training sequence has a label", None)]
    sequences = [data.sequences[row] for row in train]
    tests = [data.sequences[row] for row in rows]
    own = [data.labels[row] for row in train]
    number = spec.num_outputs if spec.kind == "class" else None
    if spec.level == "sequence":
        assert spec.kind != "pairs"  # noqa: S101  # those are elsewhere
        labels = np.stack(own)
        trivial = majority_or_mean(labels, len(tests), number)
        return [trivial, kmer_model(sequences, labels, tests, spec.kind, num_classes=number)]
    size = data.vocabulary.letters_per_token
    pieces, test_pieces = (
        [[text[i : i + size] for i in range(0, len(text), size)] for text in part]
        for part in (sequences, tests)
    )
    return [
        letter_model(pieces, own, test_pieces, number),
        window_model(pieces, own, test_pieces, number),
    ]


def _per_sequence(floor: Floor, spec: LabelSpec) -> list[NDArray[Any]]:
    assert floor.predictions is not None  # noqa: S101  # asked before
    if spec.level == "sequence":
        return [values[None] for values in floor.predictions]
    return list(floor.predictions)


def _label_records(
    data: SupervisedDataModule,
    spec: LabelSpec,
    rows: NDArray[np.int64],
    found: list[NDArray[Any]],
    labels: list[NDArray[Any]],
) -> Records:
    """One line for each sequence: labels and predictions, or for tokens how good they are."""
    names = output_names(data, spec)
    values: dict[str, NDArray[np.floating]] = {}
    texts: dict[str, list[str]] = {}
    if spec.kind == "class":
        right = [
            np.mean(p.argmax(1)[y >= 0] == y[y >= 0]) if (y >= 0).any() else np.nan
            for p, y in zip(found, labels, strict=True)
        ]
        values["accuracy" if spec.level == "token" else "correct"] = np.array(right)
        if spec.level == "sequence":
            texts["label"] = [names[int(y[0])] if y[0] >= 0 else "" for y in labels]
            texts["prediction"] = [names[int(p[0].argmax())] for p in found]
            values["probability"] = np.array([p[0].max() for p in found])
    elif spec.level == "sequence":
        for i, name in enumerate(names):
            values[f"label {name}"] = np.array([y[0, i] for y in labels], np.float64)
            values[f"prediction {name}"] = np.array([p[0, i] for p in found], np.float64)
        errors = [_mean((p - y) ** 2) for p, y in zip(found, labels, strict=True)]
        values["squared_error"] = np.array(errors)
    else:
        errors = [_mean((p - y) ** 2) for p, y in zip(found, labels, strict=True)]
        values["rmse"] = np.sqrt(errors)
    return _records(data, rows, values, texts)


def _evaluate_pairs(
    data: SupervisedDataModule,
    rows: NDArray[np.int64],
    predictions: Mapping[int, NDArray[np.int64]],
    facts: dict[str, Any],
    score_pairs: ScorePairs,
) -> Report:
    def scored(structures: Sequence[NDArray[np.int64]]) -> dict[str, NDArray[np.float64]]:
        each = [
            score_pairs(pairs, data.labels[row], len(data.sequences[row]))
            for pairs, row in zip(structures, rows.tolist(), strict=True)
        ]
        return {name: np.array([scores[name] for scores in each]) for name in each[0]}

    found = [np.asarray(predictions[row]) for row in rows.tolist()]
    logger.info("Folding %s test sequences with RNAfold, to compare", f"{len(rows):,}")
    floor = rnafold_pairs([data.sequences[row] for row in rows])
    beside = None if floor.predictions is None else scored(list(floor.predictions))
    own = scored(found)
    values: dict[str, NDArray[np.floating]] = {
        **own,
        "num_pairs": np.array([len(data.labels[row]) for row in rows], np.float64),
        "num_predicted": np.array([len(pairs) for pairs in found], np.float64),
    }
    records = _records(data, rows, values, {})
    return make_report(
        records,
        own,
        floors={floor.name: (floor.about, beside)},
        group_by=_groupings(records, facts),
        facts=facts,
    )


def _records(
    data: SupervisedDataModule,
    rows: NDArray[np.int64],
    values: dict[str, NDArray[np.floating]],
    texts: Mapping[str, list[str]],
) -> Records:
    names = [data.names[row] for row in rows]
    similarity = data.similarity
    if len(similarity):
        values["nearest_train"] = np.array([similarity[row] for row in rows.tolist()], np.float64)
    columns: dict[str, list[str]] = {}
    for name, cells in data.columns.items():
        own = [cells[row] for row in rows]
        if own == names:
            continue
        # Readers of the file find our columns by name, so it is the table's that give way.
        while name in {"id", "length", *values, *texts, *columns}:
            name = f"input {name}"  # noqa: PLW2901
        columns[name] = own
    lengths = np.array([len(data.sequences[row]) for row in rows])
    return Records(names, lengths, dict(columns), values, dict(texts))


def _groupings(records: Records, facts: dict[str, Any]) -> list[str]:
    """Columns with a few values each: families, sources, types. Of others the facts tell."""
    counts = {name: len(set(cells)) for name, cells in records.columns.items()}
    most = min(_MANY_GROUPS, len(records) // 2)
    if many := [f"{name} ({count:,} values)" for name, count in counts.items() if count > most > 0]:
        facts["not_grouped_by"] = many
    return [name for name, count in counts.items() if 1 < count <= most]


def _is_labelled(label: NDArray[Any]) -> bool:
    """Whether any label of a row is known: missing ones are NaN, or negative among classes."""
    known = label >= 0 if np.issubdtype(label.dtype, np.integer) else ~np.isnan(label)
    return bool(known.any())


def _mean(values: NDArray[np.floating]) -> float:
    known = ~np.isnan(values)
    return float(values[known].mean()) if known.any() else float("nan")
