"""Intervals over sequences and paired differences."""

import numpy as np
import pytest
from scipy.stats import wilcoxon

from rnafm.reports.bootstrap import (
    bootstrap_interval,
    draw_mean,
    mean_interval,
    paired_difference,
)

VALUES = np.random.default_rng(0).normal(size=60)


class TestIntervals:
    def test_as_wide_as_theory_says(self):
        values = np.random.default_rng(1).normal(5, 2, size=4000)
        found = mean_interval(values)
        half = 1.96 * values.std() / 4000**0.5
        assert found.value == pytest.approx(values.mean())
        assert found.low == pytest.approx(values.mean() - half, abs=half / 8)
        assert found.high == pytest.approx(values.mean() + half, abs=half / 8)

    def test_coverage_of_a_known_mean(self):
        rng = np.random.default_rng(2)
        intervals = [mean_interval(rng.normal(3, 1, 50), resamples=300) for _ in range(300)]
        covered = np.mean([one.low <= 3 <= one.high for one in intervals])
        assert 0.90 < covered < 0.98

    def test_one_statistic_and_several(self):
        def both(rows):
            return {"mean": VALUES[rows].mean(), "median": np.median(VALUES[rows])}

        found = bootstrap_interval(both, 60, resamples=200)
        assert list(found) == ["mean", "median"]
        assert bootstrap_interval(lambda rows: VALUES[rows].mean(), 60, 200) == {"": found["mean"]}
        assert found["median"].value == np.median(VALUES)
        assert found["median"].low < found["median"].value < found["median"].high

    @pytest.mark.parametrize("num_units", [10, 60, 997])
    def test_the_fast_mean_draws_the_same(self, num_units):
        values = np.random.default_rng(3).normal(size=num_units)
        fast = mean_interval(values, 500, seed=7)
        slow = bootstrap_interval(lambda rows: values[rows].mean(), num_units, 500, seed=7)[""]
        assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=1e-12)

    def test_blocks_do_not_show(self, monkeypatch):
        whole = mean_interval(VALUES)
        monkeypatch.setattr("rnafm.reports.bootstrap._CHUNK", 130)
        assert mean_interval(VALUES) == whole

    def test_seed(self):
        assert mean_interval(VALUES, seed=1) == mean_interval(VALUES, seed=1)
        assert mean_interval(VALUES, seed=1) != mean_interval(VALUES, seed=2)

    def test_a_higher_level_is_wider(self):
        narrow, wide = mean_interval(VALUES, level=0.5), mean_interval(VALUES, level=0.99)
        assert wide.low < narrow.low < narrow.high < wide.high

    def test_missing_values_are_left_out_and_counted(self):
        values = np.append(VALUES, [np.nan] * 5)
        found = mean_interval(values)
        assert (found.num_units, found.left_out) == (60, 5)
        assert found.value == pytest.approx(VALUES.mean())
        assert np.isfinite(found.low)
        nothing = mean_interval([np.nan] * 20)
        assert (nothing.num_units, nothing.left_out) == (0, 20)
        assert np.isnan([nothing.value, nothing.low]).all()

    def test_undefined_resamples_are_counted(self):
        flags = np.arange(12) == 0

        def only_with_the_flag(rows):
            return 1.0 if flags[rows].any() else np.nan

        found = bootstrap_interval(only_with_the_flag, 12)[""]
        assert 250 < found.undefined < 450  # (11/12)^12 = 0.352 of 1000
        assert (found.low, found.high) == (1, 1)
        rare = bootstrap_interval(lambda rows: 1.0 if len(set(rows)) > 10 else np.nan, 12)[""]
        assert rare.undefined > 500
        assert np.isnan([rare.low, rare.high]).all()

    def test_too_few_sequences_have_no_interval(self):
        calls = []
        found = bootstrap_interval(lambda rows: calls.append(1) or rows.mean(), 9)[""]
        assert (found.value, found.num_units, len(calls)) == (4, 9, 1)
        assert np.isnan([found.low, found.high]).all()
        assert np.isfinite(mean_interval(VALUES[:10]).low)
        assert np.isnan(mean_interval(np.append(VALUES[:9], [np.nan] * 9)).low)

    def test_plain_values(self):
        assert mean_interval([1.0, 3.0]).to_dict() == {
            "value": 2.0, "low": None, "high": None, "num_units": 2, "left_out": 0, "undefined": 0,
        }  # fmt: skip

    def test_errors(self):
        with pytest.raises(ValueError, match=r"number of sequences \(0\): nothing to measure"):
            bootstrap_interval(lambda _: 0.0, 0)
        with pytest.raises(ValueError, match=r"level \(95\): an interval holds a share between"):
            mean_interval(VALUES, level=95)


class TestPaired:
    def test_numbers(self):
        first, second = VALUES + np.linspace(-0.2, 0.6, 60), VALUES
        found = paired_difference(first, second)
        assert found.difference.value == pytest.approx(0.2)
        assert (found.lower, found.higher, found.equal) == (15, 45, 0)
        assert found.p_value == pytest.approx(wilcoxon(first - second).pvalue)
        assert 0 < found.difference.low < 0.2 < found.difference.high
        assert found.to_dict()["higher"] == 45

    def test_narrower_than_apart(self):
        found = paired_difference(VALUES + 0.1, VALUES).difference
        alone = mean_interval(VALUES)
        assert found.high - found.low < 1e-9 < alone.high - alone.low

    def test_draws_of_one_seed_are_paired(self):
        one, two = draw_mean(VALUES + 1, seed=4), draw_mean(VALUES, seed=4)
        np.testing.assert_allclose(one.minus(two).draws, 1)

    def test_swapping_turns_the_sign(self):
        noise = VALUES + np.random.default_rng(1).normal(size=60)
        there, back = paired_difference(noise, VALUES), paired_difference(VALUES, noise)
        assert there.difference.low == pytest.approx(-back.difference.high)
        assert (there.higher, there.p_value) == (back.lower, pytest.approx(back.p_value))

    def test_missing_on_one_side(self):
        first = VALUES.copy()
        first[:3] = np.nan
        found = paired_difference(first, VALUES)
        assert (found.difference.num_units, found.difference.left_out) == (57, 3)
        assert (found.equal, found.p_value) == (57, 1.0)  # nothing differs

    def test_other_sequences(self):
        with pytest.raises(ValueError, match=r"\(60,\) and \(59,\)\): not of the same sequences"):
            paired_difference(VALUES, VALUES[1:])
