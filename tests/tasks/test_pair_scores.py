"""Pair scores: by hand, against torchmetrics on pixels, and over processes."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import (
    binary_f1_score,
    binary_matthews_corrcoef,
    binary_precision,
    binary_recall,
)

from rnafm.tasks.pair_scores import SCORES, PairScores, score_pairs


def pair_sets(length=12):
    """Any pairs, also several for one base."""
    return st.sets(st.sampled_from(list(combinations(range(length), 2))), max_size=30).map(sorted)


def pixels(pairs, length):
    values = torch.zeros(length, length, dtype=torch.long)
    for i, j in pairs:
        values[i, j] = 1
    return values[tuple(torch.triu_indices(length, length, 1))]


def near(pair, others):
    i, j = pair
    return any(p in others for p in [(i, j), (i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)])


def crosses(first, second):
    (i, j), (k, m) = sorted([first, second])
    return i < k < j < m


class TestByHand:
    def test_worked_example(self):
        # Right: (0, 19), (1, 18). One off: (2, 16) for (2, 17). Wrong: (5, 12).
        predicted = [(0, 19), (1, 18), (2, 16), (5, 12)]
        reference = [(0, 19), (1, 18), (2, 17), (6, 14), (7, 13)]
        scores = score_pairs(predicted, reference, 20)
        tp, fp, fn = 2, 2, 3
        tn = 190 - tp - fp - fn
        assert scores["precision"] == 2 / 4
        assert scores["recall"] == 2 / 5
        assert scores["f1"] == pytest.approx(4 / 9)
        assert scores["flexible_precision"] == 3 / 4
        assert scores["flexible_recall"] == 3 / 5
        assert scores["flexible_f1"] == pytest.approx(2 * 0.75 * 0.6 / 1.35)
        root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        assert scores["mcc"] == pytest.approx((tp * tn - fp * fn) / root)
        assert math.isnan(scores["pseudoknot_f1"])
        assert tuple(scores) == SCORES

    def test_pseudoknots(self):
        # (0, 9) and (4, 14) cross; (20, 29) does not count.
        reference = [(0, 9), (4, 14), (20, 29)]
        assert score_pairs(reference, reference, 30)["pseudoknot_f1"] == 1
        assert score_pairs([(0, 9), (20, 29)], reference, 30)["pseudoknot_f1"] == 0
        predicted = [(0, 9), (5, 14), (20, 29)]
        assert score_pairs(predicted, reference, 30)["pseudoknot_f1"] == 0.5
        assert math.isnan(score_pairs(reference, [(0, 9)], 30)["pseudoknot_f1"])

    @pytest.mark.parametrize("length", [0, 1, 9])
    def test_both_empty(self, length):
        scores = score_pairs([], np.zeros((0, 2), np.int64), length)
        assert math.isnan(scores.pop("pseudoknot_f1"))
        assert set(scores.values()) == {1.0}

    def test_one_empty(self):
        for predicted, reference in (([], [(0, 5)]), ([(0, 5)], [])):
            scores = score_pairs(predicted, reference, 9)
            scores.pop("pseudoknot_f1")
            assert set(scores.values()) == {0.0}

    def test_moves_do_not_wrap_round(self):
        # In row-major order (2, 0) follows (1, 9): neighbours as numbers, not as pairs.
        assert score_pairs([(1, 9)], [(2, 3)], 10)["flexible_f1"] == 0
        assert score_pairs([(0, 1)], [(8, 9)], 10)["flexible_f1"] == 0
        assert score_pairs([(0, 9)], [(0, 8)], 10)["flexible_f1"] == 1
        assert score_pairs([(0, 9)], [(1, 8)], 10)["flexible_f1"] == 0

    def test_whole_triangle(self):
        pairs = list(combinations(range(5), 2))
        assert score_pairs(pairs, pairs[:4], 5)["mcc"] == 0  # no true negative: the root is 0

    @pytest.mark.parametrize("pair", [(-1, 3), (0, 9), (4, 4)])
    def test_wrong_pairs(self, pair):
        match = rf"predicted pair \({pair[0]}, {pair[1]}\) of a sequence of 9 nucleotides: both end"
        with pytest.raises(ValueError, match=match):
            score_pairs([(0, 5), pair], [], 9)
        with pytest.raises(ValueError, match="reference pair"):
            score_pairs([], [pair], 9)


class TestProperties:
    @given(pair_sets(), pair_sets())
    def test_torchmetrics_on_pixels(self, predicted, reference):
        scores = score_pairs(predicted, reference, 12)
        both = pixels(predicted, 12), pixels(reference, 12)
        if predicted or reference:  # torchmetrics has 0 where both are empty
            assert scores["precision"] == pytest.approx(binary_precision(*both).item())
            assert scores["recall"] == pytest.approx(binary_recall(*both).item())
            assert scores["f1"] == pytest.approx(binary_f1_score(*both).item())
        if predicted and reference:  # its stand-in for 0 / 0 is not 0
            assert scores["mcc"] == pytest.approx(binary_matthews_corrcoef(*both).item(), abs=1e-5)

    @given(pair_sets(), pair_sets())
    def test_flexible_as_defined(self, predicted, reference):
        scores = score_pairs(predicted, reference, 12)
        if predicted and reference:
            right = sum(near(pair, set(reference)) for pair in predicted)
            recovered = sum(near(pair, set(predicted)) for pair in reference)
            assert scores["flexible_precision"] == right / len(predicted)
            assert scores["flexible_recall"] == recovered / len(reference)
        assert scores["flexible_f1"] >= scores["f1"] - 1e-12

    @given(pair_sets(), pair_sets())
    def test_crossing_as_defined(self, predicted, reference):
        found, wanted = (
            {a for a in pairs for b in pairs if crosses(a, b)} for pairs in (predicted, reference)
        )
        score = score_pairs(predicted, reference, 12)["pseudoknot_f1"]
        if wanted:
            expected = 2 * len(found & wanted) / (len(found) + len(wanted))
            assert score == pytest.approx(expected)
        else:
            assert math.isnan(score)

    @given(pair_sets(), pair_sets())
    def test_exchanged(self, predicted, reference):
        one = score_pairs(predicted, reference, 12)
        other = score_pairs(reference, predicted, 12)
        for name in ("f1", "flexible_f1", "mcc"):
            assert one[name] == pytest.approx(other[name])
        assert one["precision"] == other["recall"]
        assert one["flexible_precision"] == other["flexible_recall"]

    @given(pair_sets(), pair_sets(), st.randoms(use_true_random=False))
    def test_order_ends_and_repeats(self, predicted, reference, random):
        mixed = [pair[::-1] if random.random() < 0.5 else pair for pair in predicted * 2]
        random.shuffle(mixed)
        expected = score_pairs(predicted, reference, 12)
        found = score_pairs(torch.tensor(mixed).reshape(-1, 2), np.array(reference), 12)
        assert found == pytest.approx(expected, nan_ok=True)

    @given(pair_sets())
    def test_perfect(self, pairs):
        scores = score_pairs(pairs, pairs, 12)
        assert all(value == 1 for value in scores.values() if not math.isnan(value))


class TestMeans:
    RNAS = (
        ([(0, 9), (4, 14)], [(0, 9), (4, 14), (20, 29)], 30),
        ([(0, 9)], [(0, 9), (1, 8)], 10),
        ([], [], 5),
        ([(0, 7), (3, 9)], [(0, 8), (3, 9)], 12),
    )

    def test_over_sequences(self):
        metric = PairScores()
        for rna in self.RNAS:
            metric.update(*rna)
        each = [score_pairs(*rna) for rna in self.RNAS]
        means = metric.compute()
        assert tuple(means) == SCORES
        for name, mean in means.items():
            assert mean.item() == pytest.approx(np.nanmean([one[name] for one in each]))
        # Two RNAs have pseudoknots: means of these are over two.
        assert metric.counts.tolist() == [4] * 7 + [2]

    def test_without_pseudoknots(self):
        metric = PairScores()
        metric.update([(0, 9)], [(0, 9)], 10)
        assert metric.compute()["pseudoknot_f1"].isnan()

    @pytest.mark.parametrize("cut", [0, 1, 3])
    def test_two_ranks(self, cut):
        """States of two processes, added as torchmetrics does: uneven shares give the same."""
        whole, ranks = PairScores(), (PairScores(), PairScores())
        for number, rna in enumerate(self.RNAS):
            whole.update(*rna)
            ranks[number >= cut].update(*rna)
        merged = PairScores()
        for name, reduce in merged._reductions.items():
            stacked = torch.stack([getattr(rank, name) for rank in ranks])
            setattr(merged, name, reduce(stacked))
        merged._update_count = 1
        for name, mean in whole.compute().items():
            torch.testing.assert_close(merged.compute()[name], mean)

    def test_reset(self):
        metric = PairScores()
        metric.update([(0, 9)], [], 10)
        metric.reset()
        metric.update([(0, 9)], [(0, 9)], 10)
        assert metric.compute()["f1"].item() == 1
