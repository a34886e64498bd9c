"""The pictures that a test leaves: which there are, and what is written on them."""

from types import SimpleNamespace

import numpy as np
import pytest
from batches import RNA

from rnafm.data.labels import LabelSpec
from rnafm.reports import evaluate as module
from rnafm.reports import gallery
from rnafm.reports.evaluate import evaluate
from rnafm.reports.gallery import draw_all, shortened
from rnafm.reports.report import Bootstrap
from rnafm.tasks.contact import Fold
from rnafm.tasks.pair_scores import score_pairs

NUM = 40
LONG = ", ".join(f"/data/some/folder/{i}.csv" for i in range(50))


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch):
    monkeypatch.setattr(module, "Bootstrap", lambda resamples: Bootstrap(resamples // 200))


@pytest.fixture
def drawn(monkeypatch):
    """Figures by file name, instead of slow PNG files."""
    figures = {}
    monkeypatch.setattr(gallery, "save", lambda figure, path: figures.update({path.name: figure}))
    return figures


def texts(figure, *, ticks=False):
    """Everything that stands on a picture, without its line breaks; ticks take time."""
    if ticks:
        figure.draw_without_rendering()
    found = figure.findobj(lambda artist: hasattr(artist, "get_text"))
    return " | ".join(" ".join(each.get_text().split()) for each in found)


def stand_in(spec, labels, **more):
    given = {
        "names": [f"rna{i}" for i in range(NUM)],
        "sequences": ["ACGU" * (4 + i % 9) for i in range(NUM)],
        "columns": {"family": [f"f{i % 3}" for i in range(NUM)]},
        "rows": {"train": np.arange(0), "test": np.arange(NUM)},
        "facts": {},
        "description": f"half_life of {LONG}",
        "vocabulary": RNA,
    }
    return SimpleNamespace(**given | {"spec": spec, "labels": labels, "similarity": {}} | more)


def draw(data, predictions, headline, tmp_path, scores=None):
    report = evaluate(
        data, {row: getattr(p, "pairs", p) for row, p in predictions.items()}, {}, scores
    )
    return [path.name for path in draw_all(tmp_path, data, predictions, report, headline)]


BY_GROUP = ["{}_by_family.png", "{}_by_length.png"]


def grouped(headline):
    return [name.format(headline) for name in BY_GROUP]


def test_classes(tmp_path, drawn):
    rng = np.random.default_rng(0)
    labels = [np.array(i % 3) for i in range(NUM)]
    labels[5] = np.array(-100)
    data = stand_in(LabelSpec("class", "sequence", 3, ("tRNA", "5S", "snRNA")), labels)
    found = {i: rng.dirichlet(np.ones(3)) for i in range(NUM)}
    names = draw(data, found, "accuracy", tmp_path)
    assert names == ["confusion.png", "calibration.png", *grouped("accuracy")] == list(drawn)
    for name, figure in drawn.items():
        said = texts(figure)
        assert "Test: half_life of 0.csv, 1.csv, 2.csv and 47 more" in said, name
        assert "/data" not in said and "49.csv" not in said
    assert "tRNA" in texts(drawn["confusion.png"], ticks=True) and "n = 39" in texts(
        drawn["confusion.png"]
    )
    assert "by family" in texts(drawn["accuracy_by_family.png"])
    assert "f2 (n = " in texts(drawn["accuracy_by_family.png"], ticks=True)
    assert "nt (n = " in texts(drawn["accuracy_by_length.png"], ticks=True)


@pytest.mark.parametrize("level", ["sequence", "token"])
def test_values(level, tmp_path, drawn):
    rng = np.random.default_rng(0)
    lengths = [16 + 4 * (i % 9) for i in range(NUM)]
    shape = (lambda n: (n, 3)) if level == "token" else (lambda _: (3,))
    labels = [rng.normal(size=shape(n)).astype(np.float32) for n in lengths]
    for label in labels:
        label[..., 2] = np.nan  # nothing known of one of them
    labels[3][:] = np.nan
    spec = LabelSpec("value", level, 3, ("5' end", "5_ end", "dG"))
    found = {i: label + 1 for i, label in enumerate(np.nan_to_num(each) for each in labels)}
    names = draw(stand_in(spec, labels), found, "spearman", tmp_path)
    assert names == ["scatter_5__end.png", "scatter_5__end_2.png", *grouped("spearman")]
    said = texts(drawn["scatter_5__end.png"])
    count = sum(np.isfinite(label[..., 0]).sum() for label in labels)
    assert f"n = {count:,}" in said and "measured 5' end" in said and "predicted 5' end" in said
    assert "5_ end" in texts(drawn["scatter_5__end_2.png"])


def test_an_output_without_a_name_is_called_like_its_column(tmp_path, drawn):
    labels = [np.array([i / 7], np.float32) for i in range(NUM)]
    data = stand_in(LabelSpec("value", "sequence", 1), labels, label_columns=["half_life"])
    found = {i: label**2 for i, label in enumerate(labels)}
    assert draw(data, found, "spearman", tmp_path)[0] == "scatter_half_life.png"
    assert "measured half_life" in texts(drawn["scatter_half_life.png"])


@pytest.mark.parametrize(
    ("names", "words"),
    [(("coding", "non-coding"), "coding"), ((), "not m6A"), (("pseudoU",), "not ps")],
)
def test_flags(names, words, tmp_path, drawn):
    rng = np.random.default_rng(0)
    labels = [np.array([i % 2], np.float32) for i in range(NUM)]
    data = stand_in(LabelSpec("flag", "sequence", 1, names), labels, label_columns=["m6A"])
    found = {i: rng.random(1) for i in range(NUM)}
    files = draw(data, found, "mcc", tmp_path)
    stem = {2: "non_coding", 0: "m6A", 1: "pseudoU"}[len(names)]
    assert files == [f"confusion_{stem}.png", f"calibration_{stem}.png", *grouped("mcc")]
    assert words in texts(drawn[files[0]], ticks=True)
    assert "predicted probability of the flag" in texts(drawn[files[1]])


def test_of_many_outputs_some_are_drawn_which_is_said(tmp_path, drawn, caplog):
    labels = [np.arange(30, dtype=np.float32) * i for i in range(NUM)]
    found = {i: label + 1 for i, label in enumerate(labels)}
    with caplog.at_level("INFO"):
        files = draw(stand_in(LabelSpec("value", "sequence", 30), labels), found, "mse", tmp_path)
    assert sum(name.startswith("scatter") for name in files) == 12
    assert "pictures of the first 12 of 30 outputs" in caplog.text
    assert list(drawn) == files


def structures():
    """The reference of all is a hairpin; the first predicts it best, the last worst."""
    hairpin = np.array([[0, 15], [1, 14], [2, 13], [3, 12]])
    data = stand_in(LabelSpec("pairs", "pairs", 1), [hairpin] * NUM)
    found = {}
    for row in range(NUM):
        wrong = np.array([[4, 11]])
        pairs = np.concatenate([hairpin[: 4 - row // 10], wrong][: 1 + (row > 0)])
        length = len(data.sequences[row])
        probabilities = np.zeros((length, length), np.float32)
        probabilities[tuple(pairs.T)] = probabilities[tuple(pairs.T[::-1])] = 0.9
        found[row] = Fold(probabilities, pairs)
    return data, found


def test_structures_of_low_middle_and_high_scores(tmp_path, drawn):
    data, found = structures()
    files = draw(data, found, "f1", tmp_path, score_pairs)
    kinds = ("contacts", "arcs", "structure")
    expected = [f"{kind}_{word}.png" for word in ("low", "middle", "high") for kind in kinds]
    assert files == [*expected, *grouped("f1")] == list(drawn)
    shown = []
    for word in ("low", "middle", "high"):
        said = [texts(drawn[f"{kind}_{word}.png"]) for kind in kinds]
        name = next(name for name in data.names if f"{name} (f" in said[0])
        row = data.names.index(name)
        score = score_pairs(found[row].pairs, data.labels[row], len(data.sequences[row]))["f1"]
        title = f"{name} ({data.columns['family'][row]}), F1 {score:.2f}"
        assert all(title in each for each in said)
        shown.append(score)
    assert shown == sorted(shown) and shown[0] < shown[2]


def test_some_maps_are_enough(tmp_path, drawn):
    data, found = structures()
    pairs = {row: fold.pairs for row, fold in found.items()}
    report = evaluate(data, pairs, {}, score_pairs)
    draw_all(tmp_path, data, {row: found[row] for row in (7, 38)}, report, "f1")
    assert "rna38 (f2)" in texts(drawn["arcs_low.png"])
    assert "rna7 (f1)" in texts(drawn["arcs_high.png"])
    assert "f1_by_family.png" in drawn


def test_without_viennarna_there_are_no_drawings(tmp_path, drawn, monkeypatch, caplog):
    def refuse(*_):
        raise ValueError("a drawing of a structure needs ViennaRNA")

    monkeypatch.setattr(gallery, "draw_structure", refuse)
    data, found = structures()
    with caplog.at_level("INFO"):
        files = draw(data, found, "f1", tmp_path, score_pairs)
    assert not any("structure" in name for name in files) and "arcs_low.png" in drawn
    assert caplog.text.count("no drawings of structures: a drawing of a structure needs Vi") == 1


def test_no_groups_are_drawn_without_a_score(tmp_path, drawn):
    labels = [np.array([1.0], np.float32) for _ in range(NUM)]  # no rank among equal values
    found = {i: np.array([i], np.float32) for i in range(NUM)}
    spec = LabelSpec("value", "sequence", 1, ("dG",))
    assert draw(stand_in(spec, labels), found, "spearman", tmp_path) == ["scatter_dG.png"]
    assert "R2 -" in texts(drawn["scatter_dG.png"])


def test_files_are_pictures(tmp_path):
    labels = [np.array([i], np.float32) for i in range(NUM)]
    data = stand_in(LabelSpec("value", "sequence", 1, ("dG",)), labels, columns={})
    data.sequences = ["ACGU"] * NUM
    report = evaluate(data, dict(enumerate(labels)), {})
    (path,) = draw_all(tmp_path / "new", data, dict(enumerate(labels)), report, "mse")
    assert path.name == "scatter_dG.png" and path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ("type of a/b/c.csv.gz", "type of c.csv.gz"),
        ("data/ct/, x/*.dbn", "ct/, *.dbn"),
        ("a.csv", "a.csv"),
        ("m of a/b/1, 2, 3, 4", "m of 1, 2, 3 and 1 more"),
    ],
)
def test_descriptions_are_shortened(description, expected):
    assert shortened(description) == expected
    assert len(shortened("x" * 500 + description)) <= 90
