"""``rnafm predict``: every task and format, in order, to be continued, on several processes."""

import csv
import gzip
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from batches import CODON, TINY
from checkpoints.test_structure import write_official_structure
from trained import SEQUENCES, make, make_pretrained, names_in, numbers, one_by_one, write_fasta

from rnafm.cli import main
from rnafm.data.progress import ReadingProgress
from rnafm.data.structure_files import read_structures
from rnafm.modules import LinearContactHead
from rnafm.modules.encoder import EncoderConfig
from rnafm.modules.folding import Decoder
from rnafm.tasks import Binary, Multiclass, Multilabel, Regression
from rnafm.tools import parts as parts_module
from rnafm.tools import prediction_files
from rnafm.tools.predict import predict
from rnafm.tools.predictor import CHUNK, Predictor

OBJECTIVES = {
    "one number": lambda: Regression(names=["length"]),
    "numbers": lambda: Regression(num_outputs=2),
    "binary": lambda: Binary(names=["no", "yes"]),
    "classes": lambda: Multiclass(names=["S", "H", "E"]),
    "classes with long names": lambda: Multiclass(names=["S", "loop"]),
    "numbered classes": lambda: Multiclass(num_outputs=3),
    "flags": lambda: Multilabel(names=["a", "b"]),
}
SETTING = {"head": LinearContactHead, "decoder": Decoder("greedy", 0.5)}


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="session")
def fasta(folder):
    return write_fasta(folder / "x.fa")


@pytest.fixture(scope="session")
def contacts(folder):
    return make("pairs", folder / "contacts.ckpt", **SETTING), folder / "contacts.ckpt"


@pytest.fixture(scope="session")
def values(folder):
    objective = Regression()
    objective.fit(torch.tensor([[-50.0], [150.0]]))
    return make("sequence", folder / "values.ckpt", objective), folder / "values.ckpt"


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def expected_rows(objective, predictions, level):
    """Names and values of the columns, written down a second time."""
    kind = type(objective).__name__
    rows = []
    for values in predictions:
        table = np.atleast_2d(values)
        if kind == "Regression":
            titles = ["predicted_length"] if objective.names else ["output_0", "output_1"]
            row = {title: table[:, i].tolist() for i, title in enumerate(titles)}
        elif kind == "Binary":
            row = {"prediction": [("no", "yes")[int(p > 0.5)] for p in table[:, 0]]}
            row["p_yes"] = table[:, 0].tolist()
        else:
            names = objective.names or (0, 1, 2)
            best = [names[i] for i in table.argmax(1)]
            row = {"prediction": best, "probability": table.max(1).tolist()}
            if kind == "Multilabel":
                row = {"prediction": [";".join(np.array(names)[p > 0.5]) for p in table]}
            row |= {f"p_{name}": table[:, i].tolist() for i, name in enumerate(names)}
        rows.append({k: v[0] if level == "sequence" else v for k, v in row.items()})
    return rows


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("level", ["sequence", "token"])
def test_tables(tmp_path, fasta, level, name):
    parquet = pytest.importorskip("pyarrow.parquet")
    objective = OBJECTIVES[name]()
    task = make(level, tmp_path / "x.ckpt", objective)
    wanted = expected_rows(objective, one_by_one(task, SEQUENCES), level)
    for suffix in ("csv", "parquet"):
        out = tmp_path / f"x.{suffix}"
        predict(tmp_path / "x.ckpt", fasta, out, return_probabilities=True)
        rows = read_csv(out) if suffix == "csv" else parquet.read_table(out).to_pylist()
        for number, (row, wants) in enumerate(zip(rows, wanted, strict=True)):
            assert list(row) == ["id", "length", *wants]
            assert row["id"] == f"s{number}" and int(row["length"]) == len(SEQUENCES[number])
            for key, want in wants.items():
                found = row[key]
                if suffix == "csv" and level == "token":
                    letters = name == "classes" and key == "prediction"
                    found = list(found) if letters else json.loads(found)
                elif suffix == "csv":
                    found = type(want)(found)
                plain = isinstance(want[0] if level == "token" else want, float)
                assert found == (pytest.approx(want, rel=1e-4, abs=1e-6) if plain else want)


def test_without_probabilities_there_are_those_of_the_prediction_only(tmp_path, fasta):
    make("sequence", tmp_path / "x.ckpt", Multiclass(names=["x", "y", "z"]))
    predict(tmp_path / "x.ckpt", fasta, tmp_path / "x.csv")
    rows = read_csv(tmp_path / "x.csv")
    assert list(rows[0]) == ["id", "length", "prediction", "probability"]
    assert all(1 / 3 < float(row["probability"]) < 1 for row in rows)


@pytest.mark.parametrize("suffix", ["dbn", "ct", "bpseq"])
def test_structures(tmp_path, contacts, fasta, suffix, capsys):
    task, path = contacts
    predict(path, fasta, tmp_path / f"x.{suffix}")
    records, _ = read_structures(tmp_path / f"x.{suffix}")
    wanted = one_by_one(task, SEQUENCES)
    assert [record.name for record in records] == [f"s{i}" for i in range(len(SEQUENCES))]
    assert [record.sequence for record in records] == SEQUENCES
    assert sum(len(fold.pairs) for fold in wanted) > 3
    for record, fold in zip(records, wanted, strict=True):
        assert record.pairs.tolist() == fold.pairs.tolist()
    assert "decoder: greedy by probability; p > 0.5" in capsys.readouterr().err


def test_pair_probabilities(tmp_path, contacts, monkeypatch):
    task, path = contacts
    monkeypatch.setitem(CHUNK, "pairs", 200)
    fasta = tmp_path / "x.fa"
    fasta.write_text("".join(f">{i}/a|b\n{each}\n" for i, each in enumerate(SEQUENCES)))
    predict(path, fasta, tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as file:
        assert file.files == [f"{i}/a|b" for i in range(len(SEQUENCES))]
        for key, fold in zip(file.files, one_by_one(task, SEQUENCES), strict=True):
            assert file[key].dtype == np.float32 and (file[key] == file[key].T).all()
            np.testing.assert_allclose(file[key], fold.probabilities, atol=1e-5)
    fasta.write_text(">a\nACGU\n>b\nGGGG\n>a\nCC\n")
    with pytest.raises(
        ValueError,
        match=r"x\.fa:a: 'a' is the name of .*x\.fa:a as well, and "
        r".*y\.npz needs different ones; rename one",
    ):
        predict(path, fasta, tmp_path / "y.npz")
    predict(path, fasta, tmp_path / "y.dbn")
    assert (tmp_path / "y.dbn").read_text().count(">a\n") == 2


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "TSV", "jsonl", "fa.gz"])
def test_tables_and_fasta_are_read_alike(tmp_path, values, kind):
    task, path = values
    data = tmp_path / f"d.{kind}"
    lower = [each.lower().replace("u", "t") for each in SEQUENCES]
    comma = "\t" if kind == "TSV" else ","
    text = f"rna{comma}name\n" + "".join(f"{s} {comma}s{i}\n" for i, s in enumerate(lower))
    if kind == "jsonl":
        text = "".join(json.dumps({"rna": s, "name": f"s{i}"}) + "\n" for i, s in enumerate(lower))
    elif kind == "fa.gz":
        text = "".join(f">s{i}\n{s}\n" for i, s in enumerate(lower))
    data.write_bytes(gzip.compress(text.encode()) if kind.endswith("gz") else text.encode())
    predict(path, data, tmp_path / "x.csv", sequence_column="rna", id_column="name")
    rows = read_csv(tmp_path / "x.csv")
    assert [row["id"] for row in rows] == [f"s{i}" for i in range(len(SEQUENCES))]
    wanted = np.concatenate(one_by_one(task, SEQUENCES))
    found = [float(row["prediction"]) for row in rows]
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert wanted.std() > 0.1


def test_what_is_wrong_is_said_before_the_first_prediction(tmp_path, values, monkeypatch):
    _, path = values
    monkeypatch.setattr(Predictor, "predict", None)

    def message(text, name="d.fa", out="x.csv", **options):
        (tmp_path / name).write_text(text)
        with pytest.raises((ValueError, OSError)) as caught:
            predict(path, tmp_path / name, tmp_path / out, **options)
        assert names_in(tmp_path) == [name]
        (tmp_path / name).unlink()
        return str(caught.value).replace(str(tmp_path), "")

    assert message(">a\nACGU\n>b\nAC!U\n").startswith("/d.fa:b: ")
    assert "d.fa: holds no records" in message("")
    assert "d.csv: is empty" in message("", "d.csv")
    assert "d.csv: has no rows" in message("id,sequence\n", "d.csv")
    assert "d.csv: has no column 'sequence' for sequences; it has: id, rna" in message(
        "id,rna\na,ACGU\n", "d.csv"
    )
    assert "has no column 'nom' for names" in message(
        "id,sequence\na,ACGU\n", "d.csv", id_column="nom"
    )
    assert "d.csv:3: column 'sequence': there is no sequence" in message(
        "id,sequence\na,ACGU\nb,\n", "d.csv"
    )
    assert "d.csv:2: column 'id': is empty" in message("id,sequence\n,ACGU\n", "d.csv")
    assert message("id,sequence\na,ACGU\nb,AC!U\n", "d.csv").startswith("/d.csv:3: ")
    assert message(">a\nACGU\n", out="x.dbn") == (
        "/x.dbn: the task predicts a label per sequence, which is written to .csv, .parquet, not "
        "to .dbn; give --out another name"
    )
    assert "not to a name without ending" in message(">a\nACGU\n", out="x")
    assert "is a folder; name a file" in message(">a\nACGU\n", out="")


def test_other_checkpoints(tmp_path, contacts, fasta):
    with pytest.raises(
        ValueError,
        match=r"base pairs, which is written to \.dbn, \.ct, \.bpseq, "
        r"\.npz, not to \.csv",
    ):
        predict(contacts[1], fasta, tmp_path / "x.csv")
    make_pretrained(tmp_path / "p.ckpt")
    with pytest.raises(SystemExit, match=r"rnafm predict: .*p\.ckpt holds a pretraining task"):
        main(
            [
                "predict",
                "--checkpoint",
                str(tmp_path / "p.ckpt"),
                "--data",
                str(fasta),
                "--out",
                str(tmp_path / "x.csv"),
            ]
        )


def test_parquet_without_pyarrow(tmp_path, values, fasta, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"needs pyarrow.*pip install 'rnafm\[parquet\]'"):
        predict(values[1], fasta, tmp_path / "x.parquet")


def test_unknown_letters_as_unk(tmp_path, values):
    (tmp_path / "d.fa").write_text(">a\nAC!U\n")
    with pytest.raises(ValueError, match=r"d\.fa:a.*'!'"):
        predict(values[1], tmp_path / "d.fa", tmp_path / "x.csv")
    predict(values[1], tmp_path / "d.fa", tmp_path / "x.csv", on_unknown="unk")
    assert len(read_csv(tmp_path / "x.csv")) == 1


def test_rows_without_names_and_codons(tmp_path):
    make("token", tmp_path / "x.ckpt", Regression(), vocabulary="codon")
    (tmp_path / "d.csv").write_text("sequence\nAUGGCUUAA\nAUG\n")
    predict(tmp_path / "x.ckpt", tmp_path / "d.csv", tmp_path / "x.csv")
    rows = read_csv(tmp_path / "x.csv")
    assert [row["id"] for row in rows] == ["row_1", "row_2"] and CODON.letters_per_token == 3
    assert [len(numbers(row["prediction"])) for row in rows] == [3, 1]


def test_long_sequences_are_read_in_windows_and_counted(tmp_path, capsys):
    small = EncoderConfig(**{**TINY.__dict__, "max_length": 8})
    task = make("token", tmp_path / "x.ckpt", Regression(), encoder=small)
    fasta = write_fasta(tmp_path / "d.fa")
    predict(tmp_path / "x.ckpt", fasta, tmp_path / "x.csv")
    assert "4 of 6 sequences are longer than 8 nt, read in windows" in capsys.readouterr().err
    for row, wanted in zip(read_csv(tmp_path / "x.csv"), one_by_one(task, SEQUENCES), strict=True):
        np.testing.assert_allclose(numbers(row["prediction"]), wanted[:, 0], atol=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "parquet", "npz", "dbn"])
def test_a_stopped_run_goes_on(tmp_path, values, contacts, monkeypatch, capsys, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = (values if suffix in ("csv", "parquet") else contacts)[1]
    monkeypatch.setitem(CHUNK, "sequence", 10)
    monkeypatch.setitem(CHUNK, "pairs", 100)
    data = write_fasta(tmp_path / "d.fa", [*SEQUENCES, "GGGCCC", "AAAUUU"])
    sizes, whole, out = [], tmp_path / f"whole.{suffix}", tmp_path / f"x.{suffix}"
    real, room = Predictor.predict, [99]

    def count(self, records):
        sizes.append(sum(len(record.sequence) for record in records))
        if len(sizes) > room[0]:
            raise OSError("no space left on device")
        return real(self, records)

    monkeypatch.setattr(Predictor, "predict", count)
    predict(path, data, whole)
    assert len(sizes) >= 5 and max(sizes) < 40  # no more than a chunk at a time
    everything, room[0] = sizes.copy(), 2
    sizes.clear()
    with pytest.raises(OSError, match="no space"):
        predict(path, data, out)
    assert not out.exists() and "2 parts are kept" in capsys.readouterr().err
    sizes.clear()
    room[0] = 99
    predict(path, data, out)
    assert sizes == everything[2:] and "2 parts are done" in capsys.readouterr().err
    assert out.read_bytes() == whole.read_bytes()
    assert names_in(tmp_path) == sorted(["d.fa", whole.name, out.name])


@pytest.mark.parametrize("kind", ["fa.gz", "csv"])
def test_progress_is_a_true_fraction(tmp_path, values, monkeypatch, kind):
    """Of the letters that are to be done, however the file is compressed."""
    monkeypatch.setitem(CHUNK, "sequence", 10)
    text = "".join(f">s{i}\n{each}\n" for i, each in enumerate(SEQUENCES))
    if kind == "csv":
        text = "sequence\n" + "".join(f"{each}\n" for each in SEQUENCES)
    data, seen = tmp_path / f"d.{kind}", []
    data.write_bytes(gzip.compress(text.encode()) if kind == "fa.gz" else text.encode())
    monkeypatch.setattr(
        ReadingProgress,
        "update",
        lambda self, *what: seen.append((what[0] / self.total, *what[1:])),
    )
    predict(values[1], data, tmp_path / "x.csv")
    total = sum(map(len, SEQUENCES))
    wanted = [(10 / total, 1, 10), (29 / total, 1, 19), (47 / total, 2, 18), (68 / total, 2, 21)]
    assert seen == wanted


def test_what_changed_is_predicted_anew(tmp_path, values, monkeypatch, capsys):
    monkeypatch.setitem(CHUNK, "sequence", 10)
    data, out = write_fasta(tmp_path / "d.fa"), tmp_path / "x.csv"
    real = prediction_files.Table.part

    def stop(self, path, records, predictions):
        if len(list(path.parent.glob("*.part"))) > 1:
            raise OSError("no space left on device")
        real(self, path, records, predictions)

    for change in ("set of options", "input"):
        monkeypatch.setattr(prediction_files.Table, "part", stop)
        with pytest.raises(OSError, match="no space"):
            predict(values[1], data, out)
        monkeypatch.setattr(prediction_files.Table, "part", real)
        if change == "input":
            write_fasta(data, SEQUENCES[::-1])
        predict(values[1], data, out, return_probabilities=change != "input")
        assert f"are of another {change}" in capsys.readouterr().err
        lengths = [int(row["length"]) for row in read_csv(out)]
    assert lengths == [len(each) for each in SEQUENCES[::-1]]


def test_processes_share_the_work(tmp_path, values, monkeypatch):
    """The file is that of one process, and each part was predicted once."""
    monkeypatch.setitem(CHUNK, "sequence", 10)
    monkeypatch.setattr(parts_module, "_POLL_SECONDS", 0.01)
    data = write_fasta(tmp_path / "d.fa")
    predict(values[1], data, tmp_path / "one.csv")
    real, calls = Predictor.predict, []

    def count(self, records):
        calls.append([record.name for record in records])
        return real(self, records)

    monkeypatch.setattr(Predictor, "predict", count)
    ranks = iter([1, 0])
    monkeypatch.setattr(
        parts_module.Processes, "from_environment", lambda: parts_module.Processes(next(ranks), 2)
    )
    with ThreadPoolExecutor(2) as pool:
        tasks = [pool.submit(predict, values[1], data, tmp_path / "two.csv") for _ in range(2)]
        for task in tasks:
            task.result(timeout=60)
    names = sorted(name for each in calls for name in each)
    assert names == [f"s{i}" for i in range(len(SEQUENCES))]
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert names_in(tmp_path) == ["d.fa", "one.csv", "two.csv"]


@pytest.mark.slow
def test_processes_of_their_own(tmp_path, values):
    data = write_fasta(tmp_path / "d.fa", SEQUENCES * 50)
    script = (
        "import sys; from rnafm.tools.predictor import CHUNK; from rnafm.cli import main; "
        "CHUNK['sequence'] = 500; main(sys.argv[1:])"
    )

    def start(out, rank, world_size):
        words = ["predict", "--checkpoint", values[1], "--data", data, "--out", tmp_path / out]
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, words)],
            env=os.environ | {"RANK": str(rank), "WORLD_SIZE": str(world_size)},
        )

    running = [start("two.csv", 0, 2), start("two.csv", 1, 2), start("one.csv", 0, 1)]
    assert [process.wait(timeout=180) for process in running] == [0, 0, 0]
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()


def test_published_structure_weights(tmp_path, capsys):
    path = write_official_structure(tmp_path / "RNA-FM-ResNet_PDB-All.pth")
    write_fasta(tmp_path / "d.fa")
    predict(path, tmp_path / "d.fa", tmp_path / "x.dbn")
    said = capsys.readouterr().err
    assert "the authors call nucleotides paired above a probability of 0.339937" in said
    assert "decoder: greedy by probability; p > 0.339937; any pairs; hairpins from 1 nt" in said
    assert len(read_structures(tmp_path / "x.dbn")[0]) == len(SEQUENCES)


def test_a_rule_that_gives_no_structures(tmp_path, fasta):
    options = {"head": LinearContactHead, "decoder": Decoder("threshold", 0.0, min_loop=0)}
    make("pairs", tmp_path / "x.ckpt", **options)
    with pytest.raises(ValueError, match=r"x\.fa:s0: .*has several partners.*rnafm fold --decoder"):
        predict(tmp_path / "x.ckpt", fasta, tmp_path / "x.dbn")
