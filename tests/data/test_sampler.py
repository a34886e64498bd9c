import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data import sampler
from rnafm.data.sampler import PackSampler, permute

LENGTHS = np.random.default_rng(0).integers(3, 300, 1500)


def packs(*samplers):
    """The sequences of every pack, rank by rank."""
    return [[one.order(start, stop).tolist() for _, start, stop in one] for one in samplers]


@given(st.integers(1, 3000), st.integers(0, 2**63))
def test_permute_is_a_permutation(size, key):
    images = permute(np.arange(size, dtype=np.uint64), size, key)
    assert sorted(images.tolist()) == list(range(size))


def test_permute_gives_any_part_alone():
    positions = np.arange(5000, dtype=np.uint64)
    whole = permute(positions, 5000, 3)
    assert permute(positions[1234:1300], 5000, 3).tolist() == whole[1234:1300].tolist()


def test_permute_mixes():
    whole = permute(np.arange(10_000, dtype=np.uint64), 10_000, 1).astype(float)
    assert abs(np.corrcoef(whole, np.arange(10_000))[0, 1]) < 0.04
    assert abs(np.corrcoef(whole[:-1], whole[1:])[0, 1]) < 0.04
    other = permute(np.arange(10_000, dtype=np.uint64), 10_000, 2)
    assert (whole == other).mean() < 0.01


@given(st.integers(1, 7), st.integers(0, 5), st.integers(310, 5000), st.integers(8, 400))
def test_every_sequence_once_equal_steps_and_within_the_budget(world_size, epoch, budget, size):
    lengths = LENGTHS[:size]
    samplers = [
        PackSampler(lengths, budget, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    for one in samplers:
        one.set_epoch(epoch)
    ranks = packs(*samplers)
    assert len({len(rank) for rank in ranks} | {len(one) for one in samplers}) == 1
    seen = [sequence for rank in ranks for pack in rank for sequence in pack]
    assert sorted(seen) == list(range(size))
    assert all(0 < lengths[pack].sum() <= budget for rank in ranks for pack in rank)


def test_packs_are_filled_greedily():
    (result,) = packs(PackSampler(LENGTHS, 4096))
    margin = len(result) // 20 + 2  # the last ones are cut in two, for equally many in every epoch
    for pack, following in itertools.pairwise(result[:-margin]):
        assert LENGTHS[pack].sum() + LENGTHS[following[0]] > 4096


def test_planning_in_windows_gives_the_same_plan(monkeypatch):
    whole = PackSampler(LENGTHS, 2000).starts
    monkeypatch.setattr(sampler, "_WINDOW", 97)
    assert PackSampler(LENGTHS, 2000).starts.tolist() == whole.tolist()


def test_epochs_and_seeds_have_orders_of_their_own():
    one = PackSampler(LENGTHS, 2000, seed=1)
    first = packs(one)
    one.set_epoch(1)
    assert packs(one) != first
    one.set_epoch(0)
    assert packs(one) == first
    assert packs(PackSampler(LENGTHS, 2000, seed=2)) != first
    fixed = PackSampler(LENGTHS, 2000, seed=1, reshuffle=False)
    fixed.set_epoch(1)
    assert list(itertools.chain(*packs(fixed)[0])) == list(itertools.chain(*first[0]))


@given(st.integers(0, 60), st.integers(1, 3))
def test_a_state_continues_with_exactly_what_is_left(batches, world_size):
    def samplers():
        return [
            PackSampler(LENGTHS, 4096, rank=r, world_size=world_size) for r in range(world_size)
        ]

    before, after = samplers(), samplers()
    for one, two in zip(before, after, strict=True):
        one.set_epoch(2)
        batches = min(batches, len(one))
        two.load(one.state(batches))
        two.set_epoch(2)
        assert len(two) == len(one)
        assert two.state(batches) == one.state(batches)
    whole = packs(*before)
    assert packs(*after) == [rank[batches:] for rank in whole]
    after[0].set_epoch(3)
    before[0].set_epoch(3)
    assert packs(after[0]) == packs(before[0])


def test_unusable_data_and_budgets_are_refused():
    with pytest.raises(ValueError, match="no sequence"):
        PackSampler(LENGTHS[:0], 100)
    with pytest.raises(ValueError, match=r"tokens_per_batch \(50\) is below .* \(2\d\d tokens"):
        PackSampler(LENGTHS, 50)
    with pytest.raises(ValueError, match=r"3 sequences cannot be cut into .* each of 4 devices"):
        len(PackSampler(LENGTHS[:3], 2000, world_size=4))


@pytest.mark.parametrize("size", [45, 400])
def test_every_epoch_has_equally_many_packs(size):
    one = PackSampler(LENGTHS[:size], 1000, world_size=2)
    greedy = set()
    for epoch in range(25):
        one.set_epoch(epoch)
        greedy.add(len(one._cut(epoch, 1000)) - 1)
        assert len(one.starts) - 1 == one.num_packs == 2 * len(one)
        assert all(LENGTHS[:size][one.order(*p[1:])].sum() <= 1000 for p in one)
    assert len(greedy) > 1  # which is not so by itself
    assert one.num_packs < 1.1 * max(greedy) + 3


def test_an_order_beyond_the_margin_still_gives_as_many():
    one = PackSampler(LENGTHS, 1000)
    counts = [len(one._cut(epoch, 1000)) - 1 for epoch in range(30)]
    one.num_packs = min(counts)
    one.set_epoch(counts.index(max(counts)))
    assert len(one.starts) - 1 == min(counts)
    assert sorted(i for p in one for i in one.order(*p[1:])) == list(range(len(LENGTHS)))


def test_a_state_of_other_data_is_refused():
    state = PackSampler(LENGTHS, 4096).state(3)
    for other, name in (
        (PackSampler(LENGTHS[:-1], 4096), "sequences 1500, this run has 1499"),
        (PackSampler(LENGTHS, 4096, seed=1), "seed 0, this run has 1"),
        (PackSampler(LENGTHS, 2048), "tokens_per_batch 4096, this run has 2048"),
        (PackSampler(LENGTHS, 4096, world_size=2), "world_size 1, this run has 2"),
    ):
        with pytest.raises(ValueError, match=name):
            other.load(state)
