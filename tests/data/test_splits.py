"""Splits that depend on the sequence or its group alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.filters import sequence_digests
from rnafm.data.splits import split_by_group, split_by_hash

HASHES = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)


class TestByHash:
    @pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.5, 0.999])
    def test_share(self, fraction):
        held_out = split_by_hash(HASHES, fraction)
        assert held_out.dtype == bool
        spread = (fraction * (1 - fraction) / len(HASHES)) ** 0.5
        assert abs(held_out.mean() - fraction) < 4 * spread

    def test_a_sequence_is_on_the_same_side_among_any_number_of_others(self):
        hashes = np.random.default_rng(0).integers(0, 2**64, 40_000, np.uint64)
        whole = split_by_hash(hashes, 0.3)
        for start, end in ((0, 50), (16_380, 16_390), (39_000, 40_000)):
            assert np.array_equal(split_by_hash(hashes[start:end], 0.3), whole[start:end])
        assert abs(whole.mean() - 0.3) < 0.01

    def test_the_same_on_every_machine(self):
        hashes, _ = sequence_digests(["ACGU", "GGGG", "acgt", "UUUU", "CCCC", "AAAA"])
        assert split_by_hash(hashes, 0.5).tolist() == [True, True, True, False, True, True]
        assert split_by_hash(hashes, 0.5, "other").tolist() != split_by_hash(hashes, 0.5).tolist()

    @given(st.permutations(range(50)), st.integers(1, 50))
    def test_neither_order_nor_company_matter(self, order, count):
        alone = split_by_hash(HASHES[:50], 0.5)
        part = np.array(order)[:count]
        hashes = np.concatenate([HASHES[part], HASHES[50:100]])
        np.testing.assert_array_equal(split_by_hash(hashes, 0.5)[:count], alone[part])

    def test_a_larger_fraction_keeps_what_was_held_out(self):
        assert not (split_by_hash(HASHES, 0.01) & ~split_by_hash(HASHES, 0.02)).any()

    def test_salts_are_independent(self):
        both = split_by_hash(HASHES, 0.5) & split_by_hash(HASHES, 0.5, "other")
        assert abs(both.mean() - 0.25) < 0.02

    def test_input_stays_as_it_is(self):
        before = HASHES.copy()
        split_by_hash(HASHES, 0.1, "salt")
        np.testing.assert_array_equal(HASHES, before)

    def test_empty_sides(self):
        with pytest.raises(
            ValueError, match="no sequence is held out by a fraction of 1e-09 among"
        ):
            split_by_hash(HASHES, 1e-9)
        with pytest.raises(ValueError, match=r"all .* 0\.99 among 1 sequences; lower the fraction"):
            split_by_hash(HASHES[:1], 0.99)

    @pytest.mark.parametrize("fraction", [0, 1, -0.1, 2, float("nan")])
    def test_fractions(self, fraction):
        with pytest.raises(ValueError, match=r"fraction \(.*\) must lie between 0 and 1; to hold"):
            split_by_hash(HASHES, fraction)


class TestByGroup:
    CATEGORIES = ("", *(f"RF{i:05}" for i in range(400)))
    CODES = np.random.default_rng(1).integers(0, 401, 5000)

    def test_whole_groups(self):
        held_out = split_by_group(self.CODES, self.CATEGORIES, 0.2)
        inside, outside = set(self.CODES[held_out]), set(self.CODES[~held_out])
        assert not inside & outside
        assert 0 not in inside  # no group at all
        assert abs(len(inside) / 400 - 0.2) < 0.06

    def test_only_the_name_of_a_group_matters(self):
        held_out = split_by_group(self.CODES, self.CATEGORIES, 0.2)
        order = np.random.default_rng(2).permutation(401)
        codes = np.argsort(order)[self.CODES]
        categories = [self.CATEGORIES[i] for i in order]
        np.testing.assert_array_equal(split_by_group(codes, categories, 0.2), held_out)

    def test_the_same_on_every_machine(self):
        codes = np.arange(1, 9)
        held_out = split_by_group(codes, self.CATEGORIES, 0.5)
        assert held_out.tolist() == [True, False, True, True, True, True, True, False]

    def test_salt(self):
        first = split_by_group(self.CODES, self.CATEGORIES, 0.5)
        assert (first != split_by_group(self.CODES, self.CATEGORIES, 0.5, "other")).any()

    def test_too_few_groups(self):
        match = r"no sequence is held out by a fraction of 0\.01 among 2 groups; raise the fraction"
        with pytest.raises(ValueError, match=match):
            split_by_group(np.array([1, 2]), ["", "tRNA", "rRNA"], 0.01)
