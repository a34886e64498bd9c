"""Energies: bonuses, reactivities, and ViennaRNA itself."""

import math
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.modules.folding import Constraints, Decoder, decode
from rnafm.modules.thermodynamics import bonuses, shape_energies, shift_by_shape

needs_vienna = pytest.mark.skipif(find_spec("RNA") is None, reason="needs ViennaRNA")
TRNA = "GCGGAUUUAGCUCAGUUGGGAGAGCGCCAGACUGAAGAUCUGGAGGUCCUGUGUUCGAUCCACAGAAUUCGCACCA"


def pairs_of(structure):
    stack, pairs = [], []
    for place, letter in enumerate(structure):
        if letter == "(":
            stack.append(place)
        elif letter == ")":
            pairs.append([stack.pop(), place])
    return sorted(pairs)


def listed(length, pairs):
    values = np.zeros((length, length))
    for i, j in pairs:
        values[i, j] = values[j, i] = 1
    return values


class TestBonuses:
    def test_lists_without_probabilities_get_all(self):
        for threshold in (0.0, 0.5, 0.9985):
            assert bonuses(np.array([0.0, 1.0]), threshold).tolist() == [0, 1]

    def test_log_odds(self):
        share = bonuses(np.array([0.5, 0.9, 0.999]), 0.5)
        assert share == pytest.approx([0, math.log(9) / math.log(999), 1])
        # A lower threshold moves the zero, not the end.
        low = bonuses(np.array([0.1, 0.5]), 0.1)
        assert low == pytest.approx([0, math.log(9) / (math.log(999) + math.log(9))])

    @given(st.lists(st.floats(0, 1), min_size=2), st.floats(0, 0.999))
    def test_rises_from_the_threshold(self, probabilities, threshold):
        values = np.sort(probabilities)
        share = bonuses(values, threshold)
        assert (np.diff(share) >= 0).all()
        assert ((share >= 0) & (share <= 1)).all()
        assert (share[values <= threshold] == 0).all()


class TestReactivities:
    def test_energies(self):
        energies = shape_energies(np.array([0.0, 1.0, -999.0, np.nan]))
        assert energies == pytest.approx([-0.6, 1.8 * math.log(2) - 0.6, 0, 0])

    def test_odds(self):
        pairs = np.array([[0, 1], [0, 2], [1, 2]])
        reactivities = np.array([1.0, 0.0, np.nan])
        shifted = shift_by_shape(pairs, np.array([0.5, 0.5, 0.2]), reactivities)
        energies = [1.8 * math.log(2) - 1.2, 1.8 * math.log(2) - 0.6, -0.6]
        odds = [
            base * math.exp(-e / 0.61632) for base, e in zip([1, 1, 0.25], energies, strict=True)
        ]
        assert shifted == pytest.approx([one / (1 + one) for one in odds], rel=1e-4)

    @given(st.lists(st.floats(0, 1), min_size=3, max_size=3), st.floats(0.5, 10))
    def test_certainties_stay_and_reactive_bases_turn_down(self, probabilities, reactivity):
        pairs = np.array([[0, 1], [0, 2], [1, 2]])
        values = np.array(probabilities)
        shifted = shift_by_shape(pairs, values, np.full(3, reactivity))
        certain = (values == 0) | (values == 1)
        np.testing.assert_array_equal(shifted[certain], values[certain])
        assert (shifted <= values).all()
        np.testing.assert_array_equal(shift_by_shape(pairs, values, np.full(3, np.nan)), values)


@needs_vienna
class TestHybrid:
    @given(st.text("ACGUN", min_size=1, max_size=60))
    def test_without_scores_it_is_rnafold(self, sequence):
        import RNA

        values = np.zeros((len(sequence), len(sequence)))
        structure, _ = RNA.fold(sequence)
        assert decode(values, sequence, Decoder("hybrid")).tolist() == pairs_of(structure)
        # Nor do scores below the threshold, or a scale of 0, change anything.
        values[:] = 0.4
        assert decode(values, sequence, Decoder("hybrid")).tolist() == pairs_of(structure)
        decoder = Decoder("hybrid", threshold=0.1, scale=0)
        assert decode(values, sequence, decoder).tolist() == pairs_of(structure)

    @pytest.mark.parametrize("gamma", [0.1, 1.0, 10.0])
    def test_expected_accuracy(self, gamma):
        import RNA

        fold = RNA.fold_compound(TRNA)
        fold.pf()
        structure, _ = fold.MEA(gamma)
        decoder = Decoder("hybrid", fold="mea", gamma=gamma)
        found = decode(np.zeros((len(TRNA), len(TRNA))), TRNA, decoder)
        assert found.tolist() == pairs_of(structure)

    @pytest.mark.parametrize("fold", ["mfe", "mea"])
    def test_pairs_win_as_the_scale_grows(self, fold):
        scores = np.random.default_rng(1).random((len(TRNA), len(TRNA)))
        target = decode(scores, TRNA, Decoder(threshold=0.8)).tolist()
        values = listed(len(TRNA), target)
        shares = []
        for scale in (0.0, 1.0, 20.0):
            found = decode(values, TRNA, Decoder("hybrid", scale=scale, fold=fold)).tolist()
            shares.append(sum(pair in found for pair in target) / len(target))
        assert shares == sorted(shares)
        assert shares[0] < 0.5 < shares[-1] == 1

    def test_bonus_in_kcal_per_pair(self):
        """A listed pair at scale 1 is worth 1 kcal/mol, to the hundredth where the fold flips."""
        import RNA

        sequence = "GGGAAACUUC" + "AAAA"
        target = "(((....)))...."  # not what RNAfold finds best: its energy is above 0
        gap = RNA.energy_of_struct(sequence, target) - RNA.fold(sequence)[1]
        pairs = pairs_of(target)
        assert gap > 0
        values = listed(len(sequence), pairs)
        for extra, wins in ((-0.01, False), (0.01, True)):
            scale = gap / len(pairs) + extra
            found = decode(values, sequence, Decoder("hybrid", scale=scale)).tolist()
            assert (found == pairs) is wins

    def test_reactivities_are_those_of_vienna(self):
        import RNA

        reactivities = [0.1 + (i % 7) / 3 for i in range(len(TRNA))]
        reactivities[5] = -999.0
        fold = RNA.fold_compound(TRNA)
        fold.sc_add_SHAPE_deigan([-999.0, *reactivities], 1.8, -0.6)
        structure, _ = fold.mfe()
        reactivities[5] = float("nan")
        zeros = np.zeros((len(TRNA), len(TRNA)))
        known = Constraints(reactivities=reactivities)
        found = decode(zeros, TRNA, Decoder("hybrid"), known).tolist()
        assert found == pairs_of(structure)
        assert found != pairs_of(RNA.fold(TRNA)[0])

    def test_bonuses_and_reactivities_add_up(self):
        sequence = "GGGGAAAACCCC"
        pairs = pairs_of("((((....))))")
        known = Constraints(reactivities=[5.0] * 4 + [np.nan] * 4 + [5.0] * 4)
        values = listed(12, pairs)
        assert decode(np.zeros((12, 12)), sequence, Decoder("hybrid")).tolist() == pairs
        assert decode(np.zeros((12, 12)), sequence, Decoder("hybrid"), known).tolist() == []
        strong = Decoder("hybrid", scale=20)
        assert decode(values, sequence, strong, known).tolist() == pairs

    @pytest.mark.parametrize("fold", ["mfe", "mea"])
    def test_no_structure_with_a_forced_pair(self, fold):
        sequence = "G" + "A" * 40 + "GAAAAC" + "A" * 40 + "C"
        known = Constraints([(0, 87), (41, 46)])
        with pytest.raises(ValueError, match=r"forced pair \(.*\): ViennaRNA has no structure wit"):
            decode(np.zeros((88, 88)), sequence, Decoder("hybrid", fold=fold), known)

    @pytest.mark.parametrize("fold", ["mfe", "mea"])
    def test_long_sequences_do_not_overflow(self, fold):
        sequence = "".join(np.random.default_rng(0).choice(list("ACGU"), 300))
        pairs = decode(np.zeros((300, 300)), sequence, Decoder("hybrid", fold=fold, max_span=50))
        assert len(pairs) > 20 and (pairs[:, 1] - pairs[:, 0]).max() <= 50


def test_vienna_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "RNA", None)
    match = r"method 'hybrid' needs ViennaRNA, which is not installed: pip install 'rnafm\[vienna"
    with pytest.raises(ValueError, match=match):
        decode(np.zeros((4, 4)), "ACGU", Decoder("hybrid"))
    assert decode(np.zeros((4, 4)), "ACGU", Decoder("nested")).shape == (0, 2)
