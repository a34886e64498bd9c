import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.counter import fold, fold_tensor, mix, mix_tensor, uniform

NUMBERS = st.integers(0, 2**64 - 1)


def tensor(values):
    return torch.from_numpy(values.view(np.int64))


@given(st.lists(NUMBERS, min_size=1, max_size=20), NUMBERS)
def test_numpy_and_torch_agree_bit_for_bit(numbers, key):
    values = np.array(numbers, np.uint64)
    assert tensor(mix(values)).equal(mix_tensor(tensor(values)))
    assert tensor(mix(values ^ np.uint64(key))).equal(fold_tensor(key, tensor(values)))


def test_published_values_of_splitmix64():
    # The first outputs for seed 1234567, from the reference program of Vigna (public domain).
    state, outputs = np.array([1234567], np.uint64), []
    for _ in range(3):
        outputs.append(int(mix(state)[0]))
        state = state + np.uint64(0x9E3779B97F4A7C15)
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_keys_depend_on_every_part_and_their_order():
    keys = {fold(*parts) for parts in [(0,), (0, 0), (1, 2), (2, 1), (1, 2, 0), (-1, 2)]}
    assert len(keys) == 6


def test_uniform_is_uniform():
    values = uniform(mix_tensor(torch.arange(200_000)))
    assert values.min() >= 0 and values.max() < 1
    counts = torch.histc(values, bins=20, min=0, max=1)
    assert ((counts - 10_000).abs() < 5 * 100).all()
