"""Embeddings on disk: whole and right, or made again."""

import logging
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from batches import random_batch

from rnafm.data.embedding_cache import EmbeddingCache

LENGTHS = np.array([3, 1, 4, 2])
DIM = 5


def embedding(row, length):
    return torch.arange(length * DIM).reshape(length, DIM) / 7 + 100 * row


def parts(order=((2, 0), (3, 1))):
    for rows in order:
        batch = random_batch([int(LENGTHS[row]) for row in rows])
        batch = batch._replace(indices=torch.tensor(rows))
        yield batch, torch.cat([embedding(row, int(LENGTHS[row])) for row in rows])


def fail():
    raise AssertionError("asked for embeddings")
    yield


def cache(tmp_path, lengths=LENGTHS, dim=DIM):
    return EmbeddingCache(tmp_path / "kept" / "x.npy", lengths, dim)


def assert_right(found):
    for rows in ([1], [3, 0, 2], [0, 0]):
        expected = torch.cat([embedding(row, int(LENGTHS[row])) for row in rows])
        assert found.read(torch.tensor(rows)).equal(expected)


def test_every_sequence_gets_its_own_whatever_the_order(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    found = cache(tmp_path)
    found.fill(parts())
    assert_right(found)
    assert f"Embedding 4 sequences once, for this and later runs: {found.path} of 200 bytes" in (
        caplog.messages
    )
    assert [path.name for path in found.path.parent.iterdir()] == ["x.npy"]


def test_a_second_run_reads_the_file(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    cache(tmp_path).fill(parts())
    again = cache(tmp_path)
    again.fill(fail())
    assert_right(again)
    assert caplog.messages[-1] == f"Embeddings of the frozen encoder are read from {again.path}"


def test_half_precision_is_kept_as_float32(tmp_path):
    found = cache(tmp_path)
    found.fill((batch, values.bfloat16()) for batch, values in parts())
    read = found.read(torch.tensor([2]))
    assert read.dtype == torch.float32 and read.equal(embedding(2, 4).bfloat16().float())


def test_what_was_interrupted_leaves_nothing(tmp_path):
    def broken():
        yield next(parts())
        raise KeyboardInterrupt

    found = cache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        found.fill(broken())
    assert list(found.path.parent.iterdir()) == []
    found.fill(parts())
    assert_right(found)


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


def empty(path):
    path.write_bytes(b"")


def other_shape(path):
    np.save(path, np.zeros((9, DIM), np.float32))


def other_type(path):
    np.save(path, np.zeros((10, DIM)))


@pytest.mark.parametrize("damage", [cut, empty, other_shape, other_type])
def test_a_damaged_file_is_made_again(tmp_path, damage, caplog):
    caplog.set_level(logging.INFO)
    found = cache(tmp_path)
    found.fill(parts())
    damage(found.path)
    with pytest.raises(
        OSError, match=r"x\.npy: the embeddings are not there, or damaged; .*folder"
    ):
        cache(tmp_path).read(torch.tensor([0]))
    again = cache(tmp_path)
    again.fill(parts())
    assert_right(again)
    assert f"{found.path} is damaged and is made again" in caplog.messages


def test_too_little_room(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")  # noqa: PYI024
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(9e12, 9e12, 2_000_000))
    found = cache(tmp_path, np.full(1000, 600), 640)
    message = r"kept: the embeddings of .* take 1\.54 GB, and 2 MB are free; make room, set data\.e"
    with pytest.raises(OSError, match=message):
        found.fill(fail())
    assert not found.path.exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(
        OSError, match=r"kept: embeddings .* cannot be kept there \(File exists\); set"
    ):
        cache(tmp_path).fill(fail())
