"""Orders of epochs: permutations, and draws from groups whose members take turns."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.order import GroupedDraws, Shuffle, permute


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
