"""What needs no foundation model: predictors to stand beside one, learned from the same rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

MAX_TRAIN = 20_000  # training sequences of the k-mer model: a minute, not an hour
_LINEAR_K, _TREE_K = 5, 4
_MAX_KMERS = 10_000  # the most frequent; ACGU alone make 1,364
_MAX_STEPS = 500
MISSING_VIENNARNA = "needs ViennaRNA, which is not installed: pip install 'rnafm[viennarna]'"


@dataclass(frozen=True)
class Floor:
    """Predictions in the form of a model's, and what made them.

    Args:
        name: Short, for a table.
        about: One line: the method, and on how much it was trained.
        predictions: Sequence level: float (B, C), probabilities or values. Token level: B arrays
            (L, C). Structures: B arrays of pairs, int (P, 2). None where it could not be made;
            ``about`` then says why.
    """

    name: str
    about: str
    predictions: NDArray[np.float64] | list[NDArray[Any]] | None


def majority_or_mean(
    train_labels: NDArray[Any], num_rows: int, num_classes: int | None = None
) -> Floor:
    """Predict the same for every sequence.

    Args:
        train_labels: Classes, int (n,), negative where missing: their shares are the
            probabilities. Or values or flags, float (n, C), NaN where missing: their means.
        num_rows: Sequences to predict.
        num_classes: Number of classes; without it, those that occur.
    """
    if np.issubdtype(train_labels.dtype, np.integer):
        known = train_labels[train_labels >= 0]
        shares = np.bincount(known, minlength=num_classes or 0) / max(len(known), 1)
        about = f"shares of the classes among {len(known):,} training labels"
        return Floor("majority class", about, np.tile(shares, (num_rows, 1)))
    means, known_rows = _means(train_labels), int((~np.isnan(train_labels)).any(1).sum())
    about = f"mean of {known_rows:,} training labels"
    return Floor("training mean", about, np.tile(means, (num_rows, 1)))


def kmer_model(
    train_sequences: Sequence[str],
    train_labels: NDArray[Any],
    test_sequences: Sequence[str],
    kind: Literal["class", "flag", "value"],
    *,
    num_classes: int | None = None,
    max_train: int = MAX_TRAIN,
    seed: int = 0,
) -> Floor:
    """Predict from how often each k-mer occurs (TF-IDF).

    Classes and flags: logistic regression on 1- to 5-mers, C = 30. Values: 100 extremely
    randomised trees on 1- to 4-mers, which are a higher floor than ridge regression.

    Args:
        train_sequences: Training sequences, n.
        train_labels: Classes, int (n,), or flags or values, float (n, C). Missing ones (negative
            or NaN) are left out.
        test_sequences: Sequences to predict.
        kind: What the labels are.
        num_classes: Number of classes; without it, those that occur.
        max_train: Of more training sequences so many are drawn, which ``about`` says.
        seed: Of the draw and the trees.

    Returns:
        Probabilities (B, classes), chances of the flags or values (B, C); NaN for an output that
        no training sequence has.
    """
    rows = np.arange(len(train_sequences))
    if len(rows) > max_train:
        rows = np.sort(np.random.default_rng(seed).choice(rows, max_train, replace=False))
    labels = train_labels[rows]
    columns = labels[:, None] if kind == "class" else labels
    known = columns >= 0 if kind == "class" else ~np.isnan(columns)
    inputs, tests = _count_kmers(
        [train_sequences[row] for row in rows.tolist()], test_sequences, trees=kind == "value"
    )
    found, notes = [], set()
    for column, some in zip(columns.T, known.T, strict=True):
        if not some.any():
            found.append(np.full((len(test_sequences), 1), np.nan))
            notes.add(", an output without training labels")
            continue
        if kind == "value":
            found.append(_fit_trees(inputs[some], column[some], tests, seed)[:, None])
            continue
        chances, note = _fit_logistic(inputs[some], column[some].astype(np.int64), tests)
        width = 2 if kind == "flag" else max(num_classes or 0, chances.shape[1])
        chances = np.pad(chances, ((0, 0), (0, width - chances.shape[1])))
        found.append(chances[:, 1:] if kind == "flag" else chances)
        notes.add(note)
    model = "100 extra trees" if kind == "value" else "logistic regression"
    size = f"{int(known.any(1).sum()):,} training sequences"
    drawn = f" drawn from {len(train_sequences):,}" if len(rows) < len(train_sequences) else ""
    kmers = f"1- to {_TREE_K if kind == 'value' else _LINEAR_K}-mers"
    about = f"{model} on TF-IDF of {kmers}, {size}{drawn}{''.join(sorted(notes))}"
    return Floor("k-mer model", about, np.concatenate(found, 1))


def rnafold_pairs(sequences: Sequence[str], progress: Callable[[int], None] | None = None) -> Floor:
    """Structures of minimum free energy (ViennaRNA, 37 degrees), without pseudoknots.

    Args:
        sequences: RNA; letters other than ACGUT do not pair.
        progress: Is called with the number of sequences done.

    Returns:
        Pairs of each sequence, int64 (P, 2); no predictions where ViennaRNA is not installed.
    """
    try:
        import RNA
    except ImportError:
        return Floor("RNAfold", MISSING_VIENNARNA, None)
    predictions = []
    for done, sequence in enumerate(sequences, 1):
        partners = np.asarray(RNA.ptable(RNA.fold(sequence)[0]) if sequence else [0])[1:]
        left = np.flatnonzero(partners > np.arange(1, len(partners) + 1))
        predictions.append(np.stack([left, partners[left] - 1], 1).astype(np.int64))
        if progress is not None:
            progress(done)
    about = f"minimum free energy, ViennaRNA {RNA.__version__}, default energies, 37 degrees"
    return Floor("RNAfold", about, predictions)


def _count_kmers(train: Sequence[str], test: Sequence[str], *, trees: bool) -> tuple[Any, Any]:
    """TF-IDF of the k-mers that occur in training sequences; dense for trees."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    counter = TfidfVectorizer(
        analyzer="char",
        ngram_range=(1, _TREE_K if trees else _LINEAR_K),
        lowercase=False,
        sublinear_tf=not trees,  # helps the linear model and not the trees
        max_features=_MAX_KMERS,
        dtype=np.float32,
    )
    inputs, tests = counter.fit_transform(train), counter.transform(test)
    return (inputs.toarray(), tests.toarray()) if trees else (inputs, tests)


def _fit_logistic(inputs: Any, labels: NDArray[Any], tests: Any) -> tuple[NDArray[Any], str]:
    """Probabilities of the classes up to the highest that occurs, (B, C), and a note."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    occurring, note = np.unique(labels), ""
    chances = np.zeros((tests.shape[0], int(occurring[-1]) + 1))
    if len(occurring) == 1:
        chances[:, occurring] = 1.0
        return chances, note
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model = LogisticRegression(C=30, max_iter=_MAX_STEPS).fit(inputs, labels)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        note = f", stopped after {_MAX_STEPS} steps"
    chances[:, occurring] = model.predict_proba(tests)
    return chances, note


def _fit_trees(inputs: Any, labels: NDArray[Any], tests: Any, seed: int) -> NDArray[Any]:
    """Predicted values, (B,)."""
    from sklearn.ensemble import ExtraTreesRegressor

    model = ExtraTreesRegressor(
        100, max_features=0.33, min_samples_leaf=2, n_jobs=-1, random_state=seed
    )
    return np.asarray(model.fit(inputs, labels).predict(tests))


def _means(values: NDArray[Any]) -> NDArray[np.float64]:
    """Mean of each column without NaN, (C,); NaN for a column without any value."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0).sum(0, np.float64) / known.sum(0))
