"""Tables with labels, from any format, to batches; what is wrong is said with its line."""

import gzip
import json
import logging

import numpy as np
import pytest
import torch

from rnafm.data.labelled import LabelledDataModule
from rnafm.data.labels import LabelSpec
from rnafm.data.partition import Partition
from rnafm.data.vocabulary import Vocabulary

VALUE = LabelSpec("value", "sequence", 1)
ONE_EACH = Partition(by="column", column="set")
HEADER = "id,sequence,y,set\n"
RNAS = ["ACGUACGUAA", "GGGAAACCCU", "AUAUAUGCGC", "CCCCCGGGAU", "UUGGCCAAUU", "GACUGACUGA"]
ROWS = [
    {"id": f"r{i}", "sequence": rna, "y": i / 2, "set": ("train", "val", "test")[i % 3]}
    for i, rna in enumerate(RNAS)
]
CSV = HEADER + "".join(f"{r['id']},{r['sequence']},{r['y']},{r['set']}\n" for r in ROWS)


def module(path, labels=("y",), **options):
    return LabelledDataModule([path], list(labels), **{"split": ONE_EACH, **options})


def bound(data, spec=VALUE):
    data.setup("fit")
    data.bind(spec, 1022)
    return data


def text(path, content):
    path.write_text(content)
    return path


def write_parquet(path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(ROWS), path)


WRITERS = {
    "x.csv": lambda path: path.write_text(CSV),
    "x.tsv": lambda path: path.write_text(CSV.replace(",", "\t")),
    "x.csv.gz": lambda path: path.write_bytes(gzip.compress(CSV.encode())),
    "x.jsonl": lambda path: path.write_text("\n".join(map(json.dumps, ROWS))),
    "x.jsonl.gz": lambda path: path.write_bytes(
        gzip.compress("\n".join(map(json.dumps, ROWS)).encode())
    ),
    "x.parquet": write_parquet,
}


@pytest.mark.parametrize("name", WRITERS)
def test_formats_give_the_same(tmp_path, name):
    WRITERS[name](tmp_path / name)
    data = bound(module(tmp_path / name))
    assert data.names == ["r0", "r1", "r2", "r3", "r4", "r5"] and data.sequences == RNAS
    assert data.columns == {"id": data.names, "set": ["train", "val", "test"] * 2}
    batch = data.splits()["train"][0, 0, 2]
    assert sorted(zip(batch.indices.tolist(), batch.labels.tolist(), strict=True)) == [
        (0, [0.0]),
        (3, [1.5]),
    ]
    (batch,) = data.test_dataloader()
    assert sorted(zip(batch.indices.tolist(), batch.labels.tolist(), strict=True)) == [
        (2, [1.0]),
        (5, [2.5]),
    ]


def test_sequences_from_fasta(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="rnafm")
    table = text(tmp_path / "x.tsv", "id\ty\tset\nb\t2\ttrain\na\t1\tval\n")
    fasta = text(tmp_path / "x.fa", ">a first\nacgt\nacgt\n>c\nAAAA\n>b\nGGGG\n")
    data = bound(module(table, fasta=fasta))
    assert data.sequences == ["GGGG", "ACGUACGU"] and data.names == ["b", "a"]
    assert f"{fasta}: 1 sequences are in no table and left out" in caplog.messages
    table = text(tmp_path / "y.tsv", "id\ty\tset\nb\t2\ttrain\nd\t1\tval\n")
    with pytest.raises(ValueError, match=r"1 of 2 rows have no sequence in .*'d' \(.*y\.tsv:3\)"):
        module(table, fasta=fasta).setup("fit")


def test_lower_case_and_t(tmp_path):
    data = bound(module(text(tmp_path / "x.csv", HEADER + "a, acgt ,1,train\nb,TTN,1,val\n")))
    assert data.sequences == ["ACGU", "UUN"]
    rna = Vocabulary.named("rna")
    (batch,) = data.train_dataloader()
    assert rna.decode(batch.tokens.tolist()) == "<cls>ACGU<eos>"


def test_other_columns_are_kept_as_text(tmp_path):
    rows = [
        {"sequence": "ACGU", "y": 1, "set": "train", "dose": 0.5, "notes": None, "map": [1, 2]},
        {"sequence": "CCGU", "y": 2, "set": "val", "dose": 2, "family": "tRNA", "map": []},
    ]
    path = text(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    data = bound(module(path))
    assert data.columns == {
        "set": ["train", "val"],
        "dose": ["0.5", "2"],
        "notes": ["", ""],
        "family": ["", "tRNA"],
    }
    assert data.names == [f"{path}:1", f"{path}:2"]


def test_names_that_occur_again_are_numbered(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="rnafm")
    content = HEADER + "a,ACGU,1,train\na,CCGU,1,train\n,GGGG,1,val\n"
    path = text(tmp_path / "x.csv", content)
    data = bound(module(path))
    assert data.names == ["a", "a#2", f"{path}:4"]
    note = "1 name occurs in several rows, such as 'a'; the later ones are called a#2, ..."
    assert note in caplog.messages and note in data.facts["notes"]


def test_unknown_letters_can_be_read_as_unk_and_are_counted(tmp_path):
    path = text(tmp_path / "x.csv", HEADER + "a,ACGZZ,1,train\nb,AZ,1,val\nc,AAA,2,train\n")
    data = bound(module(path, on_unknown="unk"))
    said = "3 nucleotides in 2 sequences are not in the vocabulary and are read as <unk>"
    assert said in data.facts["notes"]
    (batch,) = data.val_dataloader()
    assert batch.tokens.tolist() == [1, 6, 3, 2]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ("b,,1,train", {}, r"x\.csv:3: there is no sequence \(''\); fill it in or remove the row"),
        ("b, ,1,train", {}, r"x\.csv:3: there is no sequence"),
        ("b,ACGZ,1,train", {}, r"x\.csv:3: letter 'Z' at position 4 .*on_unknown"),
        ("b,ACGUA,1,train", {"vocabulary": "codon"}, r"x\.csv:3: 5 letters are not a whole number"),
        ("b,ACG,high,train", {}, r"x\.csv:3: column 'y': 'high' is no number"),
        ("b,ACG,1,training data", {"split": Partition(by="group", column="fam")},
         r"split.column \(fam\): no such column; there are: id, set"),
        ("b,ACG,1,train", {"labels": ["z"]}, r"x\.csv: has no column 'z' for labels; .*id, sequ"),
        ("b,ACG,1,train", {"sequence_column": "sequenze"}, (r"no column 'sequenze' for "
         r"sequences \(data\.sequence_column\); did you mean 'sequence'")),
        ("b,ACG,1,train", {"id_column": "name"}, r"no column 'name' for names \(data.id_column\)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(tmp_path, rows, options, message):
    path = text(tmp_path / "x.csv", f"{HEADER}a,ACGACG,1,train\n{rows}\nc,CCCGGG,2,val\n")
    labels = options.pop("labels", ["y"])
    with pytest.raises(ValueError, match=message):
        bound(module(path, labels, **options))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("y", r"b\.csv: has no column 'y' for labels"),
        ("sequence", r"b\.csv: has no column 'sequence'"),
    ],
)
def test_another_file_cannot_make_up_for_a_column(tmp_path, column, message):
    first = text(tmp_path / "a.csv", CSV)
    second = text(tmp_path / "b.csv", CSV.replace(column, "other", 1))
    with pytest.raises(ValueError, match=message):
        LabelledDataModule([first], ["y"], test_files=[second]).setup("fit")


@pytest.mark.parametrize(
    ("files", "labels", "message"),
    [([], ["y"], "files is empty"), (["x.csv"], [], "labels is empty; name at least one column")],
)
def test_nothing_to_read(files, labels, message):
    with pytest.raises(ValueError, match=message):
        LabelledDataModule(files, labels)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (LabelSpec("pairs", "pairs", 1), "base pairs come from a StructureDataModule"),
        (LabelSpec("class", "sequence", 2, ("a", "b")), r"'0.0' is not among the classes a, b;"),
        (LabelSpec("class", "sequence", 2), r"csv:2: column 'y': '0.0' is no class from 0 to 1"),
        (LabelSpec("flag", "sequence", 1), r"x\.csv:3: column 'y': '0.5' is neither 0 nor 1"),
        (LabelSpec("value", "sequence", 3), r"csv:2: column 'y': has lists of 1 numbers for 3"),
        (LabelSpec("value", "token", 1), (r"x\.csv:2: column 'y': 1 labels for a sequence of 10 "
         "nucleotides; .*use SequencePrediction")),
    ],
)  # fmt: skip
def test_a_task_that_does_not_fit_the_labels(tmp_path, spec, message):
    with pytest.raises(ValueError, match=message):
        bound(module(text(tmp_path / "x.csv", CSV)), spec)


def test_a_wrong_label_in_the_test_split_is_found_before_training(tmp_path):
    path = text(tmp_path / "x.csv", CSV.replace(",2.5,", ",2.5.1,"))
    data = module(path)
    data.setup("fit")
    with pytest.raises(ValueError, match=r"x\.csv:7: column 'y': '2.5.1' is no number"):
        data.bind(VALUE, 1022)


def test_several_columns_with_missing_labels(tmp_path):
    content = "sequence,y,z,set\nACGU,1,,train\nCCGU,,4,train\nGGGG,2,3,val\n"
    data = bound(
        module(text(tmp_path / "x.csv", content), ["z", "y"]), LabelSpec("value", "sequence", 2)
    )
    np.testing.assert_array_equal(data.labels_of("train"), [[np.nan, 1], [4, np.nan]])


def test_labels_of_nucleotides(tmp_path):
    content = "sequence,y,set\nACGU,SSHH,train\nCCGUA,HHHHS,train\nGGG,SSS,val\n"
    spec = LabelSpec("class", "token", 2, ("S", "H"))
    data = bound(module(text(tmp_path / "x.csv", content)), spec)
    assert data.labels_of("train").tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0]
    batch = data.splits()["train"][0, 0, 2]
    assert batch.labels.tolist() == [-100, 0, 0, 1, 1, -100, -100, 1, 1, 1, 1, 0, -100]
    bad = text(tmp_path / "y.csv", content.replace("SSHH", "SSH"))
    with pytest.raises(ValueError, match=r"y\.csv:2: column 'y': 3 labels for a sequence of 4 nuc"):
        bound(module(bad), spec)
    batch = bound(module(bad, label_length="prefix"), spec).splits()["train"][0, 0, 2]
    assert batch.labels[:6].tolist() == [-100, 0, 0, 1, -100, -100]


def test_labels_of_codons(tmp_path):
    content = 'sequence,y,set\nACGUUU,"1,2",train\nCCGUAAGGG,"1,2,3",val\n'
    path = text(tmp_path / "x.csv", content)
    spec = LabelSpec("value", "token", 1)
    data = bound(module(path, vocabulary="codon"), spec)
    (batch,) = data.train_dataloader()
    torch.testing.assert_close(
        batch.labels[:, 0], torch.tensor([np.nan, 1, 2, np.nan]), equal_nan=True
    )
    with pytest.raises(ValueError, match=r"x\.csv:2: column 'y': 2 labels for a sequence of 6 nuc"):
        bound(module(path), spec)
    path = text(tmp_path / "y.csv", content.replace('"1,2"', '"1,2,3,4,5,6"'))
    with pytest.raises(ValueError, match=r"6 labels for a sequence of 2 codons.*of nucleotides"):
        bound(module(path, vocabulary="codon"), spec)


def test_some_outputs_of_lists(tmp_path):
    rows = [
        {"sequence": "AC", "y": [[1, 2, 3], [4, 5, 6]], "set": "train"},
        {"sequence": "G", "y": [[7, None, 9]], "set": "val"},
    ]
    path = text(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows)))
    data = bound(module(path, outputs=[2, 1]), LabelSpec("value", "token", 2))
    assert data.labels_of("train").tolist() == [[3, 2], [6, 5]]
    np.testing.assert_array_equal(data.labels_of("val"), [[9, np.nan]])
    with pytest.raises(ValueError, match=r"outputs \(\[2, 1\]\): are 2 for a task of 3; set num"):
        bound(module(path, outputs=[2, 1]), LabelSpec("value", "token", 3))
