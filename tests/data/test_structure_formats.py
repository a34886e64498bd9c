"""Dot-bracket, CT and BPSEQ: round trips, the pitfalls of each, what is refused."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structure_texts import read_text, refuse_text

from rnafm.data.structure import format_bpseq, format_ct, format_dbn
from rnafm.data.structure_files import read_structures


@pytest.fixture
def read(tmp_path):
    return partial(read_text, tmp_path)


@pytest.fixture
def refuse(tmp_path):
    return partial(refuse_text, tmp_path)


@st.composite
def structures(draw):
    count = draw(st.integers(1, 3))
    records = []
    for number in range(count):
        sequence = draw(st.text("ACGUN", min_size=1, max_size=40))
        order = draw(st.permutations(range(len(sequence))))
        num_pairs = draw(st.integers(0, len(sequence) // 2))
        pairs = sorted(sorted(order[2 * k : 2 * k + 2]) for k in range(num_pairs))
        records.append((f"rna{number}", sequence, np.array(pairs, np.int64).reshape(-1, 2)))
    return records


@pytest.mark.parametrize(
    ("suffix", "write"), [("dbn", format_dbn), ("ct", format_ct), ("bpseq", format_bpseq)]
)
@given(written=structures())
def test_identity_with_any_crossings(tmp_path_factory, suffix, write, written):
    path = tmp_path_factory.getbasetemp() / f"identity.{suffix}"
    path.write_text("".join(write(*record) for record in written))
    records, dropped = read_structures(path)
    assert not dropped
    assert [record[:2] for record in records] == [record[:2] for record in written]
    for record, (_, _, pairs) in zip(records, written, strict=True):
        np.testing.assert_array_equal(record.pairs, pairs)
        assert record.pairs.dtype == np.int64
        assert record.columns == {}


class TestDotBracket:
    def test_vienna(self, read, tmp_path):
        text = (
            ">one family=tRNA a word\nggaT\nACC\n((...)) (-12.30)\n\n>two\nACGU\n....\t-1.5\n"
            ">three\nGGACC\n((.)) ( 0.00)\n"
        )
        one, two, three = read("x.fa", text)
        assert one.name == "one"
        assert one.sequence == "GGAUACC"
        assert one.pairs.tolist() == [[0, 6], [1, 5]]
        assert one.place == f"{tmp_path}/x.fa:1"
        assert one.columns == {"family": "tRNA", "description": "a word", "energy": "-12.30"}
        assert (two.place, two.columns) == (f"{tmp_path}/x.fa:6", {"energy": "-1.5"})
        assert two.pairs.shape == (0, 2)
        assert three.columns == {"energy": "0.00"}

    def test_bprna(self, read):
        text = (
            "#Name: bpRNA_CRW_1\n#Length: 5\n#PageNumber: 1\nGGACC\n((.))\n"
            "#Name: bpRNA_CRW_2\n#Length: 4\nACGU\n(..)\n"
        )
        records = read("x.dbn.gz", text)
        assert [record.name for record in records] == ["bpRNA_CRW_1", "bpRNA_CRW_2"]
        assert [record.sequence for record in records] == ["GGACC", "ACGU"]

    def test_without_names(self, read):
        records = read("hp.dot", "\ufeff".encode() + b"GGACC\r\n((.))\r\nACGU\r\n(..)\r\n")
        assert [record.name for record in records] == ["hp", "hp_2"]
        assert [record.place[-1] for record in records] == ["1", "3"]

    @pytest.mark.parametrize(
        ("text", "line", "match", "reason"),
        [
            ("GGACC\n((..))", 3, "the structure has 6 signs, the sequence 5 letters", "length"),
            ("GGA\nACC\n((.\n.))", 5, "is a second line after the sequence of 'a'", "several str"),
            ("GGACC", 1, "'a' has no structure; is this a FASTA file of seq", "no structure"),
            ("", 1, "the sequence is empty; remove", "no sequence"),
            ("GG-CC\n((.))", 2, r"sequence sign \('-' at position 3\): is no letter", "no letter"),
            ("GGA&CC\n((..))", 2, r"sequence sign \('&' at .*each strand its own", "no letter"),
            ("G.ACC\n(...)", 2, r"sequence sign \('\.' at position 2\)", "no letter"),
            ("GGACC\n((.).", 3, r"structure sign \('\(' at position 1\): is never", "unmatched br"),
            ("GGACC\n,{.},", 3, r"structure sign \(',' at position 1\): has no m", "unknown sign"),
        ],
    )
    def test_refusals(self, refuse, text, line, match, reason):
        reasons = ("several structures", "unmatched bracket")
        reason = next((full for full in reasons if full.startswith(reason)), reason)
        records = refuse("x.dbn", f">a\n{text}\n>b\nACGU\n(..)\n", line, match, reason)
        assert [record.name for record in records] == ["b"]


class TestCt:
    def test_several_structures_with_energies(self, read):
        text = (
            "# made by hand\n  3\tENERGY = -12.3  tRNA-Phe E. coli\n1 g 0 2 3 1\n2\tT\t1\t3\t0\t2\n"
            "3 N 2 0 1 3\n\n2 dG = 0.1 kcal/mol\n1 A 0 2 0\n2 C 1 0 0\n"
            "2\n1 A 2 2 0 1\n2 C 1 1 0 2\n"
        )
        one, two, circular = read("x.ct", text)
        assert one[:2] == ("tRNA-Phe", "GUN")
        assert one.pairs.tolist() == [[0, 2]]
        assert one.place.endswith("x.ct:2")
        assert one.columns == {"energy": "-12.3", "description": "E. coli"}
        assert (two.name, two.sequence, two.columns) == ("x_2", "AC", {"energy": "0.1"})
        assert (circular.name, circular.sequence) == ("x_3", "AC")

    GOOD = "2 good\n1 A 0 2 0 1\n2 C 1 0 0 2\n"

    @pytest.mark.parametrize(
        ("text", "line", "match", "reason"),
        [
            (
                "3 a\n1 A 0 2 3 1\n2 C 1 3 0 2\n3 U 2 0 2 3\n",
                2,
                "base 1 pairs with 3, but base 3 with 2; correct one",
                "conflicting pairs",
            ),
            (
                "2 a\n1 A 0 2 2 1\n2 C 1 0 0 2\n",
                2,
                "base 1 pairs with 2, but base 2 with none",
                "conflicting pairs",
            ),
            ("1 a\n1 A 0 2 5 1\n", 2, r"partner \(5\): lies outside of 1 to 1", "out of range"),
            ("1 a\n1 A 0 2 1 1\n", 2, "base 1: pairs with itself; write 0", "self pair"),
            ("1 a\n1 - 0 2 0 1\n", 1, r"sequence sign \('-' at position 1\)", "no letter"),
            ("3 a\n1 A 0 2 0 1\n", 1, "the header says 3 nucleotides, but 1 lines", "length"),
            ("2 a\n1 A 0 2 0 1\n3 C 1 0 0 2\n", 3, r"index \(3\): 2 is expected; num", "index"),
            ("2 a\n1 A 0 2 0 1\n2 C 1 0\n", 3, r"line \('2 C 1 0'\): is not of the", "bad line"),
            ("File: a.ct\n", 1, r"header \('File: a.ct'\): starts with no length", "bad header"),
        ],
    )
    def test_refusals(self, refuse, text, line, match, reason):
        records = refuse("x.ct", text + self.GOOD, line, match, reason)
        assert [record.name for record in records] == ["good"]


class TestBpseq:
    def test_headers(self, read):
        rows = "1 g 3\n2 T 0\n3 c 1\n"
        crw = "Filename: d.5.b.bpseq\nOrganism: E. coli\nCitation at http://www.rna\n"
        (one,) = read("d.5.bpseq", crw + rows)
        assert (one.name, one.sequence, one.pairs.tolist()) == ("d.5", "GUC", [[0, 2]])
        one, two, three = read(
            "x.bpseq.gz", "# Name: a b\n" + rows + "# other\n" + rows + rows + "# end\n"
        )
        assert [record.name for record in (one, two, three)] == ["a", "x_2", "x_3"]
        assert one.columns == {"description": "b"}
        assert [record.place[-1] for record in (one, two, three)] == ["1", "5", "9"]

    @pytest.mark.parametrize(
        ("text", "line", "match", "reason"),
        [
            ("1 A 3\n2 C 3\n3 U 2\n", 1, "base 1 pairs with 3, but base 3 with 2", "conflicting"),
            ("1 A 2\n2 C 0\n", 1, "base 1 pairs with 2, but base 2 with none", "conflicting"),
            ("1 A 0\n3 C 0\n", 2, r"index \(3\): 2 is expected", "index"),
            ("1 A 0\n2 C 7\n", 2, r"partner \(7\): lies outside of 1 to 2", "out of range"),
            ("1 A 1\n", 1, "base 1: pairs with itself", "self pair"),
            ("1 A -1\n", 1, r"line \('1 A -1'\): is not of the form `index base", "bad line"),
            ("1 A\n", 1, r"line \('1 A'\): is not of the form", "bad line"),
            ("1 A 0\nx C 0\n3 G 0\n", 2, r"line \('x C 0'\): is not of the form", "bad line"),
        ],
    )
    def test_refusals(self, refuse, text, line, match, reason):
        reason = "conflicting pairs" if reason == "conflicting" else reason
        records = refuse("x.bpseq", f"{text}#Name: good\n1 A 0\n", line, match, reason)
        assert [record.name for record in records] == ["good"]
