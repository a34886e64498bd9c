"""Partitions: every row on one side, units whole, and said how."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnafm.data.partition import Partition, partition

RNG = np.random.default_rng(0)
SEQUENCES = ["".join(letters) for letters in RNG.choice(list("ACGU"), (400, 30))]
FAMILIES = [f"f{number}" for number in RNG.integers(0, 20, 400)]
COLUMNS = {"family": FAMILIES, "part": ["TR0", "VL0", "TS0", "new"] * 100}

texts = st.lists(st.text("ACGU", min_size=1, max_size=3), min_size=30, max_size=80)
groups = st.lists(st.sampled_from("abcdefgh"), min_size=30, max_size=80)


def sides(result, count):
    """Side of each row; fails if a row has two, or the rows of a side do not ascend."""
    found = [""] * count
    for side, rows in result.rows.items():
        assert rows.dtype == np.int64 and (np.diff(rows) > 0).all()
        for row in rows:
            assert not found[row]
            found[row] = side
    return found


class TestHash:
    def test_shares(self):
        sequences = [f"{i:b}" for i in range(5000)]
        result = partition(Partition(val=0.2, test=0.3), sequences, {})
        sizes = {side: len(rows) / 5000 for side, rows in result.rows.items()}
        assert sizes == pytest.approx({"train": 0.5, "val": 0.2, "test": 0.3}, abs=0.02)
        assert "" not in sides(result, 5000) and not result.notes
        assert result.how == "by hash of the sequence: test 30 %, val 20 %, seed 0"

    def test_the_same_on_every_machine(self):
        found = sides(partition(Partition(val=0.3, test=0.3), SEQUENCES[:12], {}), 12)
        wanted = "val train train val val val train train train train test val"
        assert " ".join(found) == wanted

    @given(st.permutations(range(60)))
    @settings(max_examples=20)
    def test_neither_order_nor_company_matter(self, order):
        split = Partition(val=0.2, test=0.2)
        found = sides(partition(split, SEQUENCES, {}), 400)
        moved = sides(partition(split, [SEQUENCES[i] for i in order], {}), 60)
        assert moved == [found[i] for i in order]

    @given(texts, st.integers(0, 5))
    def test_equal_sequences_are_on_one_side(self, sequences, fold):
        if len(set(sequences)) < 6:
            return
        mixed = [
            text.lower().replace("u", "t") if i % 2 else text for i, text in enumerate(sequences)
        ]
        found = sides(partition(Partition(folds=6, fold=fold, val=0), mixed, {}), len(mixed))
        side_of = dict(zip(sequences, found, strict=True))
        assert found == [side_of[text] for text in sequences]

    def test_seeds(self):
        first, second = (partition(Partition(seed=seed), SEQUENCES, {}) for seed in (0, 1))
        assert first.rows["test"].tolist() != second.rows["test"].tolist()

    def test_no_validation_and_no_test(self):
        result = partition(Partition(val=0, test=0), SEQUENCES, {})
        assert [len(result.rows[side]) for side in ("train", "val", "test")] == [400, 0, 0]

    def test_empty_sides(self):
        with pytest.raises(ValueError, match=r"split\.test: no sequence is held out .* raise the"):
            partition(Partition(test=0.0001), SEQUENCES, {})
        with pytest.raises(ValueError, match="there are no rows to split; look at"):
            partition(Partition(), [], {})


class TestGroups:
    @given(
        groups, st.sampled_from([0, 0.1, 0.4]), st.sampled_from([0, 0.1, 0.4]), st.integers(0, 3)
    )
    def test_whole_groups_and_every_row(self, values, val, test, seed):
        if len(set(values)) < 3:
            return
        split = Partition(by="group", column="g", val=val, test=test, seed=seed)
        result = partition(split, ["A"] * len(values), {"g": values})
        found = sides(result, len(values))
        assert len(set(zip(values, found, strict=True))) == len(set(values))
        wanted = {"train"} | {side for side, share in (("val", val), ("test", test)) if share}
        assert set(found) == wanted

    @given(st.permutations(range(400)))
    @settings(max_examples=10)
    def test_order_does_not_matter(self, order):
        split = Partition(by="group", column="family")
        found = sides(partition(split, SEQUENCES, COLUMNS), 400)
        moved = [SEQUENCES[i] for i in order], {"family": [FAMILIES[i] for i in order]}
        assert sides(partition(split, *moved), 400) == [found[i] for i in order]

    def test_the_share_is_as_near_as_groups_allow(self):
        values = ["big"] * 60 + ["a"] * 10 + ["b"] * 10 + ["c"] * 10 + ["d"] * 10
        for seed in range(10):
            split = Partition(by="group", column="g", val=0.1, test=0.1, seed=seed)
            rows = partition(split, ["A"] * 100, {"g": values}).rows
            assert len(rows["val"]) == len(rows["test"]) == 10

    def test_a_share_between_two_numbers_of_groups(self):
        split = Partition(by="group", column="g", val=0, test=20 / 120)
        rows = partition(split, ["A"] * 120, {"g": list("abcdefghij") * 12}).rows
        assert len(rows["test"]) == 24  # nearer to 20 than 12

    def test_rows_without_a_group_are_for_training(self):
        values = ["", *FAMILIES[1:]]
        for split in (Partition(by="group", column="g", folds=4, fold=i) for i in range(4)):
            result = partition(split, SEQUENCES, {"g": values})
            assert 0 in result.rows["train"]
            assert result.notes[0] == "1 rows without g are for training"

    def test_hold_out(self):
        split = Partition(by="group", column="family", hold_out=["f3", "f7"], val=0.2)
        result = partition(split, SEQUENCES, COLUMNS)
        assert result.rows["test"].tolist() == [
            i for i, family in enumerate(FAMILIES) if family in ("f3", "f7")
        ]
        val, train = ({FAMILIES[i] for i in result.rows[side]} for side in ("val", "train"))
        assert val and not val & train
        assert result.how == "by group (family): test f3, f7, val 20 % of the rest, seed 0"
        assert result.notes[0] == "test: family f3, f7"
        assert result.notes[1] == f"val: family {', '.join(sorted(val))}"

    def test_hold_out_of_an_unknown_group(self):
        split = Partition(by="group", column="g", hold_out=["5S"])
        match = r"split\.hold_out \(5S\): column g has no such group; it has: 5s, tRNA$"
        with pytest.raises(ValueError, match=match):
            partition(split, ["A"] * 3, {"g": ["5s", "tRNA", ""]})

    def test_too_few_groups(self):
        split = Partition(by="group", column="g")
        with pytest.raises(ValueError, match=r"split\.val .*too few groups, 1 to choose from; set"):
            partition(split, ["A", "C"], {"g": ["a", "b"]})
        nothing_left = Partition(by="group", column="g", hold_out=["a", "b"], val=0)
        with pytest.raises(ValueError, match="no rows are for training"):
            partition(nothing_left, ["A", "C"], {"g": ["a", "b"]})

    def test_a_group_stays_for_training(self):
        split = Partition(by="group", column="g", val=0, test=0.9)
        for seed in range(5):
            rows = partition(
                Partition(**{**vars(split), "seed": seed}), ["A"] * 100, {"g": ["a"] + ["b"] * 99}
            ).rows
            assert len(rows["train"]) and len(rows["test"])


class TestFolds:
    @pytest.mark.parametrize("how", [{}, {"by": "group", "column": "family"}])
    @pytest.mark.parametrize("seed", [0, 1])
    def test_each_row_is_tested_once(self, how, seed):
        results = [
            partition(Partition(**how, folds=5, fold=fold, seed=seed), SEQUENCES, COLUMNS)
            for fold in range(5)
        ]
        tested = np.concatenate([result.rows["test"] for result in results])
        assert sorted(tested) == list(range(400))
        sizes = [len(result.rows["test"]) for result in results]
        largest = max(FAMILIES.count(family) for family in FAMILIES) if how else 1
        assert max(sizes) - min(sizes) <= largest
        for result in results:
            assert "" not in sides(result, 400)
            assert abs(len(result.rows["val"]) / (400 - len(result.rows["test"])) - 0.1) < 0.05

    @given(texts, st.integers(2, 5))
    def test_balance_with_copies(self, sequences, folds):
        if len(set(sequences)) < folds:
            return
        sizes = [
            len(partition(Partition(folds=folds, fold=i, val=0), sequences, {}).rows["test"])
            for i in range(folds)
        ]
        assert sum(sizes) == len(sequences)
        assert max(sizes) - min(sizes) <= max(sequences.count(text) for text in sequences)

    def test_seeds(self):
        first, second = (
            partition(Partition(folds=5, seed=seed), SEQUENCES, {}).rows["test"] for seed in (0, 1)
        )
        assert 5 < len(np.intersect1d(first, second)) < 30  # 16 by chance

    def test_how(self):
        how = partition(Partition(folds=5, fold=2), SEQUENCES, {}).how
        wanted = "by hash of the sequence: test fold 2 of 0 to 4, val 10 % of the rest, seed 0"
        assert how == wanted

    def test_more_folds_than_units(self):
        split = Partition(by="group", column="family", folds=21)
        with pytest.raises(ValueError, match=r"split\.folds \(21\): there are only 20 groups; use"):
            partition(split, SEQUENCES, COLUMNS)


class TestColumn:
    def test_names(self):
        names = {"train": ["TR0"], "val": ["VL0"], "test": ["TS0"]}
        result = partition(Partition(by="column", column="part", names=names), SEQUENCES, COLUMNS)
        assert sides(result, 400)[:4] == ["train", "val", "test", ""]
        assert result.notes == ["100 rows left out: part is new"]
        assert result.how == "by column part: train TR0; val VL0; test TS0"

    def test_usual_names(self):
        values = [
            "train",
            "Training",
            "val",
            "valid",
            "VALIDATION",
            "dev",
            "test",
            " Test",
            "x",
            "",
        ]
        result = partition(Partition(by="column", column="s"), ["A"] * 10, {"s": values})
        assert sides(result, 10) == ["train"] * 2 + ["val"] * 4 + ["test"] * 2 + ["", ""]
        assert result.notes == ["2 rows left out: s is (empty), x"]

    def test_validation_rows_by_hash(self):
        columns = {"s": ["train", "test"] * 200}
        result = partition(Partition(by="column", column="s", val=0.2), SEQUENCES, columns)
        assert result.rows["test"].tolist() == list(range(1, 400, 2))
        assert 20 < len(result.rows["val"]) < 60 and not (result.rows["val"] % 2).any()
        assert result.how.endswith("; val 20 % of train by hash of the sequence, seed 0")
        assert result.notes == ["s names no validation rows: they were taken from train by hash"]
        result = partition(Partition(by="column", column="s", val=0), SEQUENCES, columns)
        assert not len(result.rows["val"])

    def test_no_test_rows(self):
        columns = {"s": ["train", "val"] * 200}
        result = partition(Partition(by="column", column="s"), SEQUENCES, columns)
        assert not len(result.rows["test"])
        assert result.notes == ["no test rows: s names none"]

    @pytest.mark.parametrize(
        ("names", "match"),
        [
            ({"train": ["TR"]}, r"names\.train \(TR\): column part has no such value; .* TR0, TS0"),
            ({"train": ["TR0"], "val": ["TR0"]}, "gives TR0 to train and to val; choose one"),
            ({"test": ["TS0"]}, r"no rows are for training; say which values .* VL0, new"),
            ({}, r"split\.column \(part\): no rows are for training"),
        ],
    )
    def test_wrong_names(self, names, match):
        with pytest.raises(ValueError, match=match):
            partition(Partition(by="column", column="part", names=names), SEQUENCES, COLUMNS)

    @pytest.mark.parametrize("by", ["column", "group"])
    def test_no_such_column(self, by):
        match = r"split\.column \(fam\): no such column; there are: family, part"
        with pytest.raises(ValueError, match=match):
            partition(Partition(by=by, column="fam"), SEQUENCES, COLUMNS)


class TestClusters:
    def test_whole_clusters(self):
        family = ["".join(SEQUENCES[i // 4 * 4 :][:3]) for i in range(400)]  # each 4 times
        changed = [text[:i] + "A" + text[i + 1 :] for i, text in enumerate(family[:80])]
        sequences = changed + family[80:]
        split = Partition(by="cluster", method="k-mers", val=0.2, test=0.2)
        result = partition(split, sequences, {})
        found = sides(result, 400)
        assert all(len(set(found[i : i + 4])) == 1 for i in range(0, 400, 4))
        assert {side: len(rows) for side, rows in result.rows.items()} == {
            "train": 240,
            "val": 80,
            "test": 80,
        }
        assert result.how.startswith("by cluster at 80 % identity (built-in, shared 8-mers): test")
        assert result.notes == ["100 clusters of 400 rows, the largest of 4"]
        moved = sides(partition(split, sequences[::-1], {}), 400)
        assert moved == found[::-1]


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"by": "family"}, r"split\.by \(family\) must be one of hash, column, group, cluster"),
        ({"by": "group"}, r"split\.by \(group\) needs split\.column"),
        ({"column": "family"}, r"\(family\) is not read with split\.by hash; set split\.by: group"),
        ({"val": 1.0}, r"split\.val \(1\.0\) must be a share from 0 to below 1"),
        ({"test": -0.1}, r"split\.test \(-0\.1\) must be a share"),
        ({"test": float("nan")}, r"split\.test \(nan\) must be a share"),
        ({"val": 0.5, "test": 0.5}, r"\(0\.5\) and split\.test \(0\.5\) leave nothing"),
        ({"folds": 5, "fold": 5}, r"split\.fold \(5\) of split\.folds \(5\): .* count from 0"),
        ({"folds": 1}, "at least 2 folds"),
        ({"fold": 2}, r"split\.fold \(2\) of split\.folds \(0\)"),
        ({"hold_out": ["a"]}, r"split\.hold_out goes with split\.by group, not hash"),
        ({"names": {"train": ["a"]}}, r"split\.names goes with split\.by column, not hash"),
        ({"by": "column", "column": "s", "folds": 5}, r"\(5\) and split\.by column both say"),
        (
            {"by": "group", "column": "g", "folds": 5, "hold_out": ["a"]},
            r"\(5\) and split\.hold_out both say which rows are for test; use one",
        ),
        (
            {"by": "column", "column": "s", "names": {"dev": ["a"]}},
            r"split\.names has dev; it can have train, val, test",
        ),
    ],
)
def test_fields_that_contradict(fields, match):
    with pytest.raises(ValueError, match=match):
        Partition(**fields)
