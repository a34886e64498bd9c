"""What all data modules with labels share: sides of files, leaks, lengths, and what they say."""

import json
import logging

import numpy as np
import pytest

from rnafm.data.labelled import LabelledDataModule
from rnafm.data.labels import LabelSpec
from rnafm.data.partition import Partition
from rnafm.data.rows import Rows, divide, number_names

VALUE = LabelSpec("value", "sequence", 1)


def sequences(count, length=40, seed=0):
    letters = np.random.default_rng(seed).choice(list("ACGU"), (count, length))
    return ["".join(row) for row in letters]


def write(path, texts, labels=None, **columns):
    """A table; labels are 0, 1, 2 ... where none are given."""
    columns = {"sequence": texts, "y": labels or range(len(texts))} | columns
    lines = [
        ",".join(columns),
        *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def module(*files, **options):
    return LabelledDataModule(list(files), ["y"], **options)


def bound(data, spec=VALUE, max_length=1022):
    data.setup("fit")
    data.bind(spec, max_length)
    return data


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, logger="rnafm")
    return caplog


class TestSides:
    def test_files_decide_and_validation_is_taken_from_training(self, tmp_path, log):
        texts = sequences(60)
        train = write(tmp_path / "train.csv", texts[:50])
        test = write(tmp_path / "test.csv", texts[50:])
        data = bound(module(train, test_files=[test], split=Partition(val=0.2, seed=3)))
        assert data.rows["test"].tolist() == list(range(50, 60))
        assert len(data.rows["val"]) == 10
        assert sorted([*data.rows["train"], *data.rows["val"]]) == list(range(50))
        said = "by file; val 20 % of the training files by hash of the sequence, seed 3"
        assert data.facts["split"] == said and f"Split {said}" in log.messages

    def test_validation_from_training_files_keeps_groups_whole(self, tmp_path):
        texts = sequences(60)
        families = [f"f{i % 10}" for i in range(50)]
        train = write(tmp_path / "train.csv", texts[:50], family=families)
        test = write(tmp_path / "test.csv", texts[50:])
        split = Partition(by="group", column="family", val=0.2)
        data = bound(module(train, test_files=[test], split=split))
        sides = [{families[row] for row in data.rows[side]} for side in ("train", "val")]
        assert len(sides[1]) == 2 and not sides[0] & sides[1]
        assert data.rows["test"].tolist() == list(range(50, 60))

    def test_all_three_files(self, tmp_path):
        texts = sequences(30)
        parts = [
            write(tmp_path / f"{i}.csv", texts[10 * i : 10 * i + 10], [i] * 10) for i in range(3)
        ]
        data = bound(module(parts[0], val_files=[parts[1]], test_files=[parts[2]]))
        for i, side in enumerate(("train", "val", "test")):
            assert data.rows[side].tolist() == list(range(10 * i, 10 * i + 10))
            assert (data.labels_of(side) == i).all()
        assert data.facts["split"] == "by file"

    @pytest.mark.parametrize(
        ("side", "split", "message"),
        [
            ("test_files", Partition(folds=3), r"split \(folds\) and val_files or test_files both"),
            ("val_files", Partition(by="column", column="s"), r"split \(by column\) and val_files"),
            ("val_files", Partition(by="group", column="s"), r"split.by \(group\): val_files has"),
        ],
    )
    def test_files_and_split_that_contradict_each_other(self, tmp_path, side, split, message):
        path = write(tmp_path / "x.csv", sequences(20), s=["a", "b"] * 10)
        with pytest.raises(ValueError, match=message):
            module(path, split=split, **{side: [path]}).setup("fit")

    def test_test_files_alone(self, tmp_path, log):
        path = write(tmp_path / "x.csv", sequences(20))
        data = bound(module(test_files=[path]))
        assert set(data.splits()) == {"test"}
        assert "leaks" not in data.facts and not any("copies" in line for line in log.messages)
        with pytest.raises(ValueError, match="no rows for train, whose labels are needed"):
            data.labels_of("train")

    def test_no_validation_rows(self, tmp_path):
        data = bound(module(write(tmp_path / "x.csv", sequences(30)), split=Partition(val=0)))
        assert set(data.splits()) == {"train", "test"}
        counts = data.facts["sequences"]
        assert counts["val"] == 0 < counts["test"] and sum(counts.values()) == 30

    @pytest.mark.parametrize(
        "split",
        [
            Partition(),
            Partition(folds=4, fold=2),
            Partition(by="column", column="set"),
            Partition(by="group", column="family"),
            Partition(by="group", column="family", hold_out=["f3"]),
            Partition(by="cluster", method="k-mers"),
        ],
        ids=lambda split: f"{split.by}-{split.folds}-{len(split.hold_out)}",
    )
    def test_every_way_of_splitting(self, tmp_path, split):
        sets = ["train"] * 30 + ["valid"] * 5 + ["TEST"] * 5
        families = [f"f{i % 8}" for i in range(40)]
        path = write(tmp_path / "x.csv", sequences(40), set=sets, family=families)
        data = bound(module(path, split=split))
        rows = np.concatenate([data.rows[side] for side in ("train", "val", "test")])
        assert sorted(rows) == list(range(40))
        assert all(len(data.rows[side]) for side in data.rows)
        if split.by == "column":
            assert data.rows["test"].tolist() == list(range(35, 40))
        if split.by == "group":
            held_out = {families[row] for row in data.rows["test"]}
            assert not held_out & {families[row] for row in data.rows["train"]}


class TestLeaks:
    def files(self, tmp_path):
        texts = sequences(20)
        return (
            write(tmp_path / "train.csv", texts),
            write(tmp_path / "test.csv", [texts[4], *sequences(9, seed=1)]),
        )

    def test_warn_says_what_to_do(self, tmp_path, log):
        train, test = self.files(tmp_path)
        data = bound(module(train, test_files=[test]))
        assert "test: 1 of 10 sequences (10.0 %) are exact copies" in log.text
        assert "on_leak: drop" in log.text
        assert data.facts["leaks"]["test"]["exact_copies"] == 1

    def test_error_stops(self, tmp_path):
        train, test = self.files(tmp_path)
        with pytest.raises(ValueError, match=r"on_leak \(error\): test: 1 of 10"):
            module(train, test_files=[test], on_leak="error").setup("fit")

    def test_drop_takes_them_out_of_training(self, tmp_path, log):
        train, test = self.files(tmp_path)
        data = bound(module(train, test_files=[test], on_leak="drop", split=Partition(val=0)))
        assert data.rows["train"].tolist() == [i for i in range(20) if i != 4]
        assert data.facts["leaks"]["test"]["dropped_from_training"] == 1
        assert 4 not in data.labels_of("train")
        assert "1 training sequences were left out, since test has copies" in log.text


class TestLengths:
    def data(self, tmp_path, **options):
        texts = [*sequences(20, 30), *sequences(10, 60, seed=1)]
        path = write(tmp_path / "x.csv", texts, set=(["train"] * 8 + ["val", "test"]) * 3)
        return module(path, split=Partition(by="column", column="set"), **options)

    def test_window_counts_them(self, tmp_path, log):
        data = bound(self.data(tmp_path), max_length=50)
        assert data.facts["sequences"] == {"train": 24, "val": 3, "test": 3}
        said = data.facts["long_sequences"]
        assert said in log.messages
        assert said.startswith("10 sequences are longer than the 50 nucleotides that the encoder")
        assert "windows" in said

    def test_a_sequence_that_just_fits_is_not_long(self, tmp_path):
        data = bound(self.data(tmp_path, too_long="error"), max_length=60)
        assert "long_sequences" not in data.facts

    def test_error_names_the_first(self, tmp_path):
        message = (
            r"x\.csv:22: the sequence has 60 nucleotides; 10 sequences are longer than the 50 nuc"
        )
        with pytest.raises(ValueError, match=message):
            bound(self.data(tmp_path, too_long="error"), max_length=50)

    def test_drop_counts_by_split(self, tmp_path, log):
        data = bound(self.data(tmp_path, too_long="drop"), max_length=50)
        assert data.facts["sequences"] == {"train": 16, "val": 2, "test": 2}
        assert "left out: 8 of train, 1 of val, 1 of test" in log.text
        assert all(len(data.sequences[row]) == 30 for row in data.splits()["train"].indices)
        data.bind(VALUE, 1022)  # another encoder takes them all
        assert data.facts["sequences"]["train"] == 24

    def test_drop_of_everything(self, tmp_path):
        with pytest.raises(ValueError, match="nothing is left of train, val, test; 30 sequences"):
            bound(self.data(tmp_path, too_long="drop"), max_length=20)

    def test_unknown_policy(self, tmp_path):
        with pytest.raises(ValueError, match=r"too_long \(crop\) must be one of window, error"):
            self.data(tmp_path, too_long="crop")


class TestNames:
    def test_numbers_never_meet_a_name_that_is_there(self):
        notes = []
        names = number_names(["a", "a", "a#2", "b", "a", "b"], notes)
        assert names == ["a", "a#3", "a#2", "b", "a#4", "b#2"]
        assert notes == [("2 names occur in several rows, such as 'a'; the later ones are called "
                         "a#2, ...")]  # fmt: skip

    def test_nothing_is_said_about_distinct_ones(self):
        notes = []
        assert number_names(["a", "b"], notes) == ["a", "b"] and not notes


def test_facts_are_plain_and_complete(tmp_path):
    data = bound(module(write(tmp_path / "x.csv", sequences(40)), id_column="y"), max_length=20)
    facts = json.loads(json.dumps(data.facts))
    assert facts == data.facts
    assert set(facts) == {
        "data", "vocabulary", "split", "leaks", "notes", "long_sequences", "sequences"
    }  # fmt: skip
    assert facts["data"] == f"y of {tmp_path / 'x.csv'}" and facts["vocabulary"] == "rna"


def test_fingerprint_names_sequences_and_vocabulary(tmp_path):
    def fingerprint(texts, labels=None, **options):
        data = module(write(tmp_path / "x.csv", texts, labels), **options)
        data.setup("fit")
        return data.fingerprint

    texts = sequences(60, 42)
    same = fingerprint(texts)
    assert same == fingerprint(texts, list(range(5, 65)))
    assert same == fingerprint([text.lower().replace("u", "t") for text in texts])
    assert same == fingerprint(texts, split=Partition(seed=5))
    others = [
        fingerprint([*texts[:-1], texts[-1][:-1]]),
        fingerprint(texts[::-1]),
        fingerprint(texts, vocabulary="rna-28"),
        fingerprint(texts, vocabulary="codon"),
    ]
    assert len({same, *others}) == 5


def test_each_split_is_described(tmp_path, log):
    sets = ["train"] * 4 + ["test"]
    path = write(tmp_path / "x.csv", sequences(5), [1, 2, 3, "", 4], set=sets)
    bound(module(path, split=Partition(by="column", column="set", val=0)))
    assert log.messages == [
        "Split by column set: train train; test test",
        (
            "test: none of 1 sequences is in training or shares 80 % of its 8-mers with a training "
            "sequence; the closest shares 0 %"
        ),
        "train: 4 sequences of 40 to 40 nucleotides",
        "  y: 3 values, mean 2, sd 0.8165, from 1 to 3, 1 missing",
        "test: 1 sequences of 40 to 40 nucleotides",
        "  y: 1 values, mean 4, sd 0, from 4 to 4, 0 missing",
    ]


def test_binding_again_changes_and_says_nothing(tmp_path, log):
    data = bound(module(write(tmp_path / "x.csv", sequences(40))))
    before, said = data.splits()["train"], len(log.messages)
    bound(data)
    assert data.splits()["train"] is before and len(log.messages) == said


def test_validation_without_a_label(tmp_path):
    labels = [1, 2, 3, 4, "", ""]
    path = write(tmp_path / "x.csv", sequences(6), labels, set=["train"] * 4 + ["val"] * 2)
    data = module(path, split=Partition(by="column", column="set"))
    with pytest.raises(ValueError, match="none of the 2 validation sequences has a label"):
        bound(data)


def test_rows_that_no_split_uses_may_have_any_label(tmp_path):
    labels = [1, 2, 3, "high"]
    path = write(tmp_path / "x.csv", sequences(4), labels, set=["train", "train", "val", "other"])
    data = bound(module(path, split=Partition(by="column", column="set")))
    assert data.facts["notes"][-2:] == ["1 rows left out: set is other", "no test rows: set names none"]  # fmt: skip  # noqa: E501
    assert data.labels_of("train").tolist() == [[1], [2]]


def test_labels_without_a_task(tmp_path):
    data = module(write(tmp_path / "x.csv", sequences(20)))
    data.setup("fit")
    with pytest.raises(ValueError, match="no task has asked for them; use a task such as Seq"):
        data.train_dataloader()


def test_every_row_comes_once_also_the_unused_and_the_long(tmp_path):
    path = write(tmp_path / "x.csv", [*sequences(20, 10), *sequences(1, 300)])
    data = module(path, tokens_per_batch=50)
    data.setup("fit")
    batches = list(data.every_row())
    assert sorted(np.concatenate([batch.indices for batch in batches])) == list(range(21))
    assert all(batch.num_sequences == 1 for batch in batches if batch.max_seqlen > 50)
    assert all(len(batch.tokens) <= 50 for batch in batches if batch.num_sequences > 1)
    assert data.num_tokens().tolist() == [12] * 20 + [302]


def test_embeddings_are_kept_beside_the_data_or_where_one_says(tmp_path):
    path = tmp_path / "x.csv"
    assert module(path).cache_folder == tmp_path / "x.csv.embeddings"
    assert module(path, embedding_folder=tmp_path / "kept").cache_folder == tmp_path / "kept"


def test_divide_without_files_is_the_partition():
    rows = Rows(["a"] * 20, sequences(20), ["x"] * 20)
    assert divide(rows, Partition()).how.startswith("by hash of the sequence: test 10 %")
