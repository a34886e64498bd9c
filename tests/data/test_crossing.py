"""Crossing pairs, the largest nested set and loops, against definitions and by hand."""

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.structure import (
    crossing,
    is_nested,
    largest_nested,
    loop_types,
    pairs_from_dot_bracket,
)


def crosses(one, other):
    (i, j), (k, m) = sorted([one, other])
    return i < k < j < m


@st.composite
def pair_sets(draw, max_length, *, matching):
    length = draw(st.integers(2, max_length))
    if matching:
        order = draw(st.permutations(range(length)))
        count = draw(st.integers(0, length // 2))
        pairs = {tuple(sorted(order[2 * k : 2 * k + 2])) for k in range(count)}
    else:
        ends = st.integers(0, length - 1)
        pairs = draw(st.sets(st.tuples(ends, ends).filter(lambda pair: pair[0] < pair[1])))
    return np.array(sorted(pairs), np.int64).reshape(-1, 2)


class TestCrossing:
    @given(pair_sets(40, matching=False))
    def test_definition(self, pairs):
        rows = [tuple(pair) for pair in pairs.tolist()]
        expected = [any(crosses(one, other) for other in rows) for one in rows]
        assert crossing(pairs).tolist() == expected
        assert is_nested(pairs) == (not any(expected))

    def test_order_does_not_matter(self):
        pairs = np.array([[4, 9], [0, 6], [10, 12]])
        assert crossing(pairs).tolist() == [True, True, False]

    def test_thousands_of_pairs(self):
        pairs = np.sort(np.random.default_rng(0).permutation(20_000).reshape(-1, 2), axis=1)
        start = time.perf_counter()
        assert crossing(pairs).mean() > 0.99
        assert time.perf_counter() - start < 2  # all against all would be 10^8 comparisons


class TestLargestNested:
    @given(pair_sets(16, matching=True))
    def test_brute_force(self, pairs):
        chosen = largest_nested(pairs)
        assert is_nested(pairs[chosen])
        rows = pairs.tolist()
        largest = next(
            size
            for size in range(len(rows), -1, -1)
            for some in combinations(rows, size)
            if not any(crosses(one, other) for one, other in combinations(some, 2))
        )
        assert chosen.sum() == largest

    def test_of_equal_ones_the_later(self):
        assert (
            largest_nested(pairs_from_dot_bracket("(([[))]]")).tolist() == [False] * 2 + [True] * 2
        )

    def test_a_bulge_does_not_matter(self):
        pairs = pairs_from_dot_bracket("((.((.[[[..)))).]]]")
        assert largest_nested(pairs).tolist() == [True] * 4 + [False] * 3


class TestLoopTypes:
    @pytest.mark.parametrize(
        ("structure", "letters"),
        [
            ("", ""),
            ("....", "EEEE"),
            ("((...))", "SSHHHSS"),  # hairpin
            (".((...))..", "ESSHHHSSEE"),  # dangling ends
            ("((..((...))))", "SSBBSSHHHSSSS"),  # bulge at the 5' side
            ("((((...)).))", "SSSSHHHSSBSS"),  # bulge at the 3' side
            ("((.((...))..))", "SSISSHHHSSIISS"),  # interior loop
            ("(.((...)).((...)).)", "SMSSHHHSSMSSHHHSSMS"),  # multiloop
            ("(((...))((...)))", "SSSHHHSSSSHHHSSS"),  # multiloop without unpaired bases
            (".((...))..((...)).", "ESSHHHSSXXSSHHHSSE"),  # exterior loop
            ("()", "SS"),
            ("((..[[[..))..]]]", "EEEESSSHHHHHHSSS"),  # crossing pairs count as unpaired
            ("(((..[[..)))..]]", "SSSHHHHHHSSSEEEE"),
        ],
    )
    def test_by_hand(self, structure, letters):
        assert loop_types(pairs_from_dot_bracket(structure), len(structure)) == letters
