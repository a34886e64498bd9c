"""Energies: reactivities as pseudo-energies, and ViennaRNA with pair scores beside its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from rnafm.modules.folding import Decoder

# SHAPE pseudo-energy of a paired nucleotide, m ln(r + 1) + b in kcal/mol (Deigan et al. 2009).
SLOPE, INTERCEPT = 1.8, -0.6
_KT = 0.61632  # kcal/mol at 37 degrees Celsius
_CERTAIN = 0.999  # bonuses grow no further: log odds of certain pairs would have no end


def shape_energies(reactivities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pseudo-energy of each nucleotide if it is paired, kcal/mol, (L,).

    Args:
        reactivities: Of each nucleotide, (L,); NaN or negative: not measured, energy 0.
    """
    known = reactivities >= 0
    return np.where(known, SLOPE * np.log1p(np.where(known, reactivities, 0)) + INTERCEPT, 0.0)


def shift_by_shape(
    pairs: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    reactivities: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Probabilities after reactivities were seen: the odds times exp(-(E_i + E_j) / kT).

    E is :func:`shape_energies`. Reactive bases (r > 0.4) turn a pair down, unreactive ones up;
    0 and 1 stay.

    Args:
        pairs: (E, 2).
        probabilities: Of the pairs, (E,).
        reactivities: Of each nucleotide, (L,).
    """
    factors = np.exp(-shape_energies(reactivities)[pairs].sum(axis=1) / _KT)
    shifted: NDArray[np.float64] = (
        probabilities * factors / (1 - probabilities + probabilities * factors)
    )
    return shifted


def bonuses(probabilities: NDArray[np.float64], threshold: float) -> NDArray[np.float64]:
    """Share of the full bonus: log odds above those of the threshold, 0 there and 1 from p = 0.999.

    Lists of pairs without probabilities (p = 1) get the full bonus each.

    Args:
        probabilities: Of the pairs.
        threshold: Pairs up to it get nothing.
    """
    low = _log_odds(min(max(threshold, 1 - _CERTAIN), 0.998))
    high = _log_odds(_CERTAIN)
    odds = _log_odds(np.clip(probabilities, 1 - _CERTAIN, _CERTAIN))
    share: NDArray[np.float64] = np.clip((odds - low) / (high - low), 0, 1)
    return np.where(probabilities > threshold, share, 0.0)


def _log_odds(probabilities: Any) -> Any:
    return np.log(probabilities) - np.log1p(-np.asarray(probabilities))


def hybrid(
    letters: str,
    pairs: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    decoder: Decoder,
    known: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64] | None],
) -> NDArray[np.int64]:
    """Fold with ViennaRNA, where every pair has ``decoder.scale`` times its bonus as soft energy.

    Without bonuses the result is RNAfold's.

    Args:
        letters: A, C, G, U and N.
        pairs: Candidates i < j, (E, 2).
        probabilities: Theirs, (E,).
        decoder: Threshold, scale, fold, gamma, hairpin and span are used.
        known: Forced pairs, forced unpaired bases, and reactivities, which become soft energies
            of stacks: what ``Constraints.check`` returns.

    Returns:
        Pairs i < j, sorted, (P, 2).

    Raises:
        ValueError: If ViennaRNA is not installed, or has no structure with the forced pairs.
    """
    vienna = _import_vienna()
    if not letters:
        return np.zeros((0, 2), np.int64)
    fold = _compound(vienna, letters, decoder, known)
    energies = -decoder.scale * bonuses(probabilities, decoder.threshold)
    for number in np.flatnonzero(energies):
        i, j = pairs[number].tolist()
        fold.sc_add_bp(i + 1, j + 1, float(energies[number]))
    partners = np.array(vienna.ptable(_structure(fold, decoder)), np.int64)[1:] - 1
    for i, j in known[0].tolist():
        if partners[i] != j:
            raise ValueError(
                f"forced pair ({i}, {j}): ViennaRNA has no structure with it beside the other "
                "constraints (its interior loops hold 30 unpaired bases at most); leave it out, "
                "or decode with 'nested' or 'matching'"
            )
    found = np.stack([np.arange(len(partners)), partners], axis=1)
    return found[found[:, 0] < found[:, 1]]


def _compound(
    vienna: ModuleType,
    letters: str,
    decoder: Decoder,
    known: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64] | None],
) -> Any:
    """The sequence with the decoder's rules and the user's constraints."""
    forced, unpaired, reactivities = known
    model = vienna.md()
    model.min_loop_size = decoder.hairpin
    if decoder.max_span is not None:
        model.max_bp_span = decoder.max_span + 1  # ViennaRNA counts both ends
    fold = vienna.fold_compound(letters, model)
    flags = vienna.CONSTRAINT_CONTEXT_ENFORCE | vienna.CONSTRAINT_CONTEXT_ALL_LOOPS
    for i, j in forced.tolist():
        fold.hc_add_bp(i + 1, j + 1, flags)
    for base in unpaired.tolist():
        fold.hc_add_up(base + 1)
    if reactivities is not None:
        measured = np.where(reactivities >= 0, reactivities, -999.0)  # -999: not measured
        fold.sc_add_SHAPE_deigan([-999.0, *measured.tolist()], SLOPE, INTERCEPT)
    return fold


def _structure(fold: Any, decoder: Decoder) -> str:
    structure, energy = fold.mfe()
    if decoder.fold == "mea":
        fold.exp_params_rescale(energy)  # long sequences overflow otherwise
        fold.pf()
        structure, _ = fold.MEA(decoder.gamma)
    return str(structure)


def _import_vienna() -> ModuleType:
    try:
        import RNA
    except ImportError:
        raise ValueError(
            "decoder method 'hybrid' needs ViennaRNA, which is not installed: "
            "pip install 'rnafm[viennarna]'"
        ) from None
    module: ModuleType = RNA
    return module
