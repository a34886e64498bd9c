"""Pairs as text and back, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.structure import (
    BRACKETS,
    StructureError,
    contact_map,
    dot_bracket,
    format_bpseq,
    format_ct,
    format_dbn,
    multiplets,
    pairs_from_contact_map,
    pairs_from_dot_bracket,
    pairs_from_wuss,
    valid_pairs,
)


def array(*pairs):
    return np.array(pairs, np.int64).reshape(-1, 2)


@st.composite
def matchings(draw, max_length=60, max_pairs=30):
    """Any pairs in which no base has two partners, and a length: mostly with many crossings."""
    length = draw(st.integers(1, max_length))
    order = draw(st.permutations(range(length)))
    count = draw(st.integers(0, min(max_pairs, length // 2)))
    ends = np.sort(np.array(order[: 2 * count], np.int64).reshape(-1, 2), axis=1)
    return ends[np.argsort(ends[:, 0])], length


class TestDotBracket:
    @given(matchings())
    def test_identity_with_any_crossings(self, drawn):
        pairs, length = drawn  # at most 30 pairs fit into 30 kinds, however they cross
        text = dot_bracket(pairs, length)
        assert len(text) == length
        np.testing.assert_array_equal(pairs_from_dot_bracket(text), pairs)

    @pytest.mark.parametrize(
        ("text", "pairs"),
        [
            ("", []),
            ("....", []),
            ("((..))", [(0, 5), (1, 4)]),
            ("([)]", [(0, 2), (1, 3)]),
            ("({<[)}>]", [(0, 4), (1, 5), (2, 6), (3, 7)]),
            ("AB.ab", [(0, 3), (1, 4)]),
            ("AAaa", [(0, 3), (1, 2)]),
            ("(:-_.)", [(0, 5)]),
        ],
    )
    def test_reading(self, text, pairs):
        read = pairs_from_dot_bracket(text)
        assert read.dtype == np.int64
        assert read.shape == (len(pairs), 2)
        assert read.tolist() == [list(pair) for pair in pairs]

    def test_the_kind_of_bracket_says_nothing(self):
        one, other = "((<<))..>>", "[[{{]]..}}"  # as sinc-lab and as kirigami write the same RNA
        np.testing.assert_array_equal(pairs_from_dot_bracket(one), pairs_from_dot_bracket(other))

    @pytest.mark.parametrize(
        ("pairs", "length", "text"),
        [
            ([(0, 8), (1, 7), (4, 11)], 12, "((..[..))..]"),  # the larger stem is page 1
            ([(0, 5), (3, 11), (4, 10)], 12, "[..((]....))"),
            # Two stems of two together outweigh the stem of three that crosses both.
            (
                [(0, 8), (1, 7), (3, 18), (4, 17), (5, 16), (11, 21), (12, 20)],
                22,
                "((.[[[.))..((...]]].))",
            ),
            ([(0, 3), (1, 4), (2, 5)], 6, "{[(}])"),
        ],
    )
    def test_pages(self, pairs, length, text):
        assert dot_bracket(array(*pairs), length) == text

    @pytest.mark.parametrize(
        ("text", "match"),
        [
            ("(.)).", r"structure sign \('\)' at position 4\): closes nothing; give it a '\('"),
            ("([.)", r"structure sign \('\[' at position 2\): is never closed; give it a '\]'"),
            ("a..A", r"structure sign \('a' at position 1\): closes nothing; give it a 'A'"),
            ("(.,)", r"structure sign \(',' at position 3\): has no meaning here; use brackets"),
            ("(|.)", r"structure sign \('\|' at position 2\): has no meaning"),
        ],
    )
    def test_wrong_text(self, text, match):
        with pytest.raises(StructureError, match="^" + match):
            pairs_from_dot_bracket(text)
        with pytest.raises(StructureError, match="^x.dbn:3: " + match):
            pairs_from_dot_bracket(text, "x.dbn:3")

    def test_more_pages_than_brackets(self):
        count = len(BRACKETS)
        ends = np.stack([np.arange(count + 1), np.arange(count + 1, 2 * count + 2)], axis=1)
        assert "z" in dot_bracket(ends[:-1], 2 * count + 2).lower()
        match = r"structure \(31 pairs\): crosses so often that 30 kinds of brackets do not suffice"
        with pytest.raises(StructureError, match=match):
            dot_bracket(ends, 2 * count + 2)


class TestWuss:
    def test_kinds_are_nested_in_each_other(self):
        text = "::((((,,<<<_--__>>>,<<.~__>>))))"
        pairs = pairs_from_wuss(text)
        as_brackets = text.translate(str.maketrans("<>[]{},_:-~", "()()()....."))
        np.testing.assert_array_equal(pairs, pairs_from_dot_bracket(as_brackets))
        assert len(pairs) == 9

    def test_pseudoknot_letters(self):
        assert pairs_from_wuss("<<AA__>>,aa").tolist() == [[0, 7], [1, 6], [2, 10], [3, 9]]

    def test_unmatched(self):
        with pytest.raises(StructureError, match=r"^f.sto:7: structure sign \('>' at position 1\)"):
            pairs_from_wuss(">_<", "f.sto:7")


class TestContactMap:
    @given(matchings())
    def test_identity(self, drawn):
        pairs, length = drawn
        contacts = contact_map(pairs, length)
        assert contacts.shape == (length, length)
        assert contacts.dtype == bool
        assert contacts.sum() == 2 * len(pairs)
        np.testing.assert_array_equal(pairs_from_contact_map(contacts), pairs)

    def test_holds_multiplets(self):
        pairs = array((0, 4), (0, 5), (4, 5))
        np.testing.assert_array_equal(pairs_from_contact_map(contact_map(pairs, 6)), pairs)

    def test_wrong_maps(self):
        contacts = np.zeros((3, 3), np.bool_)
        contacts[0, 2] = True
        with pytest.raises(StructureError, match=r"contact map \(3, 3\): must be square and symm"):
            pairs_from_contact_map(contacts)
        with pytest.raises(StructureError, match=r"contact map \(2, 3\): must be square"):
            pairs_from_contact_map(contacts[:2])
        with pytest.raises(StructureError, match="contact map: base 2 pairs with itself; clear"):
            pairs_from_contact_map(np.diag([False, True, True]))


class TestValidPairs:
    def test_order_and_copies(self):
        given_pairs = [(5, 1), (0, 6), (1, 5), (6, 0)]
        assert valid_pairs(given_pairs, 7).tolist() == [[0, 6], [1, 5]]
        assert valid_pairs([(1, 7)], 7, index_base=1).tolist() == [[0, 6]]
        assert valid_pairs([], 0).shape == (0, 2)

    @pytest.mark.parametrize(
        ("pairs", "index_base", "match"),
        [
            (
                [(0, 3), (2, 9)],
                0,
                r"f:1: pair \(2, 9\): lies outside of 0 to 8; correct it, or ind",
            ),
            ([(-1, 3)], 0, r"f:1: pair \(-1, 3\): lies outside of 0 to 8"),
            ([(0, 3)], 1, r"f:1: pair \(0, 3\): lies outside of 1 to 9"),
            ([(2, 2)], 1, r"f:1: base 2 \(counted from 1\): pairs with itself; remove"),
            ([(0, 3), (3, 8)], 0, r"f:1: base 4 \(.*\): has several partners \(1, 9\); keep one"),
        ],
    )
    def test_refusals(self, pairs, index_base, match):
        with pytest.raises(StructureError, match="^" + match):
            valid_pairs(pairs, 9, "f:1", index_base=index_base)

    def test_multiplets(self):
        pairs = array((0, 4), (0, 5), (3, 5))
        assert multiplets(pairs).tolist() == [0, 5]
        assert multiplets(array()).tolist() == []
        np.testing.assert_array_equal(valid_pairs(pairs, 6, allow_multiplets=True), pairs)

    @pytest.mark.parametrize("write", [format_ct, format_bpseq, format_dbn])
    def test_formats_hold_no_multiplets(self, write):
        with pytest.raises(StructureError, match=r"base 1 .* several partners \(5, 6\)"):
            write("x", "ACGUAC", array((0, 4), (0, 5)))


class TestFormats:
    SEQUENCE, PAIRS = "GGAACC", array((0, 5), (1, 4))

    def test_ct(self):
        assert format_ct("x y", self.SEQUENCE, self.PAIRS) == (
            "6 x y\n1 G 0 2 6 1\n2 G 1 3 5 2\n3 A 2 4 0 3\n4 A 3 5 0 4\n5 C 4 6 2 5\n6 C 5 0 1 6\n"
        )

    def test_bpseq(self):
        assert format_bpseq("x", self.SEQUENCE, self.PAIRS) == (
            "#Name: x\n1 G 6\n2 G 5\n3 A 0\n4 A 0\n5 C 2\n6 C 1\n"
        )

    def test_dbn(self):
        assert format_dbn("x", self.SEQUENCE, self.PAIRS) == ">x\nGGAACC\n((..))\n"
