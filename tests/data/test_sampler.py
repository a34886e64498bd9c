import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data import cutting
from rnafm.data.order import GroupedDraws, Shuffle
from rnafm.data.sampler import PackSampler

LENGTHS = np.random.default_rng(0).integers(3, 300, 1500)


def packs(*samplers):
    """The sequences of every pack, rank by rank."""
    return [[one.order(*pack).tolist() for pack in one] for one in samplers]


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
    assert all(lengths[pack].sum() <= budget for rank in ranks for pack in rank)
    if any(not pack for rank in ranks for pack in rank):  # only where every pack has one sequence
        assert all(len(pack) <= 1 for rank in ranks for pack in rank)


def test_packs_are_filled_greedily():
    (result,) = packs(PackSampler(LENGTHS, 4096))
    margin = len(result) // 20 + 2  # the last ones are cut in two, for equally many in every epoch
    for pack, following in itertools.pairwise(result[:-margin]):
        assert LENGTHS[pack].sum() + LENGTHS[following[0]] > 4096


def test_packs_start_where_sequences_no_longer_fit():
    order = Shuffle(1500, 3)
    starts, filled = [20], 0
    for place, sequence in enumerate(order(2, 20, 1500).tolist(), 20):
        if filled + LENGTHS[sequence] > 2000:
            starts.append(place)
            filled = 0
        filled += LENGTHS[sequence]
    assert cutting.Cuts(LENGTHS, order)(2, 20, 2000).tolist() == [*starts, 1500]


def test_an_epoch_is_cut_once_for_all_samplers(monkeypatch):
    asked, fill = [], cutting.Cuts._cut
    monkeypatch.setattr(
        cutting.Cuts, "_cut", lambda self, *what: asked.append(what) or fill(self, *what)
    )
    cuts = cutting.Cuts(LENGTHS, Shuffle(1500, 0))
    for _ in range(2):
        one = PackSampler(LENGTHS, 2000, order=cuts.order, cuts=cuts)
        assert len(packs(one)[0]) == len(one)
        assert one.state(3)["position"] == one.starts[3]
    assert asked == [(0, 0, 2000)]
    for epoch in (1, 2, 2):
        one.set_epoch(epoch)
        assert len(packs(one)[0]) == len(one)
    assert asked == [(epoch, 0, 2000) for epoch in range(3)]
    with pytest.raises(ValueError, match="read-only"):
        cuts(2, 0, 2000)[0] = 1


def test_planning_in_windows_gives_the_same_plan(monkeypatch):
    whole = PackSampler(LENGTHS, 2000).starts
    for window in (97, 2):  # and where a window is smaller than a pack
        monkeypatch.setattr(cutting, "_WINDOW", window)
        assert PackSampler(LENGTHS, 2000).starts.tolist() == whole.tolist()


def test_epochs_and_seeds_have_orders_of_their_own():
    one = PackSampler(LENGTHS, 2000, order=Shuffle(1500, 1))
    first = packs(one)
    one.set_epoch(1)
    assert packs(one) != first
    one.set_epoch(0)
    assert packs(one) == first
    assert packs(PackSampler(LENGTHS, 2000, order=Shuffle(1500, 2))) != first
    fixed = PackSampler(LENGTHS, 2000, order=Shuffle(1500, 1), reshuffle=False)
    fixed.set_epoch(1)
    assert list(itertools.chain(*packs(fixed)[0])) == list(itertools.chain(*first[0]))


@given(st.integers(0, 60), st.integers(1, 3))
def test_a_state_continues_with_exactly_what_is_left(batches, world_size):
    def samplers():
        return [
            PackSampler(LENGTHS[:500], 2048, rank=r, world_size=world_size)
            for r in range(world_size)
        ]

    before, after = samplers(), samplers()
    for one, two in zip(before, after, strict=True):
        one.set_epoch(2)
        batches = min(batches, len(one))
        assert two.load(one.state(batches))
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


@pytest.mark.parametrize("size", [45, 400])
def test_every_epoch_has_equally_many_packs(size):
    one = PackSampler(LENGTHS[:size], 1000, world_size=2)
    greedy = set()
    for epoch in range(25):
        one.set_epoch(epoch)
        greedy.add(len(one._cut(epoch, 0, 1000)) - 1)
        assert len(one.starts) - 1 == one.num_packs == 2 * len(one)
        assert all(LENGTHS[:size][one.order(*p)].sum() <= 1000 for p in one)
    assert len(greedy) > 1  # which is not so by itself
    assert one.num_packs < 1.1 * max(greedy) + 3


def test_an_order_beyond_the_margin_still_gives_as_many():
    one = PackSampler(LENGTHS, 1000)
    counts = [len(one._cut(epoch, 0, 1000)) - 1 for epoch in range(30)]
    one.num_packs = min(counts)
    one.set_epoch(counts.index(max(counts)))
    assert len(one.starts) - 1 == min(counts)
    assert sorted(i for p in one for i in one.order(*p)) == list(range(len(LENGTHS)))


def test_a_state_of_other_data_is_refused():
    state = PackSampler(LENGTHS, 4096).state(3)
    twice = GroupedDraws(np.zeros(1500, np.int64), np.array([1500]), 0)
    for other, name in (
        (PackSampler(LENGTHS[:-1], 4096), "sequences 1500, this run has 1499"),
        (PackSampler(LENGTHS + 1, 4096), r"tokens \d+, this run has \d+"),
        (PackSampler(LENGTHS, 4096, order=Shuffle(1500, 1)), "seed 0, this run has 1"),
        (PackSampler(LENGTHS, 4096, order=twice), r"sampling 0, this run has \d+"),
    ):
        with pytest.raises(ValueError, match=name):
            other.load(state)


DIVISIONS = st.tuples(st.integers(1, 5), st.integers(310, 6000), st.integers(1, 3))


@given(st.integers(1, 400), st.lists(st.tuples(DIVISIONS, st.floats(0, 1)), min_size=1, max_size=6))
def test_no_sequence_is_lost_or_repeated_whatever_divides_the_epoch(size, parts):
    """Runs are killed at random steps and go on with other processes, budgets and step sizes."""
    lengths, seen, state, steps = LENGTHS[:size], [], None, set()
    for last, ((world_size, budget, accumulate), share) in zip(
        [False] * (len(parts) - 1) + [True], parts, strict=True
    ):
        samplers = [
            PackSampler(lengths, budget, rank=rank, world_size=world_size, accumulate=accumulate)
            for rank in range(world_size)
        ]
        for one in samplers:
            one.set_epoch(2)
            if state is not None:
                one.load(state)
                one.set_epoch(2)
        ranks = packs(*samplers)
        (left,) = {len(rank) for rank in ranks}
        assert left == samplers[0].left and left % accumulate == 0
        done = left if last else int(share * left) // accumulate * accumulate
        seen += [i for rank in ranks for pack in rank[:done] for i in pack]
        assert all(lengths[pack].sum() <= budget for rank in ranks for pack in rank)
        states = [one.state(one.done + done) for one in samplers]
        assert all(each == states[0] for each in states)
        state = states[0]
        steps.add(state["position"])
    assert sorted(seen) == list(range(size))
    assert state["position"] == size


@given(st.integers(1, 4), st.integers(0, 20), st.integers(0, 20), DIVISIONS)
def test_a_part_that_was_divided_anew_resumes_bit_for_bit(world_size, first, second, other):
    def resumed(state):
        ranks, budget, accumulate = other
        samplers = [
            PackSampler(LENGTHS[:400], budget, rank=r, world_size=ranks, accumulate=accumulate)
            for r in range(ranks)
        ]
        same = {one.load(state) for one in samplers}
        return samplers, same

    before = PackSampler(LENGTHS[:400], 4096, world_size=world_size)
    state = before.state(min(first, len(before) - 1))
    samplers, _ = resumed(state)
    whole = packs(*samplers)
    done = min(second * other[2], samplers[0].left)
    again, same = resumed(samplers[0].state(samplers[0].done + done))
    assert same == {True}
    assert packs(*again) == [rank[done:] for rank in whole]


def test_what_a_complete_epoch_leaves_is_nothing_for_any_division():
    one = PackSampler(LENGTHS, 4096)
    other = PackSampler(LENGTHS, 2048, world_size=3)
    assert not other.load(one.state(len(one)))
    assert other.left == 0 and list(other) == []
    other.set_epoch(1)
    assert sorted(i for p in other for i in other.order(*p)) != []
    assert other.left == len(other)
