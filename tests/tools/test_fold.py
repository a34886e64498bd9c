"""``rnafm fold``: structures to read or to keep, with what is known about them."""

import json
import sys

import numpy as np
import pytest
from checkpoints.test_structure import write_official_structure
from trained import SEQUENCES, make, names_in, one_by_one, write_fasta

from rnafm.cli import main
from rnafm.data.structure import format_dbn
from rnafm.data.structure_files import read_structures
from rnafm.modules import LinearContactHead
from rnafm.modules.constraints import Constraints
from rnafm.modules.folding import Decoder, decode
from rnafm.tasks import Regression
from rnafm.tools import prediction_files
from rnafm.tools.fold import fold
from rnafm.tools.known import read_constraints, read_reactivities

DECODER = Decoder("greedy", 0.5)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fold")


@pytest.fixture(scope="session")
def fasta(folder):
    return write_fasta(folder / "x.fa")


@pytest.fixture(scope="session")
def model(folder):
    options = {"head": LinearContactHead, "decoder": DECODER}
    return make("pairs", folder / "x.ckpt", **options), folder / "x.ckpt"


@pytest.fixture(scope="session")
def maps(model):
    return [each.probabilities for each in one_by_one(model[0], SEQUENCES)]


def expected(maps, decoder, constraints=None):
    """The text that is printed."""
    texts = []
    for number, (sequence, probabilities) in enumerate(zip(SEQUENCES, maps, strict=True)):
        known = (constraints or {}).get(f"s{number}")
        pairs = decode(probabilities, sequence, decoder, known)
        texts.append(format_dbn(f"s{number}", sequence, pairs))
    return "".join(texts)


def test_nothing_but_structures_is_printed(model, fasta, maps, capsys):
    fold(model[1], fasta)
    said = capsys.readouterr()
    assert said.out == expected(maps, DECODER) and said.out.count("(") > 3
    assert (
        said.err == "decoder: greedy by probability; p > 0.5; canonical pairs; hairpins from 3 nt\n"
    )


def test_another_decoder_is_used_and_named(model, fasta, maps, capsys):
    words = ["fold", "--checkpoint", str(model[1]), "--fasta", str(fasta)]
    main([*words, "--decoder", "nested", "--threshold=0.3", "--max-span", "8"])
    said = capsys.readouterr()
    assert said.out == expected(maps, Decoder("nested", 0.3, max_span=8))
    assert said.out != expected(maps, DECODER)
    assert "nested, maximum expected accuracy; p > 0.3;" in said.err
    assert "pairs span 8 nt at most" in said.err
    assert "takes the threshold" not in said.err
    main([*words, "--decoder", "nested"])
    chosen = f"nested takes the threshold ({DECODER.threshold:g}) that validation chose for "
    assert chosen + DECODER.method in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"rnafm fold: threshold \(1.5\)"):
        main([*words, "--threshold=1.5"])


@pytest.mark.parametrize("suffix", ["dbn", "ct", "bpseq", "npz"])
def test_files(tmp_path, model, fasta, maps, capsys, suffix):
    out = tmp_path / "deep" / f"x.{suffix}"
    fold(model[1], fasta, out)
    assert f"6 structures written to {out}" in capsys.readouterr().out
    assert names_in(out.parent) == [out.name]
    if suffix == "npz":
        with np.load(out) as file:
            for key, wanted in zip(file.files, maps, strict=True):
                np.testing.assert_allclose(file[key], wanted, atol=1e-5)
    else:
        for record, probabilities in zip(read_structures(out)[0], maps, strict=True):
            wanted = decode(probabilities, record.sequence, DECODER)
            assert record.pairs.tolist() == wanted.tolist()


def test_no_half_file_is_left(tmp_path, model, fasta, monkeypatch):
    def full(_self, _parts, out):
        out.write_text("half")
        raise OSError("no space left on device")

    monkeypatch.setattr(prediction_files.PredictionFile, "merge", full)
    with pytest.raises(OSError, match="no space"):
        fold(model[1], fasta, tmp_path / "x.dbn")
    assert not names_in(tmp_path)


def test_constraints(tmp_path, model, fasta, maps, capsys):
    path = tmp_path / "c.txt"
    path.write_text(
        ">s0 the first\n(........)\n\n>s2\nGCAU\nxxxx\n>s3\n[.(xxxxxxx).].\n".replace(
            "(........)", "(.......)."
        )
    )
    wanted = {
        "s0": Constraints(pairs=[(0, 8)]),
        "s2": Constraints(unpaired=[0, 1, 2, 3]),
        "s3": Constraints(pairs=[(0, 12), (2, 10)], unpaired=range(3, 10)),
    }
    fold(model[1], fasta, constraints=path)
    said = capsys.readouterr()
    assert said.out == expected(maps, DECODER, wanted) != expected(maps, DECODER)
    assert f"constraints: on 3 sequences, from {path}" in said.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (">s0\n(...)\n", r"c\.txt:2: the constraint on 's0' has 5 signs, its sequence 10 letters"),
        (">s0\n..........\n>t\n...\n", r"c\.txt:4: no sequence of .*x\.fa has the name 't'"),
        (">s0\n(........|\n", r"c\.txt:2: \| means nothing in a constraint; use \."),
        (">s0\n<........>\n", r"c\.txt:2: < > means nothing"),
        (">s0\n(.........\n", r"c\.txt:2: .*is never closed"),
        (">s0\n(..).....x\n", r"c\.txt:2: 's0': forced pair"),
        ("..........\n", r"c\.txt:1: there is no '>name' line"),
        (">s0\n..........\n>s0\n..........\n", r"c\.txt:3: 's0' appears twice"),
        (">s0\n..........\n..........\n", r"c\.txt:3: is a second line of constraints on 's0'"),
        (">s0\n>s1\n...\n", r"c\.txt:1: 's0' has no line of constraints"),
        (">s0\nGGGAAACCCU\n", r"c\.txt:1: 's0' has no line of constraints"),
        (">\n...\n", r"c\.txt:1: there is no name behind '>'"),
        ("", r"c\.txt: '' has no line"),
    ],
)
def test_constraints_that_make_no_sense(tmp_path, model, fasta, text, message):
    path = tmp_path / "c.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        fold(model[1], fasta, constraints=path)


def test_reactivities_of_a_table(tmp_path, model, maps, capsys):
    reactive = [[2.0] * len(sequence) for sequence in SEQUENCES]
    reactive[3] = [0.0] * len(SEQUENCES[3])
    reactive[4] = None
    rows = [
        {"id": f"s{i}", "sequence": sequence, "reactivity": values}
        for i, (sequence, values) in enumerate(zip(SEQUENCES, reactive, strict=True))
    ]
    table = tmp_path / "x.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    known = {f"s{i}": Constraints(reactivities=v) for i, v in enumerate(reactive) if v is not None}
    fold(model[1], table)
    said = capsys.readouterr()
    assert said.out == expected(maps, DECODER, known) != expected(maps, DECODER)
    assert "reactivities: of 5 sequences" in said.err
    (tmp_path / "c.txt").write_text(">s3\nx.............\n")
    fold(model[1], table, constraints=tmp_path / "c.txt")
    both = Constraints(unpaired=[0], reactivities=reactive[3])
    assert capsys.readouterr().out == expected(maps, DECODER, known | {"s3": both})
    rows[1]["reactivity"] = [0.5]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=r"x\.jsonl:2.*reactivity"):
        fold(model[1], table)


def test_pictures_have_names_of_their_own(tmp_path, model, capsys):
    pytest.importorskip("RNA")
    (tmp_path / "x.fa").write_text(
        ">a/1-9\nGGGAAACCC\n>a_1-9\nGGGAAACCC\n>A/1-9\nGGGAAACCC\n>../b\nGGGAAACCC\n"
    )
    fold(model[1], tmp_path / "x.fa", tmp_path / "x.dbn", pictures=tmp_path / "p")
    names = ["a_1-9.png", "a_1-9_2.png", "A_1-9_3.png", "_b.png"]
    assert f"4 drawings in {tmp_path / 'p'}" in capsys.readouterr().err
    assert names_in(tmp_path / "p") == sorted(names)
    for name in names:
        assert (tmp_path / "p" / name).read_bytes().startswith(b"\x89PNG")


def test_without_viennarna(tmp_path, model, fasta, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "RNA", None)
    with pytest.raises(ValueError, match=r"pictures need ViennaRNA.*pip install 'rnafm\[vienna"):
        fold(model[1], fasta, pictures=tmp_path / "p")
    with pytest.raises(ValueError, match=r"'hybrid' needs ViennaRNA.*pip install 'rnafm\[vienna"):
        fold(model[1], fasta, decoder="hybrid")
    assert not capsys.readouterr().out


def test_hybrid(model, fasta, maps, capsys):
    pytest.importorskip("RNA")
    fold(model[1], fasta, decoder="hybrid")
    said = capsys.readouterr()
    assert said.out == expected(maps, Decoder("hybrid", 0.5))
    assert "decoder: ViennaRNA with pair bonuses up to 1 kcal/mol, MFE" in said.err


def test_published_structure_weights(tmp_path, fasta, capsys):
    fold(write_official_structure(tmp_path / "RNA-FM-ResNet_bpRNA.pth"), fasta)
    said = capsys.readouterr()
    assert said.out.count(">") == len(SEQUENCES) and "p > 0.477296; any pairs" in said.err


def test_tasks_that_do_not_fold(tmp_path, fasta):
    make("token", tmp_path / "x.ckpt", Regression())
    with pytest.raises(ValueError, match=r"predicts a label per token, not structures; use rnafm"):
        fold(tmp_path / "x.ckpt", fasta)


def test_what_files_say(tmp_path):
    (tmp_path / "c.txt").write_text("\n>a\n.[x].\n")
    (known,) = read_constraints(tmp_path / "c.txt").values()
    assert known.constraints == Constraints([(1, 3)], [2]) and known.length == 5
    (tmp_path / "x.csv").write_text("id,sequence\na,ACGU\n")
    assert read_reactivities(tmp_path / "x.csv") == read_reactivities(tmp_path / "x.fa") == {}
