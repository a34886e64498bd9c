"""Leaks: planted copies are found, and nothing else is."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafm.data import kmers
from rnafm.data.kmers import choose_k, kmer_sets
from rnafm.data.leaks import apply_on_leak, find_leaks

RNG = np.random.default_rng(0)
TRAIN = ["".join(letters) for letters in RNG.choice(list("ACGU"), (60, 150))]
FRESH = ["".join(letters) for letters in RNG.choice(list("ACGU"), (20, 150))]


def changed(sequence, places):
    """Another letter at each of the places."""
    letters = list(sequence)
    for place in places:
        letters[place] = {"A": "C", "C": "G", "G": "U", "U": "A"}[letters[place]]
    return "".join(letters)


def brute_force(train, test, k):
    """Shares by sets of strings."""
    parts = [{s[i : i + k] for i in range(len(s) - k + 1) if set(s[i : i + k]) <= set("ACGU")}
             for s in (*train, *test)]  # fmt: skip
    return np.array(
        [
            [len(own & other) / len(own) if own else 0.0 for other in parts[: len(train)]]
            for own in parts[len(train) :]
        ]
    ).reshape(len(test), len(train))


class TestFind:
    def test_planted_copies(self):
        near = changed(TRAIN[7], [20, 100])  # 16 of 143 8-mers are broken
        far = changed(TRAIN[8], range(5, 150, 10))
        test = [FRESH[0], TRAIN[5].lower().replace("u", "t"), near, TRAIN[9][30:90], far]
        report = find_leaks(TRAIN, test)
        assert report.exact.tolist() == [1] and report.near.tolist() == [2, 3]
        assert report.nearest[1:].tolist() == [5, 7, 9, 8]
        expected = [1, 127 / 143, 1, 0]
        np.testing.assert_allclose(report.similarity[1:4], expected[:3], rtol=1e-6)
        assert 0.1 < report.similarity[4] < 0.4 and report.similarity[0] < 0.1
        assert report.copied.tolist() == [5, 7, 9]
        assert report and report.similarity.dtype == np.float32 and report.nearest.dtype == np.int64

    @given(
        st.lists(st.text("ACGUN", max_size=25), max_size=8),
        st.lists(st.text("ACGUN", max_size=25), max_size=8),
        st.integers(4, 6),
        st.sampled_from([0.3, 0.5, 1.0]),
    )
    def test_brute_force(self, train, test, k, near):
        test += [text[:12] for text in train[:3]]
        shares = brute_force(train, test, k)
        report = find_leaks(train, test, near=near, k=k)
        exact = np.array([text in train for text in test], bool)
        best = shares.max(1, initial=0.0)
        np.testing.assert_array_equal(report.exact, np.flatnonzero(exact))
        np.testing.assert_array_equal(report.near, np.flatnonzero((best >= near) & ~exact))
        np.testing.assert_allclose(report.similarity, np.where(exact, 1, best), rtol=1e-6)
        is_copied = (shares >= near).any(0) | np.array([text in test for text in train], bool)
        np.testing.assert_array_equal(report.copied, np.flatnonzero(is_copied))
        for i, row in enumerate(report.nearest):
            wanted = train.index(test[i]) if exact[i] else shares[i].argmax() if best[i] else -1
            assert row == wanted

    @pytest.mark.parametrize("block", [1, 1000])
    def test_blocks(self, block, monkeypatch):
        test = [TRAIN[3], changed(TRAIN[4], [70]), *FRESH]
        whole = find_leaks(TRAIN, test)
        monkeypatch.setattr(kmers, "_BLOCK", block)
        parts = find_leaks(TRAIN, test)
        np.testing.assert_array_equal(parts.similarity, whole.similarity)
        np.testing.assert_array_equal(parts.nearest, whole.nearest)
        np.testing.assert_array_equal(parts.copied, whole.copied)

    @given(st.permutations(range(60)))
    @settings(max_examples=10)
    def test_order_of_training_does_not_matter(self, order):
        test = [TRAIN[3], changed(TRAIN[4], [70]), TRAIN[6][:40], *FRESH]
        first = find_leaks(TRAIN, test)
        second = find_leaks([TRAIN[i] for i in order], test)
        np.testing.assert_array_equal(first.similarity, second.similarity)
        np.testing.assert_array_equal(first.near, second.near)
        assert [order[row] for row in second.nearest[:3]] == [3, 4, 6]
        assert sorted(order[row] for row in second.copied) == first.copied.tolist()

    def test_no_false_alarm(self):
        rng = np.random.default_rng(1)
        texts = ["".join(letters) for letters in rng.choice(list("ACGU"), (1200, 200))]
        report = find_leaks(texts[:1000], texts[1000:])
        assert not report and report.similarity.max() < 0.2 and not len(report.copied)

    def test_long_sequences_by_a_part_of_their_kmers(self):
        rng = np.random.default_rng(2)
        texts = ["".join(rng.choice(list("ACGU"), 20_000)) for _ in range(3)]
        copy = changed(texts[1], range(50, 20_000, 100))
        report = find_leaks(texts, [copy])
        assert report.k == 11
        expected = 1 - 11 / 100  # each change breaks 11 k-mers of 100
        assert report.similarity[0] == pytest.approx(expected, abs=0.05)
        assert report.nearest.tolist() == [1] and report.near.tolist() == [0]

    def test_short_and_ambiguous_sequences_as_wholes(self):
        report = find_leaks(["ACGU", "NNNNNNNNNNNN", "GG"], ["acgt", "ACG", "NNNNNNNNNNNN", ""])
        assert report.exact.tolist() == [0, 2] and not len(report.near)
        assert report.similarity.tolist() == [1, 0, 1, 0]
        assert report.nearest.tolist() == [0, -1, 1, -1] and report.num_whole == 4

    def test_empty_sets(self):
        for train, test in (([], []), (TRAIN, []), ([], FRESH)):
            report = find_leaks(train, test)
            assert not report and len(report.similarity) == len(test)
            assert (report.nearest == -1).all() and report.lines()

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"near": 0}, r"near \(0\) must lie between 0 and 1"),
            ({"near": 1.5}, r"near \(1\.5\)"),
            ({"k": 3}, r"k \(3\) must lie between 4 and 12; leave it out"),
            ({"k": 13}, r"k \(13\)"),
        ],
    )
    def test_options(self, options, match):
        with pytest.raises(ValueError, match=match):
            find_leaks(TRAIN, FRESH, **options)


class TestReport:
    def test_lines(self):
        test = [TRAIN[0], TRAIN[1], changed(TRAIN[2], [70]), "ACGU", *FRESH[:16]]
        lines = find_leaks(TRAIN, test).lines("val")
        assert lines[0] == (
            "val: 2 of 20 sequences (10.0 %) are exact copies of training sequences; 1 of 20 "
            "sequences (5.0 %) are near copies, which share at least 80 % of their 8-mers with one "
            "(an identity of about 97 %)"
        )
        assert lines[1].startswith("val: what to do: split by family or cluster (split.by), or")
        assert len(lines) == 3 and lines[2] == (
            "val: 1 of 20 sequences (5.0 %) have no 8-mer (too short, or ambiguous) and were "
            "compared as wholes only"
        )

    def test_nothing_found(self):
        (line,) = find_leaks(TRAIN, [*FRESH, changed(TRAIN[0], range(5, 150, 6))]).lines()
        assert line.startswith(
            "test: none of 21 sequences is in training or shares 80 % of its 8-mers with a "
            "training sequence; the closest shares "
        )

    def test_numbers_are_plain(self):
        numbers = find_leaks(TRAIN, [TRAIN[0], changed(TRAIN[2], [70]), FRESH[0]]).numbers()
        assert json.loads(json.dumps(numbers)) == numbers
        assert (numbers["sequences"], numbers["training_sequences"]) == (3, 60)
        assert (numbers["exact_copies"], numbers["near_copies"], numbers["k"]) == (1, 1, 8)
        assert 0.6 < numbers["mean_similarity"] < 0.7


SEQUENCES = [*TRAIN, TRAIN[0], changed(TRAIN[1], [70]), *FRESH]
ROWS = {"train": np.arange(60), "val": np.array([60, 62, 63]), "test": np.arange(61, 70)}


class TestApply:
    def test_warn(self):
        rows, reports = apply_on_leak(ROWS, SEQUENCES, "warn")
        assert rows == ROWS and rows is not ROWS
        assert reports["val"].exact.tolist() == [0] and reports["test"].near.tolist() == [0]

    def test_drop_leaves_the_published_test_set(self):
        rows, reports = apply_on_leak(ROWS, SEQUENCES, "drop")
        assert rows["train"].tolist() == list(range(2, 60))
        assert rows["val"] is ROWS["val"] and rows["test"] is ROWS["test"]
        assert len(ROWS["train"]) == 60
        assert not reports["val"] and not reports["test"]
        assert reports["test"].num_dropped == reports["val"].num_dropped == 1
        assert reports["test"].lines()[1] == (
            "test: 1 training sequences were left out, since test has copies of them; 58 stay"
        )
        assert reports["test"].numbers()["dropped_from_training"] == 1
        again, _ = apply_on_leak(rows, SEQUENCES, "error")
        assert again["train"].tolist() == rows["train"].tolist()

    def test_drop_takes_every_copy(self):
        sequences = [TRAIN[0], TRAIN[0].lower(), changed(TRAIN[0], [3]), FRESH[0], TRAIN[0]]
        rows = {"train": np.arange(4), "test": np.array([4])}
        left, _ = apply_on_leak(rows, sequences, "drop")
        assert left["train"].tolist() == [3]

    def test_error(self):
        match = r"on_leak \(error\): val: 1 of 3 .*; test: 0 of 9 .* 1 of 9 .*; split by family"
        with pytest.raises(ValueError, match=match):
            apply_on_leak(ROWS, SEQUENCES, "error")

    def test_nothing_would_stay(self):
        rows = {"train": np.array([0]), "val": np.array([], np.int64), "test": np.array([60])}
        with pytest.raises(ValueError, match=r"\(drop\): test has copies of all 1 training sequ"):
            apply_on_leak(rows, SEQUENCES, "drop")

    def test_empty_sides_have_no_report(self):
        rows = {"train": np.arange(3), "val": np.array([], np.int64), "test": np.array([61])}
        assert list(apply_on_leak(rows, SEQUENCES)[1]) == ["test"]

    def test_unknown_word(self):
        with pytest.raises(ValueError, match=r"on_leak \('eror'\) must be warn, error or drop"):
            apply_on_leak(ROWS, SEQUENCES, "eror")


class TestKmers:
    def test_k_by_length(self):
        lengths = {0: 8, 655: 8, 656: 9, 2621: 9, 2622: 10, 10_485: 10, 10_486: 11, 10**6: 11}
        assert {n: choose_k(["A" * n]) for n in lengths} == lengths
        assert choose_k([]) == 8

    def test_a_part_of_the_kmers_is_the_same_everywhere(self):
        whole, some = kmer_sets(TRAIN, 8), kmer_sets(TRAIN, 8, 20)
        assert (some.sizes == 20).all() and whole.sizes.max() == 143
        assert 0.45 < some.codes.mean() / 4**8 < 0.55  # not the lowest
        shifted = kmer_sets(["GGGG", *TRAIN], 8, 20)
        np.testing.assert_array_equal(shifted.codes, some.codes)
        for number in range(3):
            chosen = set(some.codes[some.owners == number])
            assert chosen < set(whole.codes[whole.owners == number])
