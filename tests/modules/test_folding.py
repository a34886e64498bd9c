"""Structures from probabilities: valid, optimal where that is said, and within constraints."""

import json
import time
from dataclasses import asdict, replace
from importlib.util import find_spec
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from rnafm.modules.folding import (
    PUBLISHED,
    Constraints,
    Decoder,
    candidates,
    choose_decoder,
    decode,
    decode_all,
)

needs_vienna = pytest.mark.skipif(find_spec("RNA") is None, reason="needs ViennaRNA")
HYBRID = pytest.param("hybrid", marks=needs_vienna)
STRUCTURES = ["greedy", "nested", "matching", HYBRID]
METHODS = ["threshold", *STRUCTURES]
CANONICAL = {"AU", "UA", "GC", "CG", "GU", "UG"}
SHORT = Decoder(min_loop=1, threshold=0.3)


def matrix(length, seed, levels=20):
    """Symmetric probabilities with ties, zeros and ones."""
    values = np.random.default_rng(seed).integers(0, levels + 1, (length, length)) / levels
    return np.maximum(np.triu(values, 1), np.triu(values, 1).T)


def from_pairs(length, pairs):
    values = np.zeros((length, length))
    for i, j, p in pairs:
        values[i, j] = values[j, i] = p
    return values


@st.composite
def rnas(draw, max_size=40, letters="ACGUN"):
    sequence = draw(st.text(letters, max_size=max_size))
    return sequence, matrix(len(sequence), draw(st.integers(0, 2**32)))


def crosses(first, second):
    (i, j), (k, m) = sorted([tuple(first), tuple(second)])
    return i < k < j < m


def subsets(pairs, *, nested):
    """All structures that some of the pairs make."""
    found = [[]]
    for pair in pairs:
        found += [
            [*chosen, pair]
            for chosen in found
            if not any(set(pair) & set(other) for other in chosen)
            and not (nested and any(crosses(pair, other) for other in chosen))
        ]
    return found


class TestEveryMethod:
    @pytest.mark.parametrize("method", METHODS)
    @given(
        rna=rnas(),
        canonical=st.booleans(),
        min_loop=st.integers(0, 6),
        max_span=st.none() | st.integers(0, 30),
    )
    def test_rules(self, method, rna, canonical, min_loop, max_span):
        sequence, values = rna
        decoder = Decoder(method, 0.4, canonical=canonical, min_loop=min_loop, max_span=max_span)
        pairs = decode(values, sequence, decoder)
        assert pairs.dtype == np.int64 and pairs.ndim == 2 and pairs.shape[1] == 2
        assert pairs.tolist() == sorted(pairs.tolist())
        for i, j in pairs.tolist():
            assert j - i > min_loop
            assert max_span is None or j - i <= max_span
            assert sequence[i] != "N" != sequence[j]
            assert not canonical or sequence[i] + sequence[j] in CANONICAL
            assert method == "hybrid" or values[i, j] > 0.4
        if method != "threshold":
            assert len(np.unique(pairs)) == pairs.size
        if method in {"nested", "hybrid"}:
            assert not any(crosses(*two) for two in combinations(pairs.tolist(), 2))

    @pytest.mark.parametrize("method", METHODS)
    @given(rna=rnas(letters="GC"), seed=st.integers(0, 2**32), shape=st.booleans())
    def test_constraints_hold(self, method, rna, seed, shape):
        sequence, values = rna
        decoder = Decoder(method, 0.3, min_loop=3)
        rng = np.random.default_rng(seed)
        everything = decode(
            matrix(len(sequence), seed), sequence, replace(decoder, method="nested")
        )
        forced = [(j, i) for i, j in everything[rng.random(len(everything)) < 0.5].tolist()]
        free = [base for base in range(len(sequence)) if base not in {b for p in forced for b in p}]
        unpaired = [base for base in free if rng.random() < 0.3]
        reactivities = np.where(rng.random(len(sequence)) < 0.5, rng.random(len(sequence)), np.nan)
        constraints = Constraints(forced, unpaired, reactivities if shape else None)
        pairs = decode(values, sequence, decoder, constraints)
        assert {(j, i) for i, j in forced} <= {(i, j) for i, j in pairs.tolist()}
        assert not set(unpaired) & set(pairs.ravel().tolist())
        partners = [b for pair in pairs.tolist() for b in pair]
        assert all(partners.count(base) == 1 for pair in forced for base in pair)
        if method == "nested":
            assert not any(crosses(*two) for two in combinations(pairs.tolist(), 2))

    @pytest.mark.parametrize("method", METHODS)
    def test_letters(self, method):
        values = from_pairs(12, [(0, 11, 1), (1, 10, 1), (2, 9, 1)])
        upper = decode(values, "GGGAAAAAAUCC", Decoder(method))
        assert upper.tolist() == [[0, 11], [1, 10], [2, 9]]
        assert decode(values, "gggaaaaaatcc", Decoder(method)).tolist() == upper.tolist()
        assert [1, 10] not in decode(values, "GRGAAAAAAUYC", Decoder(method)).tolist()

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("sequence", ["", "A", "GAC", "NNNNNNNN"])
    def test_nothing_to_pair(self, method, sequence):
        values = np.ones((len(sequence), len(sequence)))
        assert decode(values, sequence, Decoder(method)).shape == (0, 2)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_torch_as_numpy(self, method, dtype):
        values = torch.tensor(matrix(30, 5)).to(dtype).requires_grad_()
        sequence = "GCAUGCGUAC" * 3
        pairs = decode(values, sequence, Decoder(method))
        assert len(pairs)
        expected = decode(values.detach().double().numpy(), sequence, Decoder(method))
        np.testing.assert_array_equal(pairs, expected)

    @given(rnas(max_size=15), st.booleans())
    def test_together_as_alone(self, rna, shape):
        sequence, values = rna
        known = Constraints(reactivities=np.linspace(0, 2, len(sequence)) if shape else None)
        decoders = candidates([*STRUCTURES[:3], "threshold"], thresholds=[0.5, 0.1, 0.7])
        decoders += [Decoder(min_loop=1), Decoder(canonical=False), Decoder(max_span=9)]
        for pairs, decoder in zip(
            decode_all(values, sequence, decoders, known), decoders, strict=True
        ):
            np.testing.assert_array_equal(pairs, decode(values, sequence, decoder, known))

    def test_input_stays_as_it_is(self):
        values = matrix(20, 1)
        before = values.copy()
        known = Constraints([(0, 10)], [5], np.ones(20))
        decode_all(values, "G" * 10 + "C" * 10, candidates(), known)
        np.testing.assert_array_equal(values, before)


class TestNested:
    @given(rnas(max_size=9, letters="GC"), st.sampled_from([0.0, 0.3, 0.7]))
    def test_brute_force(self, rna, threshold):
        sequence, values = rna
        decoder = replace(SHORT, threshold=threshold)
        allowed = [
            (i, j)
            for i, j in combinations(range(len(sequence)), 2)
            if sequence[i] != sequence[j] and j - i > 1 and values[i, j] > threshold
        ]
        best = max(
            sum(values[i, j] - threshold for i, j in chosen)
            for chosen in subsets(allowed, nested=True)
        )
        pairs = decode(values, sequence, decoder)
        assert sum(values[i, j] - threshold for i, j in pairs) == pytest.approx(best)

    def test_many_weak_pairs_beat_a_strong_one(self):
        values = from_pairs(13, [(0, 12, 0.6), (1, 11, 0.6), (2, 10, 0.6), (3, 7, 0.9)])
        values += from_pairs(13, [(4, 12, 0.8)])  # crosses none but shares a base
        pairs = decode(values, "GGGGGAACAACCC", Decoder(threshold=0.1))
        assert pairs.tolist() == [[0, 12], [1, 11], [2, 10], [3, 7]]

    def test_threshold_is_what_a_wrong_pair_costs(self):
        values = from_pairs(10, [(0, 9, 0.9), (3, 9, 0.5), (4, 8, 0.45), (5, 9, 0)])
        values[0, 9] = values[9, 0] = 0.6
        loose = decode(values, "GAAGGAAACC", Decoder(threshold=0.1))
        assert loose.tolist() == [[0, 9], [4, 8]]
        strict = decode(values, "GAAGGAAACC", Decoder(threshold=0.45))
        assert strict.tolist() == [[0, 9]]  # p must be greater than the threshold

    def test_long_stem_without_recursion(self):
        half = 700
        values = from_pairs(2 * half + 4, [(i, 2 * half + 3 - i, 0.9) for i in range(half)])
        assert len(decode(values, "G" * half + "AAAA" + "C" * half, Decoder())) == half

    def test_500_nt_in_a_second(self):
        values = np.random.default_rng(0).random((500, 500))
        start = time.process_time()
        pairs = decode(np.maximum(values, values.T), "GC" * 250, Decoder(threshold=0.01))
        assert time.process_time() - start < 1
        assert len(pairs) > 100

    def test_more_thresholds_than_fit_one_table(self, monkeypatch):
        decoders = candidates(["nested"])
        values = matrix(40, 3)
        expected = decode_all(values, "GCAU" * 10, decoders)
        monkeypatch.setattr("rnafm.modules.nested._MAX_CELLS", 5 * 41**2)
        for one, other in zip(decode_all(values, "GCAU" * 10, decoders), expected, strict=True):
            np.testing.assert_array_equal(one, other)


class TestWithCrossings:
    @given(rnas(max_size=9, letters="GC"), st.sampled_from([0.0, 0.3, 0.7]))
    def test_matching_brute_force(self, rna, threshold):
        sequence, values = rna
        allowed = [
            (i, j)
            for i, j in combinations(range(len(sequence)), 2)
            if sequence[i] != sequence[j] and j - i > 1 and values[i, j] > threshold
        ]
        best = max(
            sum(values[i, j] - threshold for i, j in chosen)
            for chosen in subsets(allowed, nested=False)
        )
        pairs = decode(values, sequence, replace(SHORT, method="matching", threshold=threshold))
        assert sum(values[i, j] - threshold for i, j in pairs) == pytest.approx(best)

    @pytest.mark.parametrize("method", ["greedy", "matching"])
    def test_pseudoknot(self, method):
        values = from_pairs(14, [(0, 8, 0.9), (1, 7, 0.9), (4, 13, 0.8), (5, 12, 0.8)])
        pairs = decode(values, "GGAAGGACCAAACC", Decoder(method))
        assert pairs.tolist() == [[0, 8], [1, 7], [4, 13], [5, 12]]

    @given(rnas())
    def test_greedy_takes_the_most_probable_first(self, rna):
        sequence, values = rna
        decoder = Decoder("greedy", 0.3, canonical=False, min_loop=0)
        ranked = sorted(
            (-values[i, j], i, j)
            for i, j in combinations(range(len(sequence)), 2)
            if values[i, j] > 0.3 and "N" not in sequence[i] + sequence[j]
        )
        taken, expected = set(), []
        for _, i, j in ranked:
            if not taken & {i, j}:
                taken |= {i, j}
                expected.append([i, j])
        assert decode(values, sequence, decoder).tolist() == sorted(expected)

    def test_greedy_is_not_optimal(self):
        values = from_pairs(12, [(0, 6, 0.8), (0, 11, 0.79), (1, 6, 0.79)])
        greedy, best = decode_all(values, "GGAAAACAAAAC", [Decoder("greedy"), Decoder("matching")])
        assert greedy.tolist() == [[0, 6]]
        assert best.tolist() == [[0, 11], [1, 6]]


class TestPublishedRule:
    @given(rnas(max_size=14, letters="ACGU"))
    def test_as_described(self, rna):
        sequence, values = rna
        above = [list(pair) for pair in np.argwhere(np.triu(values > 0.5, 1)).tolist()]
        removed = []
        for i, j in above:
            group = [pair for pair in above if pair[1] == i]
            if group:
                group.append([i, j])
                best = max(group, key=lambda pair: values[pair[0], pair[1]])
                removed += [pair for pair in group if pair != best]
        expected = [pair for pair in above if pair not in removed]
        assert decode(values, sequence, PUBLISHED).tolist() == expected

    def test_bases_in_several_pairs_remain(self):
        values = from_pairs(9, [(0, 8, 0.9), (0, 7, 0.6), (1, 8, 0.8)])
        pairs = decode(values, "GGAAAAACC", Decoder("threshold"))
        assert pairs.tolist() == [[0, 7], [0, 8], [1, 8]]


class TestConstraints:
    SEQUENCE = "GGGGAAAACCCCNA"
    BAD = (
        (Constraints([(0, 99)]), "constraint on base 99: the sequence has 14 nucleotides, numb"),
        (Constraints(unpaired=[-1]), "constraint on base -1: the sequence has 14"),
        (Constraints([(0, 11), (0, 10)]), r"\(0, 11\): base 0 is already paired with base 10"),
        (Constraints([(0, 11), (11, 1)]), r"\(1, 11\): base 11 is already paired with base 0"),
        (Constraints([(0, 11)], [11]), "base 11 is forced to be unpaired and to pair with base 0"),
        (Constraints([(3, 3)]), r"forced pair \(3, 3\): a base cannot pair with itself"),
        (Constraints([(0, 12)]), r"forced pair \(0, 12\): GN cannot pair"),
        (Constraints([(0, 5)]), r"forced pair \(0, 5\): GA is no canonical pair; leave it out"),
        (Constraints([(0, 8)]), r"forced pair \(0, 8\): it spans 8 nt, but max_span is 7; raise"),
        (Constraints(reactivities=[1.0]), r"reactivities \(1,\) of a sequence of 14 nucleotides"),
        (Constraints(reactivities=[np.inf] * 14), "reactivity of base 0 is infinite; write NaN"),
    )

    @pytest.mark.parametrize(("constraints", "match"), BAD)
    @pytest.mark.parametrize("method", METHODS)
    def test_impossible(self, method, constraints, match):
        span = 7 if "max_span" in match else None
        with pytest.raises(ValueError, match=match):
            decode(np.zeros((14, 14)), self.SEQUENCE, Decoder(method, max_span=span), constraints)

    @pytest.mark.parametrize("method", METHODS)
    def test_too_small_a_loop(self, method):
        decoder = Decoder(method, canonical=False, min_loop=4)
        with pytest.raises(ValueError, match=r"\(3, 7\): 3 bases lie between .* min_loop is 4"):
            decode(np.zeros((14, 14)), self.SEQUENCE, decoder, Constraints([(3, 7)]))

    @pytest.mark.parametrize("method", ["nested", HYBRID])
    def test_crossing(self, method):
        sequence, known = "GGAAGGACCAAACC", Constraints([(4, 13), (0, 8)])
        match = rf"\(0, 8\) and \(4, 13\) cross, but {method} has no pseudoknots; leave one out"
        with pytest.raises(ValueError, match=match):
            decode(np.zeros((14, 14)), sequence, Decoder(method), known)
        for other in ("greedy", "matching", "threshold"):
            pairs = decode(np.zeros((14, 14)), sequence, Decoder(other), known)
            assert pairs.tolist() == [[0, 8], [4, 13]]

    def test_the_same_pair_twice(self):
        known = Constraints([(0, 11), (11, 0)])
        assert decode(np.zeros((14, 14)), self.SEQUENCE, Decoder(), known).tolist() == [[0, 11]]

    @pytest.mark.parametrize("method", METHODS)
    def test_non_canonical_pairs_can_be_forced(self, method):
        decoder = Decoder(method, canonical=False)
        pairs = decode(np.zeros((14, 14)), self.SEQUENCE, decoder, Constraints([(0, 13)]))
        assert [0, 13] in pairs.tolist()

    @pytest.mark.parametrize("method", ["nested", "greedy", "matching", "threshold"])
    def test_reactivities_move_pairs_over_the_threshold(self, method):
        values = from_pairs(14, [(0, 11, 0.6), (3, 8, 0.4)])
        reactivities = np.full(14, np.nan)
        reactivities[[0, 11]] = 2.0
        reactivities[[3, 8]] = 0.0
        known = Constraints(reactivities=reactivities)
        assert decode(values, self.SEQUENCE, Decoder(method)).tolist() == [[0, 11]]
        assert decode(values, self.SEQUENCE, Decoder(method), known).tolist() == [[3, 8]]


class TestInput:
    def test_shape(self):
        match = r"probabilities \(6, 6\) of a sequence of 4 .* must be \(4, 4\), without special"
        with pytest.raises(ValueError, match=match):
            decode(np.zeros((6, 6)), "ACGU", Decoder())

    @pytest.mark.parametrize("value", [-3.0, 1.5, float("nan")])
    def test_logits(self, value):
        with pytest.raises(ValueError, match="not between 0 and 1; apply a sigmoid to logits"):
            decode(np.full((4, 4), value), "ACGU", Decoder())

    @pytest.mark.parametrize(
        ("values", "match"),
        [
            ({"method": "best"}, r"method \(best\) is none of threshold, greedy, nested, matching"),
            ({"fold": "pf"}, r"fold \(pf\) is none of mfe, mea"),
            ({"threshold": 1.0}, r"threshold \(1\.0\) of a probability must be at least 0 and bel"),
            ({"threshold": float("nan")}, r"threshold \(nan\) of a probability"),
            ({"min_loop": -1}, r"min_loop \(-1\) must be a number from 0 up"),
            ({"max_span": -1}, r"max_span \(-1\) must be a number from 0 up"),
            ({"scale": float("inf")}, r"scale \(inf\) must be a number from 0 up"),
        ],
    )
    def test_decoder(self, values, match):
        with pytest.raises(ValueError, match=match):
            Decoder(**values)

    def test_plain_values(self):
        decoder = Decoder("hybrid", 0.1, max_span=200, fold="mea")
        assert Decoder(**json.loads(json.dumps(asdict(decoder)))) == decoder

    def test_description(self):
        described = Decoder("hybrid", 0.1, scale=2, fold="mea", max_span=90).describe()
        assert described == (
            "ViennaRNA with pair bonuses up to 2 kcal/mol, maximum expected accuracy, gamma 1; "
            "p > 0.1; canonical pairs; hairpins from 3 nt; pairs span 90 nt at most"
        )
        assert PUBLISHED.describe().endswith("; p > 0.5; any pairs; hairpins from 0 nt")


class TestChoice:
    def test_candidates(self):
        decoders = candidates(["greedy", "hybrid"], Decoder(min_loop=4, fold="mea"))
        assert decoders[0] == Decoder("greedy", 0.5, min_loop=4, fold="mea")
        assert len(set(decoders)) == len(decoders) == 12 + 2 * 4
        assert {one.scale for one in decoders if one.method == "greedy"} == {1.0}
        few = candidates(["nested", "nested"], thresholds=[0.2, 0.4])
        assert few == [Decoder(threshold=0.2), Decoder(threshold=0.4)]

    def test_best_and_first(self):
        decoders = candidates(["nested"], thresholds=[0.5, 0.2, 0.3])
        assert choose_decoder(decoders, torch.tensor([1.0, 3.0, 2.0])).threshold == 0.2
        assert choose_decoder(decoders, [3.0, 3.0, 3.0]).threshold == 0.5
        # Sums of the same numbers in another order differ in the last digit.
        assert choose_decoder(decoders, [0.1 + 0.2, 0.3 + 1e-13, 0.0]).threshold == 0.5
        assert choose_decoder(decoders, [0.0, 0.0, 0.0]).threshold == 0.5

    @pytest.mark.parametrize("scores", [[], [1.0], [1.0, float("nan")]])
    def test_refused(self, scores):
        with pytest.raises(ValueError, match="for 2 decoders: one finite number for each is need"):
            choose_decoder(candidates(["nested"], thresholds=[0.5, 0.2]), scores)

    def test_chosen_threshold_is_the_best(self):
        """The whole way: with correct pairs at 0.3 and noise at 0.1, 0.2 is right."""
        values = from_pairs(14, [(0, 11, 0.3), (1, 10, 0.3), (2, 9, 0.3), (3, 13, 0.1)])
        decoders = candidates(["greedy", "nested"], thresholds=[0.5, 0.2, 0.05])
        found = decode_all(values, "GGGGAAAACCCCAC", decoders)
        right = {(0, 11), (1, 10), (2, 9)}
        f1 = [
            2 * len(right & set(map(tuple, pairs.tolist()))) / (3 + len(pairs)) for pairs in found
        ]
        assert choose_decoder(decoders, f1) == Decoder("greedy", 0.2)


@given(st.integers(0, 2**32))
def test_candidates_only_grow_as_thresholds_fall(seed):
    """What greedy has above a threshold stays below it: one pass serves all thresholds."""
    values = matrix(20, seed)
    high, low = decode_all(values, "GCAU" * 5, [Decoder("greedy", 0.6), Decoder("greedy", 0.2)])
    assume(len(high))
    assert {tuple(pair) for pair in high.tolist()} <= {tuple(pair) for pair in low.tolist()}
