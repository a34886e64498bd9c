"""Checkpoints survive what happens to processes, disks and single bits."""

import errno
import multiprocessing
import os
import random
import resource
import time
import zipfile

import pytest
import torch

import rnafm.files
from rnafm.callbacks import SealedCheckpointIO
from rnafm.checkpoints.pickles import load_pickle
from rnafm.files import atomic, check_seal


def content(step, size=1000):
    return {"global_step": step, "weights": torch.full((size,), float(step))}


def names_in(folder):
    return sorted(each.name for each in folder.iterdir())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoints" / "last.ckpt"


@pytest.fixture
def io(path):
    result = SealedCheckpointIO()
    result.save_checkpoint(content(1), path)
    return result


def test_a_checkpoint_is_sealed_and_still_an_ordinary_one(io, path):
    assert check_seal(path)
    loaded = io.load_checkpoint(path)
    assert loaded["global_step"] == 1 and loaded["weights"].equal(torch.ones(1000))
    # Without any of our code, and as others look into archives.
    assert torch.load(path, weights_only=True)["weights"].equal(torch.ones(1000))
    with path.open("rb") as file:
        assert torch.load(file, weights_only=True)["global_step"] == 1
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.comment.startswith(b"rnafm xxh3-128 ")
    assert names_in(path.parent) == ["last.ckpt"]


def test_a_flipped_bit_anywhere_is_found_before_anything_is_used(io, path):
    io.save_checkpoint(content(0), path.with_name("step-0.ckpt"))
    whole = path.read_bytes()
    chosen = random.Random(0)  # noqa: S311
    places = [
        *range(8),
        *range(len(whole) - 120, len(whole)),
        *chosen.sample(range(len(whole)), 99),
    ]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chosen.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"last.ckpt is damaged.*newest first: .*step-0.ckpt"):
            io.load_checkpoint(path)
    for end in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"last.ckpt (is damaged|cannot be read)"):
            io.load_checkpoint(path)
    path.write_bytes(whole)
    assert io.load_checkpoint(path)["global_step"] == 1


def test_files_of_others_have_the_check_sums_of_zip(tmp_path):
    path = tmp_path / "a.ckpt"
    torch.save(content(3), path)
    assert not check_seal(path) and load_pickle(path)["global_step"] == 3
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(b"data/0") + 2000] ^= 1  # inside the weights
    path.write_bytes(damaged)
    assert torch.load(path, weights_only=True)  # torch itself sees nothing
    with pytest.raises(ValueError, match=r"damaged: a/data/0 does not match.*no other checkpoint"):
        load_pickle(path)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(content(4), path)
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_pickle(path)["global_step"] == 4


def _save_for_ever(path, done, begun, start):
    io = SealedCheckpointIO()
    begun.set()
    for step in range(start, 10**9):
        io.save_checkpoint(content(step, 500_000), path)
        done.value = step


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.parametrize("times", [20, pytest.param(50, marks=pytest.mark.slow)])
def test_a_process_killed_while_it_writes_loses_nothing(path, times):
    io, processes = SealedCheckpointIO(), multiprocessing.get_context("fork")
    io.save_checkpoint(content(0, 500_000), path)
    chosen, interrupted, step = random.Random(0), 0, 0  # noqa: S311
    done = processes.Value("q", 0, lock=False)
    for _ in range(500):
        done.value, begun = step, processes.Event()
        child = processes.Process(target=_save_for_ever, args=(path, done, begun, step + 1))
        child.start()
        begun.wait()
        time.sleep(chosen.uniform(0.0, 0.02))
        child.kill()
        child.join()
        interrupted += names_in(path.parent) != ["last.ckpt"]
        loaded = io.load_checkpoint(path)
        # What was finished is there; what was under way may be.
        assert loaded["global_step"] in (done.value, done.value + 1)
        assert loaded["weights"].eq(loaded["global_step"]).all()
        step = loaded["global_step"]
        assert names_in(path.parent) == ["last.ckpt"]  # what was left over is gone
        if interrupted == times:
            break
    assert interrupted == times and step > 0


def test_left_over_files_go_and_those_being_written_stay(path, io, monkeypatch):
    host = rnafm.files._HOST
    dead = 2**22 + 1  # above the largest id that Linux gives
    old = path.with_name(f".{dead}@{host}.last.ckpt")
    elsewhere = path.with_name(".7@elsewhere.last.ckpt")
    abandoned = path.with_name(".8@elsewhere.best.ckpt")
    mine = path.with_name(f".{os.getpid()}@{host}.best.ckpt")
    others = path.with_name(f".1@{host}.best.ckpt")  # the first process: always alive
    for each in (old, elsewhere, abandoned, mine, others):
        each.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    monkeypatch.setattr(rnafm.files, "_cleaned", set())
    io.save_checkpoint(content(2), path)
    assert not old.exists() and not abandoned.exists()
    assert elsewhere.exists() and mine.exists() and others.exists()


def test_a_full_disk_is_said_and_does_not_end_the_run(io, path, caplog):
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # as EFBIG comes ENOSPC
    try:
        io.save_checkpoint(content(2, 100_000), path)
        io.save_checkpoint(content(3, 100_000), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith(f"The checkpoint of step 2 could not be written to {path}: File too")
    assert "make room there, the next save tries again (failed so far: 1)" in first
    assert "step 3" in second and "(failed so far: 2)" in second
    assert path.read_bytes() == before and names_in(path.parent) == ["last.ckpt"]
    assert io.failed == {path: "File too large"} and io.failures == 2
    io.save_checkpoint(content(4, 100_000), path)
    assert io.failed == {} and io.load_checkpoint(path)["global_step"] == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="takes off its own rights to meet a refusal")
def test_a_read_only_folder(io, path, caplog):
    os.seteuid(65534)
    try:
        io.save_checkpoint(content(2), path)
    finally:
        os.seteuid(0)
    assert "Permission denied. Training goes on" in caplog.text
    assert "make the folder writable, the next save tries again" in caplog.text
    assert io.load_checkpoint(path)["global_step"] == 1


@pytest.mark.parametrize("code", [errno.EBUSY, errno.ESTALE, errno.EIO])
def test_a_network_file_system_gets_another_chance(io, path, caplog, monkeypatch, code):
    replace, refused, waits = os.replace, [], []
    monkeypatch.setattr(rnafm.files.time, "sleep", waits.append)

    def refuse(source, target):
        if len(refused) < 3:
            refused.append(source)
            raise OSError(code, os.strerror(code))
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    io.save_checkpoint(content(2), path)
    assert len(refused) == 3 and waits == sorted(waits) and len(waits) == 3
    assert io.load_checkpoint(path)["global_step"] == 2 and not caplog.text

    monkeypatch.setattr(os, "replace", lambda *_: refused.clear() or refuse("", ""))
    io.save_checkpoint(content(3), path)
    assert f"{os.strerror(code)}. Training goes on" in caplog.text
    monkeypatch.setattr(os, "replace", replace)
    assert io.load_checkpoint(path)["global_step"] == 2
    assert names_in(path.parent) == ["last.ckpt"]


def test_the_previous_best_stays_until_there_is_a_better_one(tmp_path, monkeypatch):
    io, replace = SealedCheckpointIO(), os.replace
    names = [tmp_path / f"step-{step}.ckpt" for step in range(4)]
    io.save_checkpoint(content(0), names[0])

    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    for step in (1, 2):  # as ModelCheckpoint does: the new one, then away with the old one
        io.save_checkpoint(content(step), names[step])
        io.remove_checkpoint(names[step - 1])
        assert [each for each in names if each.exists()] == names[:1]
    monkeypatch.setattr(os, "replace", replace)
    io.save_checkpoint(content(9), tmp_path / "last.ckpt")
    assert names[0].exists()  # another file is no reason
    io.save_checkpoint(content(3), names[3])
    io.remove_checkpoint(names[2])
    assert [each for each in names if each.exists()] == names[3:]
    assert io.failed == {}


def test_other_errors_are_errors(io, path):
    with pytest.raises(AttributeError, match="pickle local object"):
        io.save_checkpoint({"global_step": 2, "code": lambda: 0}, path)
    assert io.load_checkpoint(path)["global_step"] == 1
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*gone.ckpt; give the path"):
        io.load_checkpoint(path.with_name("gone.ckpt"))


def test_any_file_is_whole_or_not_there(tmp_path, monkeypatch):
    target = tmp_path / "a" / "table.csv"
    with atomic(target) as temporary:
        temporary.write_text("1")
        assert not target.exists() and temporary.suffix == ".csv"

    def write(text):
        with atomic(target) as temporary:
            temporary.write_text(text)
            raise KeyError

    with pytest.raises(KeyError):
        write("2")
    assert target.read_text() == "1" and list(target.parent.iterdir()) == [target]
    synchronised = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: synchronised.append(number) or fsync(number))
    with atomic(target) as temporary:
        temporary.write_text("3")
    assert len(synchronised) == 2  # the file before it is renamed, the folder after
