"""Labelled sequences as batches: every label stays with its nucleotide, whatever the pack."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.labelled_dataset import LabelledDataset
from rnafm.data.loader import PackLoader
from rnafm.data.order import Shuffle
from rnafm.data.vocabulary import Vocabulary

RNA = Vocabulary.named("rna")
LENGTHS = np.random.default_rng(1).integers(1, 60, 120)
NUCLEOTIDES = np.array(RNA.standard_ids)


def code(row, places):
    """What stands at places of a row, so that any mix-up shows."""
    return (row * 7 + places * 3 + places // 4) % 4


def tokens_of(lengths=LENGTHS, dtype=np.uint8):
    return [
        np.array([RNA.cls_id, *NUCLEOTIDES[code(row, np.arange(n))], RNA.eos_id], dtype)
        for row, n in enumerate(lengths)
    ]


def token_values(lengths=LENGTHS):
    """Row and place of each nucleotide."""
    return [
        np.stack([np.full(n, row), np.arange(n)], 1).astype(np.float32)
        for row, n in enumerate(lengths)
    ]


def dataset(labels=None, level="sequence", lengths=LENGTHS, indices=None, **options):
    indices = np.arange(len(lengths)) if indices is None else np.array(indices)
    return LabelledDataset(tokens_of(lengths), indices, labels, level=level, **options)


def parts(batch):
    """Row, start and stop of each sequence in a batch, checked to be whole."""
    for number, row in enumerate(batch.indices.tolist()):
        start, stop = batch.cu_seqlens[number : number + 2].tolist()
        tokens = batch.tokens[start:stop].tolist()
        assert tokens[0] == RNA.cls_id and tokens[-1] == RNA.eos_id
        assert tokens[1:-1] == NUCLEOTIDES[code(row, np.arange(len(tokens) - 2))].tolist()
        yield row, start, stop
    assert batch.cu_seqlens[-1] == len(batch.tokens)
    assert batch.max_seqlen == int(batch.cu_seqlens.diff().max())


class TestBatches:
    @pytest.mark.parametrize("dtype", [np.uint8, np.int64])
    def test_whole_sequences_shortest_first(self, dtype):
        data = LabelledDataset(tokens_of(dtype=dtype), np.arange(120), None, level="sequence")
        batch = data[0, 10, 90]
        assert batch.tokens.dtype == torch.from_numpy(np.empty(0, dtype)).dtype
        assert batch.cu_seqlens.dtype == torch.int32 and batch.indices.dtype == torch.int64
        assert batch.labels is None
        sizes = batch.cu_seqlens.diff()
        assert sizes.sort().values.equal(sizes)
        assert [stop - start - 2 for _, start, stop in parts(batch)] == LENGTHS[
            batch.indices
        ].tolist()

    def test_rows_of_equal_length_keep_their_order(self):
        batch = dataset(lengths=[5] * 30)[0, 3, 20]
        assert batch.indices.tolist() == Shuffle(30, 0)(0, 3, 20).tolist()

    def test_an_epoch_holds_the_split_once(self):
        rows = np.arange(5, 120, 3)
        loader = PackLoader(dataset(indices=rows), 200)
        epochs = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            batches = list(loader)
            assert all(len(batch.tokens) <= 200 for batch in batches)
            epochs.append([row for batch in batches for row, *_ in parts(batch)])
            assert sorted(epochs[-1]) == rows.tolist()
        assert epochs[0] != epochs[1]

    def test_order_and_key_depend_on_seed_and_epoch(self):
        data = dataset(seed=3)
        assert data.order.seed == 3
        same = dataset(seed=3)[2, 0, 50]
        assert data[2, 0, 50].indices.equal(same.indices)
        assert data[2, 0, 50].key == same.key
        others = [data[1, 0, 50], dataset(seed=4)[2, 0, 50]]
        assert not any(batch.indices.equal(same.indices) for batch in others)
        assert len({same.key, *(batch.key for batch in others)}) == 3

    def test_workers_change_nothing(self):
        labels = token_values()
        batches = [
            list(PackLoader(dataset(labels, "token"), 300, num_workers=workers))
            for workers in (0, 2)
        ]
        for one, two in zip(*batches, strict=True):
            assert one.tokens.equal(two.tokens) and one.indices.equal(two.indices)
            assert torch.equal(one.labels.nan_to_num(-1), two.labels.nan_to_num(-1))

    def test_input_stays_as_it_is(self):
        rows = np.arange(120)
        data = dataset(indices=rows)
        data[0, 0, 5].indices.fill_(0)
        assert data.indices.tolist() == rows.tolist()


class TestCosts:
    def test_tokens(self):
        assert dataset().lengths().tolist() == (LENGTHS + 2).tolist()
        assert dataset(indices=[7, 2]).lengths().tolist() == (LENGTHS[[7, 2]] + 2).tolist()
        assert len(dataset(indices=[7, 2])) == 2

    def test_pairs(self):
        squares = (LENGTHS**2).tolist()
        assert dataset(level="pairs").lengths().tolist() == squares
        assert dataset(level="pairs").lengths().tolist() == squares
        assert dataset(lengths=[60_000], level="pairs").lengths().tolist() == [3_600_000_000]

    def test_a_sequence_above_the_budget_goes_alone(self):
        loader = PackLoader(dataset(level="pairs", budget=1500), 1500)
        alone = 0
        for batch in loader:
            squares = [(stop - start - 2) ** 2 for _, start, stop in parts(batch)]
            assert sum(squares) <= 1500 or len(squares) == 1
            alone += sum(squares) > 1500
        assert alone == (LENGTHS**2 > 1500).sum() > 10

    def test_splits_without_rows(self):
        data = dataset(indices=np.empty(0, np.int64))
        assert len(data) == len(data.lengths()) == 0


class TestLabels:
    def test_of_sequences(self):
        values = [np.array([row, -row], np.float32) for row in range(120)]
        batch = dataset(values)[0, 20, 60]
        assert batch.labels.dtype == torch.float32
        assert batch.labels.tolist() == [[row, -row] for row in batch.indices.tolist()]

    def test_classes_of_sequences(self):
        batch = dataset([np.array(row % 5 - 100) for row in range(120)])[0, 20, 60]
        assert batch.labels.dtype == torch.int64
        assert batch.labels.equal(batch.indices % 5 - 100)

    def test_classes_of_tokens(self):
        labels = [code(row, np.arange(n)) for row, n in enumerate(LENGTHS)]
        batch = dataset(labels, "token")[0, 20, 60]
        assert batch.labels.dtype == torch.int64
        special = (batch.tokens == RNA.cls_id) | (batch.tokens == RNA.eos_id)
        assert (batch.labels == -100).equal(special)
        expected = torch.from_numpy(NUCLEOTIDES)[batch.labels[~special]]
        assert expected.equal(batch.tokens[~special].long())

    @given(st.data())
    def test_a_label_belongs_to_its_nucleotide(self, data):
        """The label of token k is that of nucleotide k - 1 of its sequence, whatever the pack."""
        lengths = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=20))
        rows = data.draw(st.permutations(range(len(lengths))))
        rows = rows[: data.draw(st.integers(1, len(rows)))]
        start = data.draw(st.integers(0, len(rows) - 1))
        stop = data.draw(st.integers(start + 1, len(rows)))
        made = dataset(
            token_values(lengths),
            "token",
            lengths,
            rows,
            seed=data.draw(st.integers(0, 9)),
        )
        batch = made[data.draw(st.integers(0, 9)), start, stop]
        assert batch.labels.dtype == torch.float32
        assert batch.labels.shape == (len(batch.tokens), 2)
        for row, begin, end in parts(batch):
            own = batch.labels[begin:end]
            assert own[[0, -1]].isnan().all()
            assert own[1:-1].tolist() == [[row, place] for place in range(lengths[row])]

    def test_pairs(self):
        labels = [
            np.stack([np.arange(n // 3), n - 1 - np.arange(n // 3)], 1)
            for row, n in enumerate(LENGTHS)
        ]
        batch = dataset(labels, "pairs")[0, 0, 120]
        assert batch.labels.dtype == torch.int64
        for number, row in enumerate(batch.indices.tolist()):
            own = batch.labels[batch.labels[:, 0] == number, 1:]
            assert own.tolist() == labels[row].tolist()
        assert len(batch.labels) == sum(len(labels[row]) for row in batch.indices.tolist())
        assert any(len(labels[row]) == 0 for row in batch.indices.tolist())

    def test_no_pairs_at_all(self):
        batch = dataset([np.empty((0, 2), np.int64)] * 120, "pairs")[0, 0, 9]
        assert batch.labels.shape == (0, 3) and batch.labels.dtype == torch.int64


class TestRefusals:
    def test_labels_of_other_tokens(self):
        for size in (1, 6):  # 1 would spread over the whole sequence
            labels = [np.zeros(5), np.zeros(size)]
            match = rf"^row 1: {size} labels for a sequence of 5 tokens"
            with pytest.raises(ValueError, match=match):
                dataset(labels, "token", [5, 5])
        assert len(dataset(labels, "token", [5, 5], [0])) == 1

    def test_pairs_outside_of_the_sequence(self):
        for pair in ([0, 5], [-1, 3]):
            with pytest.raises(
                ValueError, match=r"^row 0: pairs of the .* of 5; count them from 0"
            ):
                dataset([np.array([[1, 4], pair])], "pairs", [5])
