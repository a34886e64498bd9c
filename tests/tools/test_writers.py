import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from rnafm.tools import writers
from rnafm.tools.writers import open_writer

RNG = np.random.default_rng(0)
NAMES = ["a", "b|2", "ñ", "d"]
POOLED = [RNG.normal(size=3).astype(np.float32) for _ in NAMES]
PER_TOKEN = [RNG.normal(size=(n, 3)).astype(np.float32) for n in (4, 1, 0, 2)]


def read(path):
    """Names, rows of all sequences, and where each starts, whatever the format."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            return list(file["names"]), file["embeddings"], file.get("offsets")
    if path.suffix == ".h5":
        with h5py.File(path) as file:
            offsets = file["offsets"][:] if "offsets" in file else None
            return [name.decode() for name in file["names"][:]], file["embeddings"][:], offsets
    table = pq.read_table(path).to_pydict()
    rows, offsets = table["embedding"], None
    if rows and (not rows[0] or isinstance(rows[0][0], list)):
        offsets = np.cumsum([0, *map(len, rows)])
        rows = [row for part in rows for row in part]
    return table["name"], np.array(rows, np.float32).reshape(-1, 3), offsets


@pytest.mark.parametrize("ending", [".parquet", ".npz", ".h5"])
@pytest.mark.parametrize("per_token", [False, True])
def test_what_is_written_can_be_read(tmp_path, ending, per_token):
    path = tmp_path / f"x{ending}"
    parts = PER_TOKEN if per_token else POOLED
    with open_writer(path, 3, per_token=per_token) as writer:
        writer.add(NAMES[:3], parts[:3])
        writer.add([], [])
        writer.add(NAMES[3:], parts[3:])
        assert not path.exists()  # nothing looks whole before it is
    names, rows, offsets = read(path)
    assert names == NAMES
    np.testing.assert_array_equal(rows, np.concatenate([part.reshape(-1, 3) for part in parts]))
    if per_token:
        assert offsets.tolist() == [0, 4, 5, 5, 7]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", [".parquet", ".npz", ".h5"])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"old")

    def fail():
        with open_writer(path, 3, per_token=False) as writer:
            writer.add(NAMES, POOLED)
            raise KeyError("broken")

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_other_endings_and_missing_packages_are_named(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match=r"x.csv: the name must end in one of: .parquet, .npz, .h5"
    ):
        open_writer(tmp_path / "x.csv", 3, per_token=False).__enter__()

    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(writers.importlib, "import_module", missing)
    for ending, package, extra in ((".parquet", "pyarrow", "parquet"), (".h5", "h5py", "hdf5")):
        with pytest.raises(ValueError, match=rf"needs {package}.*pip install 'rnafm\[{extra}\]'"):
            open_writer(tmp_path / f"x{ending}", 3, per_token=False).__enter__()
