"""Columns that a finished store gets."""

import errno
import random
import shutil

import numpy as np
import pytest
from stores import build, contents, records, run_and_kill

from rnafm.data import store_columns
from rnafm.data.fasta import write_fasta
from rnafm.data.store import SequenceStore
from rnafm.data.store_columns import add_columns


@pytest.fixture
def store(tmp_path):
    write_fasta(tmp_path / "x.fa", records(60))
    return build([tmp_path / "x.fa"], tmp_path / "store")


def test_numbers_and_categories(store):
    big = np.arange(len(store)) * 10**9
    codes = np.arange(len(store)) % 3
    found = add_columns(
        store.path, {"cluster": (big, None), "kind": (codes, ["", "a", "b"])}, {"by": {"x": 1}}
    )
    found.verify()
    assert found.columns == ("type", "cluster", "kind")
    assert found.column("cluster")[0].tolist() == big.tolist()
    assert found.column("cluster")[0].dtype == np.int64 and found.column("cluster")[1] is None
    assert found.column("kind")[0].dtype == np.int32
    assert found.column("kind")[1] == ["", "a", "b"]
    assert found.info["added"] == {"by": {"x": 1}}
    np.testing.assert_array_equal(found.tokens, store.tokens)
    assert found.fingerprint != store.fingerprint
    assert store.column("type")[1] == found.column("type")[1]


def test_a_column_is_replaced_and_its_file_goes(store):
    add_columns(store.path, {"cluster": (np.zeros(len(store), int), None)}, {"cluster": 1})
    before = set(contents(store.path))
    found = add_columns(store.path, {"cluster": (np.ones(len(store), int), None)}, {"cluster": 2})
    assert found.column("cluster")[0].all()
    assert found.info["added"] == {"cluster": 2}
    assert before - set(contents(store.path)) == {"column_1.bin"}
    found.verify()


def test_the_store_is_not_built_again(tmp_path, store):
    add_columns(store.path, {"cluster": (np.zeros(len(store), int), None)}, {})
    assert build([tmp_path / "x.fa"], tmp_path / "store").columns == ("type", "cluster")


@pytest.mark.parametrize(
    ("codes", "categories", "match"),
    [
        ([1, 2], None, r"column 'x' has shape \(2,\), not a code for each of \d+ sequences"),
        (None, ["a"], "column 'x' has codes from 0 to 1 for 1 categories; number them from 0"),
    ],
)
def test_what_does_not_fit(store, codes, categories, match):
    codes = np.arange(len(store)) % 2 if codes is None else np.array(codes)
    before = contents(store.path)
    with pytest.raises(ValueError, match=match):
        add_columns(store.path, {"x": (codes, categories)}, {})
    assert contents(store.path) == before


def test_no_room(store, monkeypatch):
    usage = shutil.disk_usage(store.path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"store: new columns needs about .* make room or") as error:
        add_columns(store.path, {"x": (np.zeros(len(store), int), None)}, {})
    assert error.value.errno == errno.ENOSPC
    SequenceStore(store.path).verify()


def test_killed_at_any_moment(store):
    """The store is the old one or the new one, and can be read and written on."""
    rng, killed, seen = random.Random(0), 0, set()  # noqa: S311

    def work():
        for value in range(1000 * killed, 1000 * killed + 1000):
            add_columns(store.path, {"x": (np.full(len(store), value), None)}, {"x": value})

    while killed < 20 or (len(seen) < 5 and killed < 200):
        killed += run_and_kill(work, rng.uniform(0.005, 0.05))
        opened = SequenceStore(store.path)
        opened.verify()
        if "x" in opened.columns:
            codes, value = opened.column("x")[0], opened.info["added"]["x"]
            assert (codes == value).all()
            seen.add(value)
    assert len(seen) >= 5, "hardly any column was written between the kills"
    found = add_columns(store.path, {"x": (np.zeros(len(store), int), None)}, {})
    assert len(contents(found.path)) == len(found.info["files"]) + 1  # nothing is left over


def test_files_are_written_before_the_description(store, monkeypatch):
    def stop(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(store_columns, "write_manifest", stop)
    with pytest.raises(OSError, match=r"store: cannot be written .No space left"):
        add_columns(store.path, {"x": (np.zeros(len(store), int), None)}, {})
    SequenceStore(store.path).verify()
    assert SequenceStore(store.path).columns == ("type",)
