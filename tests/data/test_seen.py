"""The set of hashes against Python's own."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data import seen
from rnafm.data.seen import Seen


@given(st.lists(st.lists(st.integers(0, 60), max_size=40), max_size=12))
def test_like_a_set(batches):
    known, seen_ = set(), Seen()
    for batch in batches:
        expected = []
        for value in batch:
            expected.append(value in known)
            known.add(value)
        hashes = np.array(batch, np.uint64) * np.uint64(2**57 + 1)
        # 0 stands for a free slot and is read as 1, which 2**57 + 1 times an integer never is.
        assert seen_.add(hashes, np.zeros(len(batch), np.uint32)).tolist() == expected
    assert len(seen_) == len(known)


def test_grows(monkeypatch):
    monkeypatch.setattr(seen, "_START", 16)
    hashes = np.random.default_rng(0).integers(0, 2**64, 3000, dtype=np.uint64)
    checks = hashes.astype(np.uint32)
    table = Seen()
    for start in range(0, 3000, 100):
        part = slice(start, start + 100)
        assert not table.add(hashes[part], checks[part]).any()
    assert table.add(hashes, checks).all()
    assert len(table) == 3000


def test_64_bits_alone_do_not_make_a_duplicate():
    table = Seen()
    hashes = np.array([7], np.uint64)
    assert table.add(hashes, np.array([1], np.uint32)).tolist() == [False]
    assert table.add(hashes, np.array([2], np.uint32)).tolist() == [False]
    assert table.add(hashes, np.array([1], np.uint32)).tolist() == [True]


def test_texts():
    table = Seen()
    assert table.add_texts(["a", "b", "a"]).tolist() == [False, False, True]
    assert table.add_texts(("b", "c")).tolist() == [True, False]
