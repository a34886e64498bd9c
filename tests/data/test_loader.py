import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.batch import Batch
from rnafm.data.counter import fold, mix
from rnafm.data.loader import PackDataset, PackLoader, _Arrays
from rnafm.data.mixture import Mixture
from rnafm.data.order import GroupedDraws, Shuffle
from rnafm.data.vocabulary import Vocabulary

RNA = Vocabulary.named("rna")
LENGTHS = np.random.default_rng(1).integers(1, 80, 300)


class Stored(SimpleNamespace):
    def __len__(self):
        return len(self.lengths)


def stored(lengths):
    """Sequence i consists of ids that tell i and the place: enough to see any mix-up."""
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.concatenate([6 + (np.arange(n) * 3 + i) % 4 for i, n in enumerate(lengths)])
    return Stored(tokens=tokens.astype(np.uint8), offsets=offsets, lengths=lengths, vocabulary=RNA)


@pytest.fixture
def store():
    return stored(LENGTHS)


def dataset(store, max_length=100, seed=0, indices=None):
    indices = np.arange(300) if indices is None else indices
    return PackDataset(Mixture([store]), indices, max_length, Shuffle(len(indices), seed))


def sequences(batch):
    """Index -> tokens without the special ones, checked to be where they belong."""
    result = {}
    for number, index in enumerate(batch.indices.tolist()):
        start, stop = batch.cu_seqlens[number : number + 2].tolist()
        tokens = batch.tokens[start:stop].tolist()
        assert tokens[0] == RNA.cls_id and tokens[-1] == RNA.eos_id
        result[index] = tokens[1:-1]
    assert batch.cu_seqlens[-1] == len(batch.tokens)
    assert batch.max_seqlen == int(batch.cu_seqlens.diff().max())
    return result


def test_an_epoch_holds_every_sequence_whole(store):
    seen = {}
    for batch in PackLoader(dataset(store), 700):
        assert len(batch.tokens) <= 700
        assert batch.cu_seqlens.diff().sort().values.equal(batch.cu_seqlens.diff())
        seen.update(sequences(batch))
    assert sorted(seen) == list(range(300))
    for index, tokens in seen.items():
        begin, end = store.offsets[index : index + 2]
        assert tokens == store.tokens[begin:end].tolist()


def test_a_split_holds_its_own_sequences_only(store):
    chosen = np.arange(5, 300, 7)
    seen = [
        i for batch in PackLoader(dataset(store, indices=chosen), 700) for i in sequences(batch)
    ]
    assert sorted(seen) == chosen.tolist()


def test_long_sequences_are_cropped_to_windows_that_change_with_the_epoch(store):
    loader = PackLoader(dataset(store, max_length=20), 200)
    windows = []
    for epoch in range(25):
        loader.sampler.set_epoch(epoch)
        windows.append({i: s for batch in loader for i, s in sequences(batch).items()})
    for index in range(300):
        begin, end = store.offsets[index : index + 2]
        whole = store.tokens[begin:end].tolist()
        length = min(len(whole), 20)
        allowed = {tuple(whole[i : i + length]) for i in range(len(whole) - length + 1)}
        seen = {tuple(epoch[index]) for epoch in windows}
        assert seen <= allowed
        assert len(seen) > 1 or len(allowed) == 1


def test_all_windows_are_equally_likely(store):
    index, epochs = int(np.argmax(LENGTHS)), 1500
    room = int(LENGTHS[index])
    single = dataset(store, max_length=1, indices=np.array([index]))
    begins = [int(single[(epoch, 0, 1)].tokens[1]) for epoch in range(epochs)]
    expected = np.bincount(
        store.tokens[store.offsets[index] : store.offsets[index + 1]], minlength=10
    )
    counts = np.bincount(begins, minlength=10)
    assert np.abs(counts / epochs - expected / room).max() < 0.05


def slowly(stores, indices, max_length, order, pack):
    """What a batch is, sequence by sequence: (tokens, cu_seqlens, indices)."""
    total, rows = sum(map(len, stores)), []
    for drawn in order(*pack).tolist():
        again, place = divmod(drawn, len(indices))
        index = local = int(indices[place])
        number = index + again * total
        for store in stores:
            if local < len(store):
                break
            local -= len(store)
        whole = store.tokens[store.offsets[local] : store.offsets[local + 1]].tolist()
        room = max(len(whole) - max_length, 0) + 1
        key = np.array([number ^ fold(order.seed, pack[0], 1)], np.uint64)
        skipped = int(mix(key)[0]) % room
        rows.append((whole[skipped : skipped + max_length], number))
    rows.sort(key=lambda row: len(row[0]))  # which leaves equals where they are
    tokens = [i for row, _ in rows for i in (RNA.cls_id, *row, RNA.eos_id)]
    return tokens, np.cumsum([0, *(len(row) + 2 for row, _ in rows)]), [n for _, n in rows]


@given(st.integers(1, 90), st.integers(0, 4), st.booleans(), st.booleans())
def test_batches_are_those_of_the_definition(max_length, epoch, several, grouped):
    """Bit for bit: runs that go on after an update of the package must find the same batches."""
    stores = [stored(LENGTHS[:200]), stored(LENGTHS[200:])] if several else [stored(LENGTHS)]
    indices = np.flatnonzero(np.arange(300) % 7 != 3)
    order = Shuffle(len(indices), 3)
    if grouped:
        order = GroupedDraws(np.arange(len(indices)) % 3, np.array([5, 400, 90]), 3)
    data = PackDataset(Mixture(stores), indices, max_length, order)
    for start in (0, 17, 30, order.size - 9):
        pack = epoch, start, min(start + 13, order.size)
        batch = data[pack]
        tokens, cu_seqlens, numbers = slowly(stores, indices, max_length, order, pack)
        assert batch.tokens.tolist() == tokens and batch.tokens.dtype == torch.uint8
        assert batch.cu_seqlens.tolist() == cu_seqlens.tolist()
        assert batch.indices.tolist() == numbers
        assert batch.max_seqlen == max(np.diff(cu_seqlens))
        assert batch.key == fold(3, epoch, 2) and not batch.filler


def test_loaders_of_a_split_share_what_was_cut(store):
    data = dataset(store)
    first, second = PackLoader(data, 700), PackLoader(data, 700)
    assert first.sampler._cut is second.sampler._cut is data.cuts
    assert first.sampler.lengths is second.sampler.lengths  # once in memory
    assert data.lengths().tolist() == (LENGTHS + 2).tolist()


def test_a_worker_gets_a_dataset_without_what_the_main_process_keeps(store):
    data = dataset(store)
    batches = list(PackLoader(data, 700))
    state = data.__getstate__()
    assert set(state) == {"stores", "indices", "max_length", "order"}
    copy = object.__new__(PackDataset)
    copy.__dict__.update(state)
    for batch, again in zip(batches, PackLoader(copy, 700), strict=True):
        assert again.tokens.equal(batch.tokens)


def test_the_same_seed_and_epoch_give_the_same_batches_with_workers(store):
    def batches(**options):
        loader = PackLoader(dataset(store, max_length=30), 500, **options)
        loader.sampler.set_epoch(3)
        return [[part.tolist() if hasattr(part, "tolist") else part for part in b] for b in loader]

    assert batches() == batches(num_workers=2)
    assert batches() == batches()


def test_batches_are_the_same_on_their_way_from_a_worker(store, monkeypatch):
    batch = dataset(store)[0, 3, 20]._replace(labels=torch.randn(17, 2), filler=True)
    sent = pickle.loads(pickle.dumps(_Arrays(batch)))  # noqa: S301  # what a pipe does
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda one: pinned.append(one) or one)
    for came in (sent.tensors(), sent.pin_memory()):
        assert isinstance(came, Batch)
        for part, expected in zip(came, batch, strict=True):
            if isinstance(expected, torch.Tensor):
                assert part.equal(expected) and part.dtype == expected.dtype
                assert part.numpy().flags.writeable
            else:
                assert part == expected
    assert len(pinned) == 4


def test_batches_of_ranks_together_are_those_of_one_process(store):
    one = [sequences(batch) for batch in PackLoader(dataset(store, max_length=30), 500)]
    ranks = [
        [sequences(b) for b in PackLoader(dataset(store, max_length=30), 500, rank=r, world_size=2)]
        for r in range(2)
    ]
    assert len(ranks[0]) == len(ranks[1])
    together = [batch for pair in zip(*ranks, strict=True) for batch in pair]
    merged = {i: s for batch in together for i, s in batch.items()}
    assert merged == {i: s for batch in one for i, s in batch.items()}
    assert together[:-2] == one[: len(together) - 2]  # the last packs may be cut in two


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_resumes_behind_the_last_batch_handed_out(store, workers):
    def loader():
        return PackLoader(dataset(store), 700, num_workers=workers)

    whole = [b.indices.tolist() for b in loader()]
    first, second = loader(), loader()
    batches = iter(first)
    seen = [next(batches).indices.tolist() for _ in range(5)]
    second.load_state_dict(first.state_dict())
    second.sampler.set_epoch(0)
    assert len(second) == len(whole)
    assert seen + [b.indices.tolist() for b in second] == whole
    second.sampler.set_epoch(1)
    assert len(list(second)) == len(second)
