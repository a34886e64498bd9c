"""Floors on data whose answer is known."""

import sys

import numpy as np
import pytest

from rnafm.reports.floors import kmer_model, majority_or_mean, rnafold_pairs
from rnafm.reports.token_floors import letter_model, window_model

RNG = np.random.default_rng(0)


def random_rna(length):
    return "".join(RNG.choice(list("ACGU"), length))


class TestConstant:
    def test_shares_of_classes(self):
        floor = majority_or_mean(np.array([0, 2, 2, -100, 2]), 3, num_classes=4)
        np.testing.assert_allclose(floor.predictions, [[0.25, 0, 0.75, 0]] * 3)
        assert floor.about == "shares of the classes among 4 training labels"

    def test_means_of_values(self):
        labels = np.array([[1, 0.0], [3, np.nan], [np.nan, np.nan]])
        floor = majority_or_mean(labels, 2)
        np.testing.assert_allclose(floor.predictions, [[2, 0]] * 2)
        assert floor.about == "mean of 2 training labels"


class TestKmers:
    PLAIN = tuple(random_rna(40) for _ in range(60))
    MARKED = tuple(sequence[:20] + "GGACG" + sequence[20:] for sequence in PLAIN)

    def test_classes(self):
        train, test = self.PLAIN[:40] + self.MARKED[:40], self.PLAIN[40:] + self.MARKED[40:]
        labels = np.repeat([1, 3], 40)
        floor = kmer_model(train, labels, test, "class", num_classes=5)
        assert floor.predictions.shape == (40, 5)
        np.testing.assert_allclose(floor.predictions.sum(1), 1)
        assert (floor.predictions[:, [0, 2, 4]] == 0).all()
        assert (floor.predictions.argmax(1) == np.repeat([1, 3], 20)).mean() > 0.9
        assert "80 training sequences" in floor.about

    def test_flags_with_missing_labels(self):
        train, test = self.PLAIN[:40] + self.MARKED[:40], self.PLAIN[40:] + self.MARKED[40:]
        labels = np.stack([np.repeat([0.0, 1], 40), np.ones(80), np.full(80, np.nan)], 1)
        labels[5:9, 0] = np.nan
        floor = kmer_model(train, labels, test, "flag")
        assert ((floor.predictions[:, 0] > 0.5) == np.repeat([False, True], 20)).mean() > 0.9
        assert (floor.predictions[:, 1] == 1).all()  # nothing else was ever seen
        assert np.isnan(floor.predictions[:, 2]).all()
        assert floor.about.endswith("an output without training labels")

    def test_values(self):
        share = np.array([[s.count("G") / 40, -s.count("G")] for s in self.PLAIN])
        floor = kmer_model(self.PLAIN[:45], share[:45], self.PLAIN[45:], "value")
        for column in (0, 1):
            assert np.corrcoef(floor.predictions[:, column], share[45:, column])[0, 1] > 0.8

    def test_missing_class_labels_are_not_learned(self):
        labels = np.repeat([0, -100, 1], 20)
        floor = kmer_model(self.PLAIN, labels, self.MARKED[:3], "class")
        assert floor.predictions.shape == (3, 2)
        assert "40 training sequences" in floor.about

    def test_a_cap_is_said_and_seeded(self):
        labels = np.repeat([0, 1], 30)
        again = [
            kmer_model(self.PLAIN, labels, self.MARKED, "class", max_train=50, seed=seed)
            for seed in (0, 0, 1)
        ]
        assert "50 training sequences drawn from 60" in again[0].about
        np.testing.assert_array_equal(again[0].predictions, again[1].predictions)
        assert (again[0].predictions != again[2].predictions).any()

    def test_no_warning_escapes(self, monkeypatch):
        monkeypatch.setattr("rnafm.reports.floors._MAX_STEPS", 1)
        floor = kmer_model(self.PLAIN, np.arange(60) % 3, self.MARKED, "class")
        assert floor.about.endswith("stopped after 1 steps")


class TestLetters:
    def test_values(self):
        labels = [np.array([[1.0, 10], [3, np.nan]]), np.array([[5.0, 20], [np.nan, np.nan]])]
        floor = letter_model(["AC", "AG"], labels, ["CAG", "U"])
        found = floor.predictions
        np.testing.assert_allclose(found[0], [[3, 15], [3, 15], [3, 15]])
        np.testing.assert_allclose(found[1], [[3, 15]])  # an unknown letter: the overall mean
        floor = letter_model(["AAC"], [np.array([[1.0], [2], [9]])], ["CA"])
        np.testing.assert_allclose(floor.predictions[0], [[9], [1.5]])

    def test_classes_and_codons(self):
        codons = [["AUG", "GGG", "AUG"], ["AUG"]]
        labels = [np.array([0, 1, -100]), np.array([2])]
        floor = letter_model(codons, labels, [["GGG", "AUG"]], num_classes=3)
        np.testing.assert_allclose(floor.predictions[0], [[0, 1, 0], [0.5, 0, 0.5]])
        assert floor.about == "mean of each letter over 3 labelled training positions"


class TestWindows:
    SEQUENCES = tuple(random_rna(int(length)) for length in RNG.integers(20, 40, 80))

    @staticmethod
    def before(sequence):
        """1 where the letter before is A; the ends depend on what lies outside."""
        return np.array([0.0, *(letter == "A" for letter in sequence[:-1])])

    def test_reads_a_neighbour(self):
        labels = [np.stack([self.before(s), -2 * self.before(s)], 1) for s in self.SEQUENCES]
        labels[0][:5] = np.nan
        floor = window_model(self.SEQUENCES[:60], labels[:60], self.SEQUENCES[60:])
        assert [len(p) for p in floor.predictions] == [len(s) for s in self.SEQUENCES[60:]]
        error = np.concatenate(floor.predictions) - np.concatenate(labels[60:])
        assert abs(error).max() < 0.2
        too_far = window_model(self.SEQUENCES[:60], labels[:60], self.SEQUENCES[60:], radius=0)
        assert abs(np.concatenate(too_far.predictions) - np.concatenate(labels[60:])).max() > 0.5

    def test_columns_that_miss_different_positions(self):
        labels = [np.stack([self.before(s), self.before(s)], 1) for s in self.SEQUENCES]
        both = window_model(self.SEQUENCES, labels, self.SEQUENCES[:3]).predictions
        for label in labels[::2]:
            label[:, 1] = np.nan
        found = window_model(self.SEQUENCES, labels, self.SEQUENCES[:3]).predictions
        np.testing.assert_allclose(found[0][:, 0], both[0][:, 0])
        half = window_model(
            self.SEQUENCES[1::2], [label[:, 1:] for label in labels[1::2]], self.SEQUENCES[:3]
        )
        np.testing.assert_allclose(found[0][:, 1], half.predictions[0][:, 0])

    def test_classes(self):
        labels = [self.before(s).astype(np.int64) for s in self.SEQUENCES]
        labels[0][:4] = -100
        floor = window_model(self.SEQUENCES[:60], labels[:60], self.SEQUENCES[60:], num_classes=3)
        found = np.concatenate(floor.predictions)
        np.testing.assert_allclose(found.sum(1), 1)
        assert found.min() > 0
        assert (found.argmax(1) == np.concatenate(labels[60:])).all()

    def test_sequences_do_not_see_each_other(self):
        labels = [self.before(s)[:, None] for s in self.SEQUENCES]
        together = window_model(self.SEQUENCES, labels, self.SEQUENCES[:5]).predictions
        alone = window_model(self.SEQUENCES, labels, self.SEQUENCES[2:3]).predictions
        np.testing.assert_allclose(together[2], alone[0], atol=1e-12)


class TestRNAfold:
    def test_a_hairpin(self):
        pytest.importorskip("RNA")
        done = []
        floor = rnafold_pairs(["GGGGAAAACCCC", "AAAA", "NNNN"], done.append)
        np.testing.assert_array_equal(floor.predictions[0], [[0, 11], [1, 10], [2, 9], [3, 8]])
        assert floor.predictions[1].shape == floor.predictions[2].shape == (0, 2)
        assert done == [1, 2, 3]
        assert "ViennaRNA" in floor.about

    def test_without_viennarna(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "RNA", None)
        floor = rnafold_pairs(["GGGGAAAACCCC"])
        assert floor.predictions is None
        assert floor.about.endswith("not installed: pip install 'rnafm[viennarna]'")
