"""Orders of epochs: permutations, and draws from groups whose members take turns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data import order as order_module
from rnafm.data.counter import fold, mix
from rnafm.data.order import GroupedDraws, ReadAhead, Shuffle, permute


@given(st.integers(1, 3000), st.integers(0, 2**63))
def test_permute_is_a_permutation(size, key):
    images = permute(np.arange(size, dtype=np.uint64), size, key)
    assert sorted(images.tolist()) == list(range(size))


def walked(position, size, key):
    """One position, with the round functions written out."""
    bits = max(2, (size - 1).bit_length())
    low_bits, high_bits = bits // 2, bits - bits // 2
    while True:
        high, low = position >> low_bits, position & (2**low_bits - 1)
        for turn in range(6):
            half, width = (high, low_bits) if turn % 2 else (low, high_bits)
            word = np.array([half ^ fold(key, turn)], np.uint64)
            mixed = int(mix(word)[0]) & (2**width - 1)
            high, low = (high, low ^ mixed) if turn % 2 else (high ^ mixed, low)
        position = high << low_bits | low
        if position < size:
            return position


@given(st.integers(1, 2**36), st.integers(0, 2**64 - 1), st.data())
def test_permute_is_the_network_that_it_says(size, key, data):
    """Runs that go on after an update of the package must find the same order."""
    positions = data.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=4))
    found = permute(np.array(positions, np.uint64), size, key)
    assert found.tolist() == [walked(position, size, key) for position in positions]


def test_permute_is_what_it_was():
    assert permute(np.arange(6, dtype=np.uint64), 6, 7).tolist() == [2, 5, 4, 3, 0, 1]
    found = permute(np.array([0, 39_999_999], np.uint64), 40_000_000, 2**63)
    assert found.tolist() == [19447870, 11250882]


@given(
    st.integers(1, 60),
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.integers(1, 9)), max_size=12),
    st.integers(1, 20),
)
def test_reading_ahead_gives_the_order(size, reads, block):
    order = Shuffle(size, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_module, "_BLOCK", block)
        ahead = ReadAhead(order)
        for epoch, place, count in reads:
            start = int(place * (size - 1))
            stop = min(start + count, size)
            assert ahead(epoch, start, stop).tolist() == order(epoch, start, stop).tolist()
            following = min(stop + count, size)
            if following > stop:
                found = ahead(epoch, stop, following).tolist()
                assert found == order(epoch, stop, following).tolist()


@pytest.mark.parametrize(("apart", "sizes"), [(1, [32_768]), (40, [100] * 30)])
def test_only_what_is_mostly_used_is_read_ahead(apart, sizes):
    asked = []

    class Asked(Shuffle):
        def __call__(self, *what):
            asked.append(what[2] - what[1])
            return super().__call__(*what)

    ahead = ReadAhead(Asked(200_000, 0))
    for start in range(100 * apart, 3100 * apart, 100 * apart):
        ahead(0, start, start + 100)
    assert asked == sizes


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


GROUPS = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 40)), min_size=1, max_size=8).filter(
    lambda groups: any(draws for _, draws in groups)
)


@given(GROUPS, st.integers(0, 5), st.integers(0, 2**40))
def test_every_epoch_draws_as_often_from_each_group(groups, epoch, seed):
    sizes, draws = map(np.array, zip(*groups, strict=True))
    codes = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    order = GroupedDraws(codes, draws, seed)
    assert order.size == draws.sum()
    drawn = order(epoch, 0, order.size) % len(codes)
    assert np.bincount(codes[drawn], minlength=len(sizes)).tolist() == draws.tolist()
    parts = [order(epoch, i, min(i + 7, order.size)) for i in range(0, order.size, 7)]
    assert np.concatenate(parts).tolist() == order(epoch, 0, order.size).tolist()


@given(GROUPS, st.integers(0, 2**40))
def test_members_take_turns_over_the_epochs(groups, seed):
    sizes, draws = map(np.array, zip(*groups, strict=True))
    codes = np.repeat(np.arange(len(sizes)), sizes)
    order = GroupedDraws(codes, draws, seed)
    counts = np.zeros(len(codes), np.int64)
    for epoch in range(6):
        drawn = order(epoch, 0, order.size)
        np.add.at(counts, drawn % len(codes), 1)
        assert len(set(drawn.tolist())) == order.size  # what is drawn again has another number
        for group, n in enumerate(draws.tolist()):
            own = counts[codes == group]
            assert own.sum() == n * (epoch + 1)
            assert own.max() - own.min() <= 1


def test_one_member_of_every_cluster_and_another_in_the_next_epoch():
    codes = np.array([0, 0, 0, 1, 2, 2])
    order = GroupedDraws(codes, np.ones(3, np.int64), seed=4)
    epochs = [order(epoch, 0, 3) % 6 for epoch in range(3)]
    assert all(sorted(codes[drawn]) == [0, 1, 2] for drawn in epochs)
    assert {int(i) for drawn in epochs for i in drawn} == set(range(6))


def test_orders_differ_by_what_they_draw():
    codes = np.array([0, 0, 1])
    some = [
        GroupedDraws(codes, np.array(draws), 0).identity for draws in ([2, 1], [1, 2], [2, 2])
    ] + [GroupedDraws(np.array([0, 1, 1]), np.array([2, 1]), 0).identity, Shuffle(3, 0).identity]
    assert len(set(some)) == 5


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match=r"draws no sequence from any group; raise its weights"):
        GroupedDraws(np.array([0, 0]), np.array([0, 3]), 0)
