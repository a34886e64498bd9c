"""Copies of stores on local disks."""

import errno
import multiprocessing
import os
import random
import shutil

import numpy as np
import pytest
from stores import build, contents, records, run_and_kill

from rnafm.data import scratch
from rnafm.data.fasta import write_fasta
from rnafm.data.scratch import copy_store
from rnafm.data.store import SequenceStore
from rnafm.data.store_columns import add_columns


@pytest.fixture
def store(tmp_path):
    write_fasta(tmp_path / "x.fa", records(300))
    return build([tmp_path / "x.fa"], tmp_path / "store")


def test_the_copy_is_the_store(tmp_path, store, capsys):
    path = copy_store(store.path, tmp_path / "deep" / "local")
    assert path.parent == tmp_path / "deep" / "local"
    assert path.name == f"store-{store.fingerprint[:12]}"
    assert contents(path) == contents(store.path)
    copied = SequenceStore(path)
    copied.verify()
    assert copied.fingerprint == store.fingerprint
    assert capsys.readouterr().err.startswith(f"copy {store.path}: 0.0 MB in 0.0 s (")


def test_it_is_copied_once(tmp_path, store, monkeypatch, capsys):
    path = copy_store(store.path, tmp_path / "local", progress=False)
    before = (path / "tokens.bin").stat().st_ino
    monkeypatch.setattr(scratch, "_copy", None)
    assert copy_store(store.path, tmp_path / "local") == path
    assert (path / "tokens.bin").stat().st_ino == before
    assert capsys.readouterr().err == ""


def test_another_version_lies_beside_it(tmp_path, store):
    first = copy_store(store.path, tmp_path / "local")
    add_columns(store.path, {"x": (np.zeros(len(store), int), None)}, {})
    second = copy_store(store.path, tmp_path / "local")
    assert first != second and "x" in SequenceStore(second).columns
    SequenceStore(first).verify()


@pytest.mark.parametrize("how", ["cut", "no description"])
def test_what_is_no_whole_copy_is_replaced(tmp_path, store, caplog, how):
    path = copy_store(store.path, tmp_path / "local")
    if how == "cut":
        os.truncate(path / "tokens.bin", 9)
    else:
        (path / "store.json").unlink()
    assert copy_store(store.path, tmp_path / "local") == path
    assert contents(path) == contents(store.path)
    assert "is no whole copy of" in caplog.text


def test_damage_is_noticed_on_the_way(tmp_path, store):
    data = bytearray((store.path / "tokens.bin").read_bytes())
    data[100] ^= 1
    (store.path / "tokens.bin").write_bytes(data)
    with pytest.raises(ValueError, match=r"tokens\.bin: is damaged between bytes 0 and .*; get th"):
        copy_store(store.path, tmp_path / "local")
    assert list((tmp_path / "local").iterdir()) == []


def test_no_room(tmp_path, store, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    match = r"the copy of .*store needs about 0\.0 MB, but 0\.0 MB are free in .*local; make room"
    with pytest.raises(OSError, match=match) as error:
        copy_store(store.path, tmp_path / "local")
    assert error.value.errno == errno.ENOSPC


def test_a_disk_that_fills(tmp_path, store, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(scratch.Path, "write_bytes", full)
    with pytest.raises(
        OSError, match=r"local/store-.*: cannot be written .No space left on device"
    ):
        copy_store(store.path, tmp_path / "local")
    assert list((tmp_path / "local").iterdir()) == []


def test_no_store(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no token store; make one with"):
        copy_store(tmp_path / "none", tmp_path / "local")


def _copy_in_process(store, folder, queue):
    queue.put((copy_store(store, folder, progress=False) / "tokens.bin").stat().st_ino)


def test_several_processes_copy_once(tmp_path, store):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    arguments = (store.path, tmp_path / "local", queue)
    processes = [context.Process(target=_copy_in_process, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    assert len({queue.get(timeout=60) for _ in processes}) == 1
    for process in processes:
        process.join()
    assert len(list((tmp_path / "local").iterdir())) == 1


def test_killed_at_any_moment(tmp_path, store):
    rng, killed = random.Random(0), 0  # noqa: S311
    local = tmp_path / "local"

    def work():
        while True:
            shutil.rmtree(tmp_path / "gone", ignore_errors=True)
            copy_store(store.path, local, progress=False).rename(tmp_path / "gone")

    while killed < 20:
        killed += run_and_kill(work, rng.uniform(0.002, 0.03))
        for path in local.glob("store-*"):
            if "tmp" not in path.name and "lock" not in path.name:
                SequenceStore(path).verify()
    # The next copy clears away what is left over, be it of one that was just finished.
    for path in local.glob("store-*"):
        shutil.rmtree(path)
    path = copy_store(store.path, local)
    assert contents(path) == contents(store.path)
    assert [one.name for one in local.iterdir()] == [path.name]
