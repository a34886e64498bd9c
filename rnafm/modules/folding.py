"""From base-pair probabilities to a structure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import numpy as np
from torch import Tensor

from rnafm.modules.constraints import Constraints, may_pair, normalise
from rnafm.modules.matching import greedy, matching, one_sided
from rnafm.modules.nested import nested
from rnafm.modules.thermodynamics import hybrid, shift_by_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

Method = Literal["threshold", "greedy", "nested", "matching", "hybrid"]
# 0.5 first: of equals the first wins. RiNALMo looks at 0.01 to 0.29.
THRESHOLDS = (0.5, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8)
HYBRID_THRESHOLDS = (0.5, 0.1)
HYBRID_SCALES = (1.0, 0.5, 2.0, 4.0)
_NAMES = {
    "threshold": "every pair above the threshold (sinc-lab's rule, not always a structure)",
    "greedy": "greedy by probability",
    "nested": "nested, maximum expected accuracy",
    "matching": "maximum-weight matching",
    "hybrid": "ViennaRNA with pair bonuses",
}


@dataclass(frozen=True)
class Decoder:
    """How probabilities become pairs. All values are plain and go into checkpoints.

    Args:
        method: ``nested``: the best structure without crossing pairs (maximum expected accuracy).
            ``matching``: the best structure with pseudoknots, slower. ``greedy``: nearly as good,
            fast. ``hybrid``: the minimum free energy of ViennaRNA (extra ``viennarna``) with
            probable pairs favoured. ``threshold``: no structure but sinc-lab's rule, for
            comparison with published numbers (see :data:`PUBLISHED`); a base may be in several
            pairs.
        threshold: Only pairs of a greater probability count. 1 / (1 + gamma) in the terms of
            maximum expected accuracy.
        canonical: Only AU, GC and GU pairs. ``hybrid`` never adds others; there the switch only
            says whether a forced pair may be one.
        min_loop: Fewest bases between the two of a pair. ``hybrid``: at least 3.
        max_span: Greatest j - i of a pair; by default there is no limit.
        scale: ``hybrid`` only: bonus of a certain pair in kcal/mol. Others get the share that
            their log odds above the threshold have.
        fold: ``hybrid`` only: minimum free energy, or maximum expected accuracy of the ensemble.
        gamma: ``fold="mea"`` only: weight of paired against unpaired bases.

    Raises:
        ValueError: If a value is out of range.
    """

    method: Method = "nested"
    threshold: float = 0.5
    canonical: bool = True
    min_loop: int = 3
    max_span: int | None = None
    scale: float = 1.0
    fold: Literal["mfe", "mea"] = "mfe"
    gamma: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise ValueError(f"method ({self.method}) is none of {', '.join(get_args(Method))}")
        if self.fold not in {"mfe", "mea"}:
            raise ValueError(f"fold ({self.fold}) is none of mfe, mea")
        if not 0 <= self.threshold < 1:
            raise ValueError(
                f"threshold ({self.threshold}) of a probability must be at least 0 and below 1"
            )
        for name in ("min_loop", "max_span", "scale", "gamma"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{name} ({value}) must be a number from 0 up")

    @property
    def hairpin(self) -> int:
        """Fewest bases between the two of a pair, also for this method."""
        return max(3, self.min_loop) if self.method == "hybrid" else self.min_loop

    def describe(self) -> str:
        """One line for reports.

        >>> Decoder(threshold=0.2).describe()
        'nested, maximum expected accuracy; p > 0.2; canonical pairs; hairpins from 3 nt'
        """
        parts = [_NAMES[self.method], f"p > {self.threshold:g}"]
        if self.method == "hybrid":
            mea = f", maximum expected accuracy, gamma {self.gamma:g}"
            parts[0] += f" up to {self.scale:g} kcal/mol" + (mea if self.fold == "mea" else ", MFE")
        canonical = self.canonical or self.method == "hybrid"
        parts.append("canonical pairs" if canonical else "any pairs")
        parts.append(f"hairpins from {self.hairpin} nt")
        if self.max_span is not None:
            parts.append(f"pairs span {self.max_span} nt at most")
        return "; ".join(parts)


PUBLISHED = Decoder("threshold", canonical=False, min_loop=0)
"""How sinc-lab's published pair lists were made (but for letters other than A, C, G, U)."""


def decode(
    probabilities: ArrayLike | Tensor,
    sequence: str,
    decoder: Decoder,
    constraints: Constraints | None = None,
) -> NDArray[np.int64]:
    """Structure of one RNA.

    Args:
        probabilities: Of base pairs, symmetric (L, L); only i < j is read.
        sequence: L letters; T is read as U, and what is not A, C, G or U never pairs.
        decoder: How.
        constraints: What is known about this RNA.

    Returns:
        Pairs i < j, sorted, int64 (P, 2).

    Raises:
        ValueError: If shapes differ, a value is no probability, constraints contradict each other
            or the decoder, or ``hybrid`` lacks ViennaRNA.
    """
    return decode_all(probabilities, sequence, [decoder], constraints)[0]


def decode_all(
    probabilities: ArrayLike | Tensor,
    sequence: str,
    decoders: Sequence[Decoder],
    constraints: Constraints | None = None,
) -> list[NDArray[np.int64]]:
    """Structures of one RNA by several decoders, which share the work where only thresholds differ.

    Arguments and errors are those of :func:`decode`; one array of pairs for each decoder.
    """
    letters = normalise(sequence)
    matrix = _check_probabilities(probabilities, len(letters))
    groups: dict[Decoder, list[int]] = {}
    for number, decoder in enumerate(decoders):
        groups.setdefault(replace(decoder, threshold=0.0, scale=0.0), []).append(number)
    found: dict[int, NDArray[np.int64]] = {}
    for group, numbers in groups.items():
        members = [decoders[number] for number in numbers]
        structures = _decode(matrix, letters, group, members, constraints or Constraints())
        found.update(zip(numbers, structures, strict=True))
    return [found[number] for number in range(len(decoders))]


def _decode(
    matrix: NDArray[np.float64],
    letters: str,
    group: Decoder,
    members: list[Decoder],
    constraints: Constraints,
) -> list[NDArray[np.int64]]:
    """Structures by decoders that differ from ``group`` in threshold and scale only."""
    forced, unpaired, reactivities = constraints.check(letters, group)
    thresholds = [member.threshold for member in members]
    lowest = min(thresholds)
    is_shifted = reactivities is not None and group.method != "hybrid"
    allowed = may_pair(letters, group) & (matrix > (0.0 if is_shifted else lowest))
    for bases in (unpaired, forced.ravel()):
        allowed[bases] = allowed[:, bases] = False
    pairs, values = np.argwhere(allowed), matrix[allowed]
    if group.method == "hybrid":
        return [
            hybrid(letters, pairs, values, member, (forced, unpaired, reactivities))
            for member in members
        ]
    if reactivities is not None:
        values = shift_by_shape(pairs, values, reactivities)
        pairs, values = pairs[values > lowest], values[values > lowest]
    if group.method == "nested":
        for i, j in forced.tolist():
            inside = (pairs > i) & (pairs < j)
            apart = inside[:, 0] == inside[:, 1]  # else it crosses the forced pair
            pairs, values = pairs[apart], values[apart]
        chosen = nested(pairs, values, thresholds, len(letters))
    else:
        choose = {"greedy": greedy, "matching": matching, "threshold": one_sided}[group.method]
        chosen = choose(pairs, values, thresholds)
    return [_sorted(np.concatenate([forced, pairs[numbers]])) for numbers in chosen]


def candidates(
    methods: Sequence[Method] = ("nested", "greedy"),
    base: Decoder = Decoder(),
    thresholds: Sequence[float] | None = None,
    scales: Sequence[float] = HYBRID_SCALES,
) -> list[Decoder]:
    """Decoders to choose from on validation data.

    Args:
        methods: Each with every threshold.
        base: Everything else.
        thresholds: By default :data:`THRESHOLDS`, and :data:`HYBRID_THRESHOLDS` for ``hybrid``,
            which folds anew for each.
        scales: For ``hybrid``.
    """
    found = []
    for method in methods:
        is_hybrid = method == "hybrid"
        usual = HYBRID_THRESHOLDS if is_hybrid else THRESHOLDS
        found += [
            replace(base, method=method, threshold=threshold, scale=scale)
            for threshold in thresholds or usual
            for scale in (scales if is_hybrid else [base.scale])
        ]
    return list(dict.fromkeys(found))


def choose_decoder(decoders: Sequence[Decoder], scores: ArrayLike | Tensor) -> Decoder:
    """The decoder of the highest score; of equals (to nine digits) the first.

    Args:
        decoders: Such as :func:`candidates`.
        scores: One for each, such as sums of F1 over validation sequences: sums from several
            processes add up to the same choice.

    Raises:
        ValueError: If there is not one finite score for each.
    """
    values = _array(scores)
    if values.shape != (len(decoders),) or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"scores {values.tolist()} for {len(decoders)} decoders: one finite number for each "
            "is needed; score at least one validation sequence"
        )
    best = values.max()
    return decoders[int(np.argmax(values >= best - 1e-9 * abs(best)))]


def _array(values: ArrayLike | Tensor) -> NDArray[np.float64]:
    if isinstance(values, Tensor):
        return cast("NDArray[np.float64]", values.detach().cpu().double().numpy())
    return np.asarray(values, np.float64)


def _check_probabilities(probabilities: Any, length: int) -> NDArray[np.float64]:
    matrix = _array(probabilities)
    if matrix.shape != (length, length):
        raise ValueError(
            f"probabilities {matrix.shape} of a sequence of {length} nucleotides: the shape must "
            f"be ({length}, {length}), without special tokens"
        )
    upper = matrix[np.triu_indices(length, 1)]
    if not ((upper >= 0) & (upper <= 1)).all():
        raise ValueError(
            f"probabilities lie between {upper.min():g} and {upper.max():g}, not between 0 and 1; "
            "apply a sigmoid to logits"
        )
    return matrix


def _sorted(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
