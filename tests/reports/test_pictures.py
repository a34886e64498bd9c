"""Pictures: what is drawn, and that it is a picture."""

import sys

import matplotlib.image
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection, PolyCollection

from rnafm.reports.bootstrap import Interval
from rnafm.reports.drawing import draw_structure, split_crossing
from rnafm.reports.pictures import arc_diagram, compare_pairs, contact_map, save
from rnafm.reports.plots import (
    calibration,
    confusion_matrix,
    scatter,
    score_by_group,
    score_by_length,
)
from rnafm.reports.report import Group

SEQUENCE = "GGGGAAAACCCCAAGGGAAACCC"
TRUE = np.array([[0, 11], [1, 10], [2, 9], [14, 22]])
FOUND = np.array([[0, 11], [1, 10], [3, 8]])
GROUPS = {
    name: Group(size, {"f1": Interval(value, low, high, size)})
    for name, value, low, high, size in (
        ("tRNA", 0.7, 0.6, 0.8, 50),
        ("16S", 0.9, np.nan, np.nan, 4),
        ("none", np.nan, np.nan, np.nan, 2),
        ("5S", 0.8, 0.75, 0.85, 90),
    )
}


def of_kind(axes, kind):
    return [one for one in axes.collections if isinstance(one, kind)]


def legend_texts(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_pairs_are_compared_in_any_order():
    right, wrong, missed = compare_pairs(FOUND[::-1], TRUE)
    assert right.tolist() == [[0, 11], [1, 10]]
    assert (wrong.tolist(), missed.tolist()) == ([[3, 8]], [[2, 9], [14, 22]])
    assert compare_pairs(FOUND[:0], TRUE)[0].shape == (0, 2)


class TestContactMap:
    PROBABILITIES = np.zeros((23, 23))
    PROBABILITIES[0, 11] = PROBABILITIES[11, 0] = 0.9

    def test_prediction_above_truth_below(self):
        axes = contact_map(self.PROBABILITIES, TRUE, "x (tRNA)").axes[0]
        image = np.asarray(axes.images[0].get_array())
        assert image[0, 11] == 0.9
        assert np.ma.getmaskarray(axes.images[0].get_array())[11, 0] or np.isnan(image[11, 0])
        marks = next(m for m in of_kind(axes, PathCollection) if len(m.get_offsets()))
        np.testing.assert_array_equal(marks.get_offsets(), TRUE + 1)  # x < y: below the diagonal
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("nucleotide", "nucleotide")
        assert axes.get_title() == "x (tRNA)"
        assert axes.get_ylim() == (23.5, 0.5)

    def test_legend(self):
        said = legend_texts(contact_map(self.PROBABILITIES, TRUE))
        assert said == ["predicted, above the diagonal", "true pairs (4), below the diagonal"]

    def test_small_cells_are_enlarged(self):
        probabilities = np.zeros((400, 400))
        probabilities[3, 300], probabilities[4, 299], probabilities[9, 90] = 0.9, 0.3, 0.01
        axes = contact_map(probabilities, TRUE).axes[0]
        marks = [m.get_offsets().tolist() for m in of_kind(axes, PathCollection)]
        assert [[300, 5], [301, 4]] in marks

    def test_without_a_reference_both_halves_are_shown(self):
        image = contact_map(self.PROBABILITIES).axes[0].images[0].get_array()
        assert image[0, 11] == image[11, 0] == 0.9

    def test_more_nucleotides_than_pixels(self):
        probabilities = np.zeros((2500, 2500), np.float32)
        probabilities[7, 1999] = 1
        image = np.asarray(contact_map(probabilities, TRUE).axes[0].images[0].get_array())
        assert image.shape == (834, 834)
        assert image[2, 666] == 1  # the highest of three by three


class TestArcs:
    def test_one_arc_for_each_pair_and_side(self):
        figure = arc_diagram(SEQUENCE, FOUND, TRUE, "hairpins")
        arcs = [
            len(one.get_segments()) * int(np.sign(one.get_segments()[0][30, 1]))
            for one in of_kind(figure.axes[0], LineCollection)
        ]
        assert arcs == [2, -2, 1, -2]  # right above and below, wrong above, missed below
        assert legend_texts(figure) == [
            "predicted and true (2)", "predicted, not true (1)", "true, not predicted (2)",
        ]  # fmt: skip

    def test_feet_stand_on_the_nucleotides(self):
        axes = arc_diagram(SEQUENCE, TRUE).axes[0]
        arcs = of_kind(axes, LineCollection)[0].get_segments()
        np.testing.assert_allclose([sorted(arc[[0, -1], 0]) for arc in arcs], TRUE + 1)

    def test_nested_arcs_do_not_cross(self):
        axes = arc_diagram("N" * 200, np.array([[0, 199], [1, 9], [150, 197]])).axes[0]
        outer, *inner = of_kind(axes, LineCollection)[0].get_segments()
        outer = outer[np.argsort(outer[:, 0])]
        for arc in inner:
            assert (arc[:, 1] <= np.interp(arc[:, 0], outer[:, 0], outer[:, 1]) + 1e-9).all()

    def test_letters_only_where_they_can_be_read(self):
        written = texts(arc_diagram(SEQUENCE, TRUE, TRUE).axes[0])
        assert "".join(written) == SEQUENCE + "predictedtrue"
        assert texts(arc_diagram("A" * 121, TRUE, TRUE).axes[0]) == ["predicted", "true"]

    def test_no_pairs_at_all(self):
        assert legend_texts(arc_diagram("ACGU", FOUND[:0], TRUE[:0]))[0].endswith("(0)")


class TestCrossing:
    def test_the_shorter_stem_goes(self):
        stem, knot = [[0, 20], [1, 19], [2, 18]], [[10, 30], [11, 29]]
        nested, rest = split_crossing(np.array(knot + stem))
        assert (nested.tolist(), rest.tolist()) == (stem, knot)

    def test_a_base_with_two_partners(self):
        nested, rest = split_crossing(np.array([[0, 9], [0, 8]]))
        assert len(nested) == len(rest) == 1
        assert split_crossing(np.zeros((0, 2)))[0].shape == (0, 2)


class TestDrawing:
    def test_colours_by_correctness(self):
        pytest.importorskip("RNA")
        figure = draw_structure(SEQUENCE, FOUND, TRUE, "hairpins")
        axes = figure.axes[0]
        assert legend_texts(figure) == [
            "right pair (4 nt)", "wrong pair (2 nt)", "misses its pair (4 nt)",
            "unpaired in both (13 nt)",
        ]  # fmt: skip
        assert [len(one.get_segments()) for one in of_kind(axes, LineCollection)] == [2, 1, 2]
        assert sum(len(one.get_offsets()) for one in of_kind(axes, PathCollection)) == 23
        assert "".join(texts(axes)[:23]) == SEQUENCE
        assert texts(axes)[23:] == ["5'", "3'", "10", "20"]

    def test_loops(self):
        pytest.importorskip("RNA")
        pairs = np.array(
            [[1, 30], [2, 29], [4, 13], [5, 12], [15, 27], [16, 26], [18, 25], [40, 48]]
        )
        # outside 0, 31-39, 49; multiloop 3, 14, 28; hairpins 6-11, 19-24, 41-47; bulge 17
        figure = draw_structure("A" * 50, pairs)
        assert legend_texts(figure) == [
            "stem (16 nt)", "hairpin (19 nt)", "bulge or internal (1 nt)", "multiloop (3 nt)",
            "external (11 nt)",
        ]  # fmt: skip

    def test_a_pseudoknot_is_curved(self):
        pytest.importorskip("RNA")
        pairs = np.array([[0, 20], [1, 19], [2, 18], [10, 30], [11, 29]])
        lines = of_kind(draw_structure("A" * 40, pairs).axes[0], LineCollection)[0].get_segments()
        assert [len(line) for line in lines] == [2, 2, 2, 30, 30]

    def test_no_letters_of_long_sequences(self):
        pytest.importorskip("RNA")
        axes = draw_structure("ACGU" * 31, TRUE).axes[0]
        assert not set(texts(axes)) & set("ACGU")
        assert {"5'", "3'", "100"} <= set(texts(axes))

    def test_settings_of_the_library_stay(self):
        rna = pytest.importorskip("RNA")
        before = rna.cvar.rna_plot_type
        draw_structure("A", TRUE[:0])
        assert rna.cvar.rna_plot_type == before

    def test_errors(self, monkeypatch):
        pytest.importorskip("RNA")
        with pytest.raises(ValueError, match=r"sequence \(''\): nothing to draw; give at least"):
            draw_structure("", TRUE[:0])
        monkeypatch.setitem(sys.modules, "RNA", None)
        with pytest.raises(ValueError, match=r"needs ViennaRNA, which is not installed: pip inst"):
            draw_structure(SEQUENCE, TRUE)


class TestScores:
    def test_confusion_matrix(self):
        counts = np.array([[8, 2, 0], [0, 199, 1], [0, 0, 0]])
        figure = confusion_matrix(counts, ["5S", "tRNA", "none"], "nRC")
        axes = figure.axes[0]
        assert texts(axes) == ["80", "20", "100", "<1"]
        assert [label.get_text() for label in axes.get_yticklabels()] == [
            "5S (10)", "tRNA (200)", "none (0)",
        ]  # fmt: skip
        np.testing.assert_allclose(axes.images[0].get_array()[0], [0.8, 0.2, 0])
        assert figure.get_suptitle() == "nRC\naccuracy 98.6%, n = 210"

    def test_many_classes_have_no_numbers(self):
        axes = confusion_matrix(np.eye(31, dtype=int), list(map(str, range(31)))).axes[0]
        assert texts(axes) == []

    def test_calibration(self):
        probabilities = np.repeat([0.25, 0.75], 100)
        labels = np.concatenate([np.arange(100) < 25, np.arange(100) < 55]).astype(float)
        labels = np.append(labels, np.nan)
        figure = calibration(np.append(probabilities, 0.5), labels, "flags")
        points = figure.axes[0].lines[1].get_xydata()
        np.testing.assert_allclose(points, [[0.25, 0.25], [0.75, 0.55]])
        assert figure.get_suptitle() == "flags\nECE 0.100, 200 predictions"
        assert [bar.get_height() for bar in figure.axes[1].patches] == [0, 0, 100] + [0] * 4 + [
            100, 0, 0,
        ]  # fmt: skip

    def test_calibration_of_classes(self):
        probabilities = np.array([[0.2, 0.8], [0.2, 0.8], [1.0, 0.0], [0.5, 0.5]])
        figure = calibration(probabilities, np.array([1, 0, 0, -100]))
        np.testing.assert_allclose(figure.axes[0].lines[1].get_xydata(), [[0.8, 0.5], [1, 1]])
        assert figure.get_suptitle().endswith("ECE 0.200, 3 predictions")

    def test_scatter(self):
        measured = np.array([1.0, 2, 3, 4, np.nan])
        figure = scatter(measured, np.array([1.0, 2, 3, 3.5, 9]), "load", "ribosomes", "UTRs")
        axes = figure.axes[0]
        assert figure.get_suptitle() == "UTRs\nSpearman 1.000, R2 0.950, n = 4"
        assert axes.get_xlabel() == "measured load (ribosomes)"
        assert len(of_kind(axes, PathCollection)[0].get_offsets()) == 4
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 1], [4, 4]])

    def test_many_points_are_a_density(self):
        values = np.random.default_rng(0).normal(size=3000)
        axes = scatter(values, values, "load").axes[0]
        assert of_kind(axes, PolyCollection)[0].get_array().sum() == 3000

    def test_a_constant_prediction(self):
        figure = scatter(np.array([1.0, 2, 3]), np.full(3, 2.0), "load")
        assert figure.get_suptitle() == "Spearman -, R2 0.000, n = 3"


class TestBars:
    def test_sorted_with_sizes_and_values(self):
        overall = Interval(0.77, 0.7, 0.8, 146)
        figure = score_by_group(GROUPS, "f1", "test by family", overall=overall)
        axes = figure.axes[0]
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == ["tRNA (n = 50)", "5S (n = 90)", "16S (n = 4)"]  # from below
        assert [bar.get_width() for bar in axes.patches] == [0.7, 0.8, 0.9]
        assert texts(axes) == ["0.700", "0.800", "0.900"]
        lines = of_kind(axes, LineCollection)[0].get_segments()
        np.testing.assert_allclose([line[:, 0] for line in lines], [[0.6, 0.8], [0.75, 0.85]])
        assert legend_texts(figure) == ["all: 0.770 (n = 146)"]

    def test_lengths_keep_their_order(self):
        axes = score_by_length(GROUPS, "f1").axes[0]
        names = [label.get_text().split(" ")[0] for label in axes.get_yticklabels()]
        assert names == ["5S", "none", "16S", "tRNA"]  # the first on top
        assert texts(axes)[1] == "no value"

    def test_the_largest_of_many(self):
        many = {str(i): Group(i, {"f1": Interval(0.5, 0.4, 0.6, i)}) for i in range(50)}
        figure = score_by_group(many, "f1", "by family")
        assert len(figure.axes[0].patches) == 40
        assert figure.get_suptitle() == "by family\n10 smaller groups are not shown"
        assert "9 (n = 9)" not in [one.get_text() for one in figure.axes[0].get_yticklabels()]


@pytest.mark.parametrize(
    "figure",
    [
        contact_map(TestContactMap.PROBABILITIES, TRUE, "a title that is far too long " * 5),
        arc_diagram(SEQUENCE, FOUND, TRUE, "arcs"),
        confusion_matrix(np.eye(13, dtype=int) * 9, ["a long class name"] * 13),
        calibration(np.array([0.1, 0.9]), np.array([0, 1])),
        score_by_group(GROUPS, "f1", "groups"),
    ],
    ids=["contacts", "arcs", "confusion", "calibration", "bars"],
)
def test_saved_as_png_with_everything_inside(figure, tmp_path):
    path = tmp_path / "new" / "picture.png"
    save(figure, path)
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[0] > 300 and pixels.shape[1] > 600
    assert (pixels[[0, -1], :, :3] == 1).all() and (pixels[:, [0, -1], :3] == 1).all()
    assert [one.name for one in path.parent.iterdir()] == ["picture.png"]
