"""Clusters: relatives together, strangers apart, whatever finds them."""

import shutil

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafm.data.clusters import _join, cluster

METHODS = [
    pytest.param(
        method,
        marks=pytest.mark.skipif(
            program is not None and not shutil.which(program), reason=f"{program} is not installed"
        ),
    )
    for method, program in (("k-mers", None), ("mmseqs", "mmseqs"), ("cd-hit", "cd-hit-est"))
]


def mutated(rng, sequence, identity):
    """A copy that differs in exactly so many places."""
    letters = list(sequence)
    for place in rng.permutation(len(letters))[: round((1 - identity) * len(letters))]:
        letters[place] = rng.choice([other for other in "ACGU" if other != letters[place]])
    return "".join(letters)


def families(seed, identity, length=120, num_families=12, size=4):
    """Sequences in random order, and their families."""
    rng = np.random.default_rng(seed)
    founders = ["".join(rng.choice(list("ACGU"), length)) for _ in range(num_families)]
    family = rng.permutation(np.repeat(np.arange(num_families), size))
    return [mutated(rng, founders[i], identity) for i in family], family


def same(labels):
    return labels[:, None] == labels


@pytest.mark.parametrize("method", METHODS)
def test_planted_families(method):
    sequences, family = families(0, 0.95)
    sequences[0] += "NNNNNNRY"  # ambiguous letters are no match and no error
    found = cluster(sequences, 0.8, method)
    np.testing.assert_array_equal(same(found.labels), same(family))
    _, first = np.unique(found.labels, return_index=True)
    assert (np.diff(first) > 0).all() and found.labels.dtype == np.int64
    name = {"k-mers": "built-in, shared 8-mers", "mmseqs": "mmseqs 1", "cd-hit": "cd-hit-est 4"}
    assert found.method.startswith(name[method])


@pytest.mark.parametrize("method", METHODS)
def test_equal_short_and_strange_sequences(method):
    sequences = [
        "ACGU",
        "acgt",
        "AC",
        "ac",
        "GGC",
        "NNNNNNNNNNNNNNNN",
        "A" * 40,
        "a" * 40,
        "U" * 40,
    ]
    labels = cluster(sequences, 0.9, method).labels
    assert labels.tolist() == [0, 0, 1, 1, 2, 3, 4, 4, 5]
    assert cluster(sequences[:5], 0.9, method).labels.tolist() == [0, 0, 1, 1, 2]


class TestKmers:
    @given(st.integers(0, 1000), st.sampled_from([0.8, 0.9]), st.sampled_from([80, 300, 900]))
    @settings(max_examples=15, deadline=None)
    def test_families(self, seed, identity, length):
        # Two members differ by up to two thirds of what is allowed.
        sequences, family = families(seed, 1 - (1 - identity) / 3, length, 6, 4)
        labels = cluster(sequences, identity, "k-mers").labels
        np.testing.assert_array_equal(same(labels), same(family))

    @given(st.permutations(range(48)))
    @settings(max_examples=10)
    def test_order_does_not_matter(self, order):
        sequences, _ = families(1, 0.85)
        labels = cluster(sequences, 0.85, "k-mers").labels
        moved = cluster([sequences[i] for i in order], 0.85, "k-mers").labels
        np.testing.assert_array_equal(same(moved), same(labels[order]))

    def test_random_sequences_stay_alone(self):
        rng = np.random.default_rng(3)
        sequences = ["".join(letters) for letters in rng.choice(list("ACGU"), (2000, 30))]
        labels = cluster(sequences, 0.8, "k-mers").labels
        assert np.bincount(labels).max() <= 2 and labels.max() > 1980

    def test_a_chain_is_one_cluster(self):
        text = "".join(np.random.default_rng(4).choice(list("ACGU"), 400))
        windows = [text[start : start + 100] for start in range(0, 300, 30)]
        assert not cluster(windows, 0.9, "k-mers").labels.any()
        assert cluster([windows[0], windows[-1]], 0.9, "k-mers").labels.tolist() == [0, 1]

    def test_a_part_is_joined_if_it_is_large_enough(self):
        text = "".join(np.random.default_rng(6).choice(list("ACGU"), 640))
        assert cluster([text, text[:60]], 0.8, "k-mers").labels.tolist() == [0, 1]
        assert cluster([text, text[:200]], 0.8, "k-mers").labels.tolist() == [0, 0]

    @given(st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=20)))
    def test_components(self, blocks):
        labels = np.arange(31)
        for block in blocks:
            pairs = np.array(block, np.int64).reshape(-1, 2)
            labels = _join(labels, pairs[:, 0], pairs[:, 1])
        graph = nx.Graph(pair for block in blocks for pair in block)
        graph.add_nodes_from(range(31))
        for members in nx.connected_components(graph):
            assert {int(labels[i]) for i in members} == {min(members)}

    def test_repeats_join_nothing(self):
        rng = np.random.default_rng(5)
        tails = ["".join(rng.choice(list("ACGU"), 100)) + "A" * 30 for _ in range(5)]
        assert cluster([*tails, "A" * 30], 0.8, "k-mers").labels.tolist() == list(range(6))


class TestPrograms:
    @pytest.fixture
    def program(self, tmp_path, monkeypatch):
        """A folder that is the whole PATH, and a way to put a script there."""
        monkeypatch.setenv("PATH", str(tmp_path))

        def write(name, text):
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)

        return write

    def test_what_a_failing_program_wrote(self, program):
        program("mmseqs", "echo 'Invalid database read' >&2; exit 3")
        match = (
            r"mmseqs easy-cluster failed with exit status 3; use method: k-mers(?s:.*)Invalid da"
        )
        with pytest.raises(ChildProcessError, match=match):
            cluster(["ACGU" * 5], 0.8)

    def test_auto_takes_what_is_there(self, program):
        assert cluster(["ACGU"], 0.8).method == "built-in, shared 8-mers"
        program(
            "cd-hit-est",
            "echo 'Program: CD-HIT, V9.8 (+OpenMP)'\n"
            "echo '>Cluster 0\n0\t4nt, >1... *\n1\t4nt, >0... at +/90%' > out.clstr",
        )
        found = cluster(["ACGU", "ACGA"], 0.8)
        assert found.method == "cd-hit-est 9.8" and found.labels.tolist() == [0, 0]
        assert cluster(["ACGU", "ACGA"], 0.7).method == "built-in, shared 8-mers"
        program("mmseqs", "[ $1 = version ] && echo 17 || echo '1\t1\n1\t0' > out_cluster.tsv")
        found = cluster(["ACGU" * 5, "ACGA" * 5], 0.8)
        assert found.method == "mmseqs 17, connected components"
        assert found.labels.tolist() == [0, 0]

    @pytest.mark.usefixtures("program")
    def test_a_missing_program(self):
        match = "method 'cd-hit': there is no cd-hit-est on the PATH; install .* bioconda cd-hit"
        with pytest.raises(ValueError, match=match):
            cluster(["ACGU"], 0.8, "cd-hit")


@pytest.mark.parametrize(("identity", "method"), [(0.4, "auto"), (1.1, "k-mers"), (0.7, "cd-hit")])
def test_identity_out_of_range(identity, method):
    with pytest.raises(ValueError, match=rf"identity \({identity}\) must lie between .* {method};"):
        cluster(["ACGU"], identity, method)


def test_nothing_to_cluster():
    assert cluster([]).labels.shape == (0,)
