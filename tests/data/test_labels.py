"""Cells of tables as labels: what is read, how it is aligned, and what is refused."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.labels import LabelSpec, describe_labels, encode_labels

NAN = float("nan")
MISSING = ["", "  ", "nan", "NaN", "NA", None, NAN, np.float32("nan")]
LOOPS = ("S", "H", "B")


def encode(cells, spec, lengths=None, **options):
    """Labels of rows that stand in lines 2, 3, ... of a table."""
    places = [f"t.csv:{line}" for line in range(2, len(cells) + 2)]
    lengths = [4] * len(cells) if lengths is None else lengths
    return encode_labels(cells, spec, lengths, places, **options)


def one(cell, spec, length=4, **options):
    """The label of a single cell."""
    (label,) = encode([[cell]], spec, [length], **options)
    return label


def refused(match, cells, spec, lengths=None, **options):
    with pytest.raises(ValueError, match=match):
        encode(cells, spec, lengths, **options)


def sequence(kind, num_outputs=1, names=()):
    return LabelSpec(kind, "sequence", num_outputs, names)


def token(kind, num_outputs=1, names=()):
    return LabelSpec(kind, "token", num_outputs, names)


def same(label, expected, dtype=np.float32):
    assert label.dtype == dtype
    np.testing.assert_array_equal(label, np.array(expected, dtype), strict=True)


class TestSpec:
    def test_names(self):
        assert sequence("class", 2, ["a", "b"]).output_names == ("a", "b")
        assert sequence("value", 3).output_names == ("0", "1", "2")
        assert sequence("flag", 1, ("off", "on")).output_names == ("on",)
        assert sequence("flag", 1, ("bound",)).output_names == ("bound",)

    def test_refusals(self):
        match = r"^names \(a, b\): are 2 for 3 outputs; name each, or none"
        with pytest.raises(ValueError, match=match):
            sequence("class", 3, ("a", "b"))
        with pytest.raises(ValueError, match=r"names \(a, b\): are 2 for 1 outputs"):
            sequence("value", 1, ("a", "b"))
        with pytest.raises(ValueError, match=r"^names \(a\): appear twice; rename one"):
            sequence("class", 3, ("a", "b", "a"))


class TestSequenceValues:
    @pytest.mark.parametrize("cell", ["0.5", " 0.5 ", 0.5, np.float32(0.5), "5e-1"])
    def test_numbers(self, cell):
        same(one(cell, sequence("value")), [0.5])

    @pytest.mark.parametrize("cell", MISSING)
    def test_missing(self, cell):
        same(one(cell, sequence("value")), [NAN])
        same(one(cell, sequence("value", 2)), [NAN, NAN])

    def test_several_columns(self):
        first, second = encode([["1", ""], [2, "-3"]], sequence("value", 2))
        same(first, [1, NAN])
        same(second, [2, -3])

    @pytest.mark.parametrize("cell", [[1, None, 3], "[1, null, 3]", "1 nan 3", "1,,3", "1;NA ; 3"])
    def test_a_list_in_one_column(self, cell):
        same(one(cell, sequence("value", 3)), [1, NAN, 3])

    def test_chosen_outputs(self):
        same(one([1, 2, 3], sequence("value", 2), outputs=[2, 0]), [3, 1])
        same(one("[1, 2, 3]", sequence("value", 1), outputs=[1]), [2])

    def test_every_row_is_read(self):
        cells = [[0.5]] * 999 + [["high"]]
        refused(
            r"^t\.csv:1001: column 'mrl': 'high' is no number; for classes use Multiclass, for yes "
            r"and no Binary; leave it empty if it is missing$",
            cells,
            sequence("value"),
            columns=["mrl"],
        )

    def test_the_column_of_the_error(self):
        refused(
            r"^t\.csv:2: column 'b': 'x' is no number",
            [["1", "x"]],
            sequence("value", 2),
            columns=["a", "b"],
        )
        refused("column 'label 2'", [["1", "x"]], sequence("value", 2))

    @pytest.mark.parametrize("cell", ["inf", "-Infinity", float("inf"), "1e39", 10**40])
    def test_infinite(self, cell):
        refused("is infinite or too large; correct it, or leave", [[cell]], sequence("value"))

    def test_hints(self):
        value = sequence("value")
        refused("'0,5' is no number; write the decimal point as a point", [["0,5"]], value)
        for cell in ("[1, 2]", [1, 2]):
            refused("is no number; labels of nucleotides need TokenPrediction", [[cell]], value)
        refused(r"'x{36}\.\.\. is no number", [["x" * 50]], value)

    def test_lists_of_another_width(self):
        spec = sequence("value", 3)
        refused(
            "lists of 2 numbers for 3 outputs; set num_outputs to 2, or choose some of them with",
            [["[1, 2]"]],
            spec,
        )
        refused("0.5 is a single value, not a list; name a column with lists, or", [[0.5]], spec)
        refused("is a list of lists; labels per nucleotide need Token", [["[[1, 2, 3]]"]], spec)
        for outputs in ([0, 1, 3], [-1, 0, 1]):
            refused(
                r"has lists of 3 numbers, and outputs \(.*\) goes beyond; count outputs from 0",
                [[[1, 2, 3]]],
                spec,
                outputs=outputs,
            )

    def test_columns(self):
        refused(
            r"^columns \(a, b, c\): are 3 for a task of 2 outputs; set num_outputs to 3, or name",
            [[1, 2, 3]],
            sequence("value", 2),
            columns=["a", "b", "c"],
        )
        refused(
            r"^outputs \(\[0\]\): choose among the numbers of lists in a single column; leave",
            [[1, 2]],
            sequence("value", 2),
            outputs=[0],
        )
        refused(
            r"^outputs \(\[0, 2\]\): are 2 for a task of 1; set num_outputs to 2",
            [[[1, 2, 3]]],
            sequence("value"),
            outputs=[0, 2],
        )

    def test_pairs(self):
        refused(
            r"^columns \(x\): base pairs are not read from columns of labels; use StructureDataMod",
            [["(.)"]],
            LabelSpec("pairs", "pairs", 1),
            columns=["x"],
        )

    def test_no_rows(self):
        assert encode([], sequence("value")) == []


class TestSequenceClasses:
    NAMED = sequence("class", 3, ("tRNA", "5S rRNA", "NA"))

    @pytest.mark.parametrize(
        ("cell", "number"),
        [("tRNA", 0), (" 5S rRNA", 1), ("1", 1), (2, 2), (1.0, 1), (np.int64(2), 2), ("NA", 2)],
    )
    def test_names_and_numbers(self, cell, number):
        same(one(cell, self.NAMED), number, np.int64)

    @pytest.mark.parametrize("cell", [*MISSING[:4], None, NAN, -100, "-100"])
    def test_missing(self, cell):
        same(one(cell, self.NAMED), -100, np.int64)

    def test_without_names(self):
        labels = encode([["0"], [2], [1.0], ["NA"]], sequence("class", 3))
        assert [int(label) for label in labels] == [0, 2, 1, -100]

    def test_names_that_are_numbers(self):
        spec = sequence("class", 2, ("1", "2"))
        assert [int(label) for label in encode([["1"], [2], [2.0]], spec)] == [0, 1, 1]
        refused("'0' is not among the classes 1, 2; correct it", [[0]], spec)

    def test_unknown_classes_can_be_pasted(self):
        cells = [["tRNA"], [""], ["snoRNA"], ['a "b": c'], ["tRNA"]]
        refused(
            r"^t\.csv:4: column 'kind': 'snoRNA' is not among the classes tRNA, 5S rRNA, NA; "
            r"correct it, or name all classes that the column has, names: "
            + re.escape(json.dumps(['a "b": c', "snoRNA", "tRNA"]))
            + "$",
            cells,
            self.NAMED,
            columns=["kind"],
        )

    def test_text_where_numbers_are_asked_for(self):
        refused(
            r"'tRNA' is no class from 0 to 1, and classes have no names; .* names: \[\"tRNA\"\]$",
            [["tRNA"]],
            sequence("class", 2),
        )

    def test_out_of_range(self):
        cells = [[number] for number in (1, 2, 10, 3)]
        refused(
            r"^t\.csv:4: .* '10' is no class from 0 to 9, .* \[\"1\", \"2\", \"3\", \"10\"\]$",
            cells,
            sequence("class", 10),
        )
        refused("'-1' is no class from 0 to 9", [["-1"]], sequence("class", 10))
        refused("'0.5' is no class", [[0.5]], sequence("class", 10))

    def test_a_column_of_something_else(self):
        refused(
            r"'0\.5' is no class .*; the column has 300 different values, is it the right one\? "
            "Numbers need Regression, labels of nucleotides TokenPrediction$",
            [[f"{i}.5"] for i in range(300)],
            sequence("class", 10),
        )
        refused(
            r"'S{36}\.\.\. is not among .*; the column has 1 different values",
            [["S" * 90]],
            self.NAMED,
        )

    def test_a_long_list_of_known_classes(self):
        names = tuple(f"c{i}" for i in range(30))
        refused(r"classes c0, .*, c19, \.\.\.; correct", [["x"]], sequence("class", 30, names))

    def test_columns(self):
        refused(
            r"^columns \(a, b\): classes are in a single column; name one, or use Multilabel",
            [[0, 1]],
            sequence("class", 2),
            columns=["a", "b"],
        )
        refused(r"^outputs \(\[0\]\): choose", [[0]], sequence("class", 2), outputs=[0])


class TestSequenceFlags:
    @pytest.mark.parametrize(
        ("cell", "value"),
        [
            *[(cell, 1) for cell in (1, 1.0, True, "1", "1.0", "true", "Yes", " TRUE", np.True_)],
            *[(cell, 0) for cell in (0, 0.0, False, "0", "0.0", "False", "no", np.int8(0))],
            *[(cell, NAN) for cell in MISSING],
        ],
    )
    def test_flags(self, cell, value):
        same(one(cell, sequence("flag")), [value])
        same(one(cell, sequence("flag", 1, ("negative", "positive"))), [value])

    def test_two_names(self):
        spec = sequence("flag", 1, ("negative", "positive"))
        labels = encode([["positive"], ["negative"], ["yes"], [None]], spec)
        same(np.concatenate(labels), [1, 0, 1, NAN])
        same(one("yes", sequence("flag", 1, ("yes", "no"))), [0])

    @pytest.mark.parametrize("cell", ["2", 0.5, "positiv", -1, "inf"])
    def test_neither(self, cell):
        match = r"^t\.csv:2: .* is neither 0 nor 1 \(nor true, false, yes, no\); for classes use Mu"
        refused(match, [[cell]], sequence("flag"))
        refused("is neither 0 nor 1", [[cell]], sequence("flag", 1, ("negative", "positive")))

    def test_several_columns(self):
        spec = sequence("flag", 2, ("nucleus", "cytosol"))
        first, second = encode([["1", "no"], [True, ""]], spec, columns=["nucleus", "cytosol"])
        same(first, [1, 0])
        same(second, [1, NAN])

    @pytest.mark.parametrize(
        ("cell", "value"),
        [
            ("c;a", [1, 0, 1]),
            (" b ; ", [0, 1, 0]),
            ("a", [1, 0, 0]),
            (["b", "c"], [0, 1, 1]),
            ('["b"]', [0, 1, 0]),
            ("['a', 'c']", [1, 0, 1]),
            ([], [0, 0, 0]),
            ("[]", [0, 0, 0]),
            ("", [NAN, NAN, NAN]),
            (None, [NAN, NAN, NAN]),
            ([0, 1, None], [0, 1, NAN]),
            ("0;1;1", [0, 1, 1]),
            ("[true, false, true]", [1, 0, 1]),
        ],
    )
    def test_names_in_one_column(self, cell, value):
        same(one(cell, sequence("flag", 3, ("a", "b", "c"))), value)

    def test_lists_without_names(self):
        same(one("[1, 0, null]", sequence("flag", 3)), [1, 0, NAN])
        refused("'2' is neither", [["1 0 2"]], sequence("flag", 3))

    def test_unknown_names(self):
        spec = sequence("flag", 3, ("a", "b", "c"))
        refused(
            r"^t\.csv:3: .* 'd' is not among the classes a, b, c; .* names: \[\"a\", \"d\"\]$",
            [["a"], ["a;d"]],
            spec,
        )
        refused("lists of 2 numbers for 3 outputs", [["0;1"]], spec)


class TestTokenValues:
    @pytest.mark.parametrize(
        "cell",
        [
            [0.5, None, 2, -1],
            (0.5, NAN, 2, -1),
            np.array([0.5, NAN, 2, -1]),
            "[0.5, null, 2, -1]",
            "[0.5, NaN, 2, -1]",
            "[0.5, None, 2, -1]",
            "[0.5 nan 2. -1.]",
            "0.5 nan 2 -1",
            "0.5,,2,-1",
            " 0.5; NA ;2 ;-1 ",
            "0.5\tnan\t2\n-1",
            ["0.5", "", "2", "-1"],
        ],
    )
    def test_lists(self, cell):
        same(one(cell, token("value")), [[0.5], [NAN], [2], [-1]])

    @pytest.mark.parametrize("cell", MISSING)
    def test_missing(self, cell):
        same(one(cell, token("value", 2)), np.full((4, 2), NAN))

    def test_lists_of_lists(self):
        nested = [[1, 2], [3, None], None, [5, 6]]
        expected = [[1, 2], [3, NAN], [NAN, NAN], [5, 6]]
        for cell in (nested, json.dumps(nested), str(nested), np.array(expected)):
            same(one(cell, token("value", 2)), expected)
            same(one(cell, token("value", 1), outputs=[1]), np.array(expected)[:, 1:])

    def test_several_columns(self):
        (label,) = encode([["1 2 3", [4, None, 6]]], token("value", 2), [3])
        same(label, [[1, 4], [2, NAN], [3, 6]])

    def test_another_length(self):
        spec = token("value")
        refused(
            r"^t\.csv:3: column 'r': 3 labels for a sequence of 4 nucleotides; give one for each "
            r"of the nucleotides, null where it is missing, or set label_length to prefix if these",
            [[[1, 2, 3, 4]], [[1, 2, 3]]],
            spec,
            columns=["r"],
        )
        refused("5 labels for a sequence of 4 nucleotides; [^p]*$", [["1 2 3 4 5"]], spec)
        refused("1 labels for .* 4 .*, or use SequencePrediction for labels of s", [["0.5"]], spec)
        refused("0 labels for a sequence of 4", [["[]"]], spec)
        refused("1,000 labels for a sequence of 2,000", [["[" + "1," * 999 + "1]"]], spec, [2000])

    def test_codons(self):
        same(one("1 2", token("value"), 2, letters_per_token=3), [[1], [2]])
        refused(
            "6 labels for a sequence of 2 codons; give one for each of the codons, null .*; these "
            "seem to be labels of nucleotides$",
            [["1 2 3 4 5 6"]],
            token("value"),
            [2],
            letters_per_token=3,
        )

    def test_prefix(self):
        same(one("1 2", token("value"), prefix=True), [[1], [2], [NAN], [NAN]])
        same(one([[1, 2]], token("value", 2), 2, prefix=True), [[1, 2], [NAN, NAN]])
        same(one([], token("value", 2), 2, prefix=True), [[NAN, NAN], [NAN, NAN]])
        same(one("SH", token("class", 3, LOOPS), prefix=True), [0, 1, -100, -100], np.int64)
        refused("5 labels for a sequence of 4", [["1 2 3 4 5"]], token("value"), prefix=True)
        (label,) = encode([["1", "2 3"]], token("value", 2), [2], prefix=True)
        same(label, [[1, 2], [NAN, 3]])

    def test_widths(self):
        spec = token("value", 3)
        refused("lists of 2 numbers for 3 outputs; set num_outputs to 2", [[[[1, 2]] * 4]], spec)
        refused(
            "has a single number for each token, but 3 outputs are asked for; write a list",
            [["1 2 3 4"]],
            spec,
        )
        refused(
            r"item 3 \(\[5\]\) is no list of 2 as others are; give every token the same number",
            [["[[1, 2], [3, 4], [5], [6, 7]]"]],
            token("value", 2),
        )
        refused(r"item 1 \(7\) is no list of 2", [[[7, [1, 2]]]], token("value", 2), [2])
        refused(r"goes beyond; count", [[[[1, 2]] * 4]], token("value"), outputs=[2])

    def test_no_numbers(self):
        spec = token("value")
        refused("'x' is no number; for classes use Multiclass", [["1 2 x 4"]], spec)
        refused("inf is infinite or too large", [[[1, 2, float("inf"), 4]]], spec)
        refused("'inf' is infinite or too large", [["1 2 3 inf"]], spec)
        refused("'1e99' is infinite", [[[["1e99", "1"]] * 4]], token("value", 2))
        refused(r"'\.\.\.' is no number", [["[1 2 ... 4]"]], spec)
        refused("0.5 is a single value, not a list; name a column with lists", [[0.5]], spec)
        for cell in ("[[1, 2], [3", "[1, 2"):
            refused(r"is no list; write it as JSON, such as \[\[0\.1, 2\]", [[cell]], spec)
        refused(r"\[1\] is no number; labels of nucl", [[[[[1]]] * 4]], spec)


class TestTokenClasses:
    NAMED = token("class", 3, LOOPS)

    @pytest.mark.parametrize(
        "cell",
        [
            *("SHHB", "S H H B", "S,H,H,B", '["S", "H", "H", "B"]', "['S', 'H', 'H', 'B']"),
            *("0112", "0 1 1 2", "[0, 1, 1, 2]"),
            *(["S", "H", "H", "B"], [0, 1, 1, 2], np.array([0, 1, 1, 2])),
        ],
    )
    def test_letters_and_lists(self, cell):
        same(one(cell, self.NAMED), [0, 1, 1, 2], np.int64)

    def test_missing(self):
        same(one(["S", None, "", -100], self.NAMED), [0, -100, -100, -100], np.int64)
        same(one("S;;H;B", self.NAMED), [0, -100, 1, 2], np.int64)
        for cell in MISSING:
            same(one(cell, self.NAMED), [-100] * 4, np.int64)

    def test_letters_that_look_missing(self):
        spec = token("class", 2, ("N", "A"))
        same(one("NA", spec, 2), [0, 1], np.int64)
        same(one("NA", spec, 3), [-100] * 3, np.int64)
        same(one("nan", token("class", 2, ("n", "a")), 3), [0, 1, 0], np.int64)

    def test_without_names(self):
        same(one("0120", token("class", 3)), [0, 1, 2, 0], np.int64)
        same(one("0 11 2 10", token("class", 12)), [0, 11, 2, 10], np.int64)

    def test_long_names(self):
        spec = token("class", 2, ("stem", "loop"))
        same(one("stem loop loop stem", spec), [0, 1, 1, 0], np.int64)
        same(one('["stem", null]', spec, 2), [0, -100], np.int64)
        same(one("loop", spec, 1), [1], np.int64)

    def test_names_that_look_like_separators_or_lists(self):
        brackets = token("class", 6, (".", "(", ")", "[", "]", ","))
        same(one("[(.)],", brackets, 6), [3, 1, 0, 2, 4, 5], np.int64)
        same(one("..[.", brackets), [0, 0, 3, 0], np.int64)

    def test_another_length(self):
        refused(r"^t\.csv:2: .* 5 labels for a sequence of 4 nucleotides", [["SHHBB"]], self.NAMED)

    def test_unknown(self):
        refused(
            r"^t\.csv:3: column 'label 1': 'X' is not among the classes S, H, B; correct it, or "
            r"name all .* names: \[\"H\", \"S\", \"X\", \"Y\"\]$",
            [["SSSS"], ["SHHX"], ["YYYY"], [7]],
            self.NAMED,
        )
        refused(
            r"'3' is no class from 0 to 2, .* names: \[\"0\", \"3\"\]",
            [["0003"]],
            token("class", 3),
        )


class TestTokenFlags:
    @pytest.mark.parametrize("cell", ["0110", [0, 1, 1, 0], "0 1 1 0", [False, True, "yes", "no"]])
    def test_flags(self, cell):
        same(one(cell, token("flag")), [[0], [1], [1], [0]])

    def test_two_names(self):
        spec = token("flag", 1, ("U", "P"))
        same(one("UPPU", spec), [[0], [1], [1], [0]])
        same(one(["P", None, 0, "U"], spec), [[1], [NAN], [0], [0]])
        same(one("paired free", token("flag", 1, ("free", "paired")), 2), [[1], [0]])

    def test_several_outputs(self):
        spec = token("flag", 2, ("m6A", "m5C"))
        same(one([[0, 1], [1, None]], spec, 2), [[0, 1], [1, NAN]])
        (label,) = encode([["01", "1 nan"]], spec, [2])
        same(label, [[0, 1], [1, NAN]])

    def test_neither(self):
        refused("'2' is neither 0 nor 1", [["0120"]], token("flag"))
        refused("3 labels for a sequence of 4", [["011"]], token("flag"))


@given(
    st.lists(st.lists(st.one_of(st.none(), st.floats(width=32, allow_infinity=False)), min_size=1)),
    st.sampled_from(["list", "json", "blanks", "commas"]),
)
def test_numbers_are_read_as_they_were_written(rows, form):
    write = {
        "list": lambda row: row,
        "json": json.dumps,
        "blanks": lambda row: " ".join("nan" if cell is None else repr(cell) for cell in row),
        "commas": lambda row: ",".join("" if cell is None else repr(cell) for cell in row),
    }[form]
    rows = [row for row in rows if form == "list" or row != [None]]  # an empty cell
    labels = encode([[write(row)] for row in rows], token("value"), [len(row) for row in rows])
    for row, label in zip(rows, labels, strict=True):
        same(label, [[NAN if cell is None else cell] for cell in row])


class TestDescription:
    def test_values(self):
        labels = encode([[1, ""], [3, 5]], sequence("value", 2))
        assert describe_labels(labels, sequence("value", 2, ("mrl", "half_life"))) == [
            "mrl: 2 values, mean 2, sd 1, from 1 to 3, 0 missing",
            "half_life: 1 values, mean 5, sd 0, from 5 to 5, 1 missing",
        ]

    def test_values_of_tokens(self):
        labels = encode([["1 nan"], ["1 1 5 1"]], token("value"), [2, 4])
        assert describe_labels(labels, token("value")) == [
            "0: 5 values, mean 1.8, sd 1.6, from 1 to 5, 1 missing"
        ]
        labels = encode([[""]], token("value"))
        assert describe_labels(labels, token("value")) == ["0: 4 missing"]

    def test_classes(self):
        spec = token("class", 3, LOOPS)
        labels = encode([["SSSH"], ["S"]], spec, prefix=True)
        assert describe_labels(labels, spec) == [
            "S: 4 (80.0%)",
            "H: 1 (20.0%)",
            "B: 0 (0.0%)",
            "1 classes without a label: B",
            "missing: 3",
        ]

    def test_many_classes(self):
        spec = sequence("class", 30)
        labels = encode([[i % 29] for i in range(100)] + [[7]] * 5, spec)
        lines = describe_labels(labels, spec)
        assert len(lines) == 23
        assert "7: 9 (8.6%)" in lines
        assert lines[-3:] == [
            "10 rarer classes: 27",
            "1 classes without a label: 29",
            "missing: 0",
        ]

    def test_flags(self):
        spec = sequence("flag", 1, ("negative", "positive"))
        labels = encode([["positive"], ["negative"], ["negative"], [""]], spec)
        assert describe_labels(labels, spec) == ["positive: 1 of 3 are 1 (33.3%), 1 missing"]

    def test_pairs(self):
        pairs = [np.array([[0, 4], [1, 3]]), np.empty((0, 2), np.int64)]
        assert describe_labels(pairs, LabelSpec("pairs", "pairs", 1)) == [
            "2 base pairs, 1 of 2 sequences have none"
        ]

    def test_nothing(self):
        assert describe_labels([], sequence("value")) == ["no labels"]
