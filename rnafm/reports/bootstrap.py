"""How sure a number is: bootstrap intervals over sequences, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Statistic = Callable[..., float | Mapping[str, float]]
"""Takes numbers of sequences, int (n,), with repeats; gives one number or several by name."""

MIN_UNITS = 10  # an interval from fewer would only look like one
_CHUNK = 1 << 17  # indices drawn at once: 1 MB, which stays in the cache


@dataclass(frozen=True)
class Interval:
    """A number and how far it could be off.

    Args:
        value: The statistic of all units; NaN where it is not defined.
        low: Lower end; NaN where there is no interval.
        high: Upper end.
        num_units: Sequences that went in.
        left_out: Sequences without a value.
        undefined: Resamples in which the statistic was not defined; they are left out.
    """

    value: float
    low: float
    high: float
    num_units: int
    left_out: int = 0
    undefined: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None for NaN."""
        return {key: _plain(value) for key, value in asdict(self).items()}


@dataclass(frozen=True)
class PairedDifference:
    """Two predictors on the same sequences: the first minus the second.

    Args:
        difference: Mean difference with its bootstrap interval.
        higher: Sequences on which the first has the higher value.
        lower: Sequences on which it has the lower value.
        equal: Sequences on which both have the same.
        p_value: Wilcoxon's signed-rank test, two-sided; 1 where nothing differs.
    """

    difference: Interval
    higher: int
    lower: int
    equal: int
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values; None for NaN."""
        counts = {"higher": self.higher, "lower": self.lower, "equal": self.equal}
        return {**self.difference.to_dict(), **counts, "p_value": _plain(self.p_value)}


@dataclass(frozen=True)
class Draws:
    """A statistic of all sequences, and of every resample.

    Args:
        value: Of all sequences.
        draws: Of the resamples, (resamples,); (0,) where there are too few sequences.
        num_units: Sequences that went in.
        left_out: Sequences without a value.
    """

    value: float
    draws: NDArray[np.float64]
    num_units: int
    left_out: int = 0

    def minus(self, other: Draws) -> Draws:
        """The difference from another statistic that was drawn with the same seed."""
        paired = len(self.draws) == len(other.draws)
        draws = self.draws - other.draws if paired else np.zeros(0)
        units = min(self.num_units, other.num_units)
        return Draws(self.value - other.value, draws, units, max(self.left_out, other.left_out))

    def interval(self, level: float = 0.95) -> Interval:
        """Percentiles of the draws; NaN where fewer than half of them are defined."""
        if not 0 < level < 1:
            raise ValueError(
                f"level ({level}): an interval holds a share between 0 and 1; try 0.95"
            )
        defined = self.draws[np.isfinite(self.draws)]
        undefined = len(self.draws) - len(defined)
        low = high = np.nan
        if len(defined) > undefined and np.isfinite(self.value):
            low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]).tolist()
        return Interval(self.value, low, high, self.num_units, self.left_out, undefined)


def draw_statistic(
    statistic: Statistic, rows: NDArray[np.int64], resamples: int = 1000, seed: int = 0
) -> dict[str, Draws]:
    """A statistic of some sequences, and of resamples of them; by name.

    Args:
        statistic: See `bootstrap_interval`.
        rows: Numbers of the sequences, int64 (n,).
        resamples: Number of draws.
        seed: See `bootstrap_interval`.
    """
    if not len(rows):
        raise ValueError("number of sequences (0): nothing to measure; is a split empty?")
    values = _named(statistic(rows))
    draws: dict[str, list[float]] = {name: [] for name in values}
    for block in _resampled(len(rows), resamples, seed):
        for indices in block:
            found = _named(statistic(rows[indices]))
            for name, drawn in draws.items():
                drawn.append(found.get(name, np.nan))
    return {name: Draws(values[name], np.asarray(draws[name]), len(rows)) for name in values}


def draw_mean(values: ArrayLike, resamples: int = 1000, seed: int = 0) -> Draws:
    """The mean of some sequences, and of resamples of them, without a Python call for each.

    Args:
        values: A number for each sequence, (n,); NaN is left out and counted.
        resamples: Number of draws.
        seed: See `bootstrap_interval`.
    """
    array = np.asarray(values, np.float64)
    known = ~np.isnan(array)
    filled, num_units = np.where(known, array, 0), int(known.sum())
    means = [np.zeros(0)]
    with np.errstate(invalid="ignore"):  # nothing known in a resample: undefined
        if num_units >= MIN_UNITS:
            blocks = _resampled(len(array), resamples, seed)
            means += [filled[block].sum(1) / known[block].sum(1) for block in blocks]
        value = float(np.float64(filled.sum()) / num_units)
    return Draws(value, np.concatenate(means), num_units, len(array) - num_units)


def bootstrap_interval(
    statistic: Statistic,
    num_units: int,
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Percentile intervals of a statistic over sequences drawn with replacement.

    With fewer than `MIN_UNITS` sequences, or where the statistic is undefined in half of the
    resamples or more, the ends are NaN.

    Args:
        statistic: Gives a number, or numbers by name, for numbers of sequences, int64 (n,), with
            repeats.
        num_units: Number of sequences.
        resamples: Number of draws.
        seed: The same seed and number of sequences give the same draws, so that the draws of two
            statistics are paired.
        level: Share of the draws inside.

    Returns:
        An interval for each name; a single number has the name ``""``.

    Raises:
        ValueError: If there is no sequence, or a number is out of range.
    """
    drawn = draw_statistic(statistic, np.arange(num_units), resamples, seed)
    return {name: draws.interval(level) for name, draws in drawn.items()}


def mean_interval(
    values: ArrayLike, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Interval:
    """The interval of a mean: see `draw_mean`."""
    return draw_mean(values, resamples, seed).interval(level)


def paired_difference(
    first: ArrayLike, second: ArrayLike, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> PairedDifference:
    """Compare two predictors on the same sequences.

    Args:
        first: A number for each sequence, (n,).
        second: Those of the other predictor in the same order, (n,). Sequences that miss one of
            the two are left out and counted.
        resamples: Number of draws.
        seed: See `bootstrap_interval`.
        level: Share of the draws inside.

    Raises:
        ValueError: If the two do not have the same length.
    """
    from scipy.stats import wilcoxon

    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape or one.ndim != 1:
        raise ValueError(
            f"values of two predictors ({one.shape} and {two.shape}): not of the same sequences; "
            "give one number for each sequence, in the same order"
        )
    differences = one - two
    measured = differences[~np.isnan(differences)]
    different = measured[measured != 0]
    return PairedDifference(
        difference=mean_interval(differences, resamples, seed, level),
        higher=int((measured > 0).sum()),
        lower=int((measured < 0).sum()),
        equal=int((measured == 0).sum()),
        p_value=float(wilcoxon(different).pvalue) if len(different) else 1.0,
    )


def _resampled(num_units: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Blocks of draws, (some, num_units); however they are cut, the draws are the same."""
    if num_units < MIN_UNITS:
        return
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK // num_units)
    for start in range(0, resamples, size):
        yield rng.integers(0, num_units, (min(size, resamples - start), num_units))


def _named(found: float | Mapping[str, float]) -> dict[str, float]:
    items = found.items() if isinstance(found, Mapping) else [("", found)]
    return {name: float(value) for name, value in items}


def _plain(value: float) -> float | int | None:
    return value if np.isfinite(value) else None
