"""Random numbers as pure functions of their keys: the same on every device, rank and worker.

A counter-based generator has no state: the number for (seed, epoch, sequence, position) is a hash
of these four. So order, crops and masks do not depend on how many processes ask, or in which order.
The mixing function is the finaliser of SplitMix64 (Steele, Lea, Flood 2014,
doi:10.1145/2660193.2660195), here for numpy and, bit for bit the same, for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_BITS = 64


def finalise(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Mix the bits of every value; a bijection of the 64-bit integers that sends 0 to 0."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(_FIRST)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(_SECOND)
    return values ^ (values >> np.uint64(31))


def mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash every value: a step of the generator from the state that the value is."""
    return finalise(values + np.uint64(_GOLDEN))


def fold(*keys: int) -> int:
    """One 64-bit key from several integers, in order."""
    key = np.zeros(1, np.uint64)
    for part in keys:
        key = mix(key ^ np.array([part % 2**_BITS], np.uint64))
    return int(key[0])


def mix_tensor(values: Tensor) -> Tensor:
    """The same as :func:`mix` for int64 tensors, whose bits are read as unsigned."""
    values = values + _signed(_GOLDEN)
    values = (values ^ _shift(values, 30)) * _signed(_FIRST)
    values = (values ^ _shift(values, 27)) * _signed(_SECOND)
    return values ^ _shift(values, 31)


def fold_tensor(key: int, values: Tensor) -> Tensor:
    """A key for every value: that of ``key`` followed by the value."""
    return mix_tensor(values ^ _signed(key))


def uniform(values: Tensor) -> Tensor:
    """Hashes as float32 numbers in [0, 1), from their upper 24 bits."""
    return _shift(values, _BITS - 24).float() / 2**24


def _shift(values: Tensor, places: int) -> Tensor:
    """Logical shift to the right: torch's own copies the sign."""
    return (values >> places) & ((1 << (_BITS - places)) - 1)


def _signed(value: int) -> int:
    return value - 2**_BITS if value >= 2 ** (_BITS - 1) else value
