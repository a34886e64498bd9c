"""Parts of a long prediction: kept over a stop, shared between processes, then one file."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from trained import names_in

from rnafm.tools import parts as module
from rnafm.tools.parts import Parts, Processes, identity_of

IDENTITY = {"checkpoint": ["a", 1], "input": ["b", 2]}
ALONE = Processes()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)


def merge(paths, out):
    out.write_text("".join(path.read_text() for path in paths))


def work(out, processes=ALONE, count=5, stop=None, wait=0.0, identity=IDENTITY):
    """Make the parts that are missing; their numbers."""
    time.sleep(wait)
    made = []
    with Parts(out, identity, processes) as parts:
        for number in range(count):
            if parts.missing(number):
                if number == stop:
                    raise OSError("no space left on device")
                parts.path(number).write_text(f"{number} ")
                made.append(number)
        parts.finish(count, merge)
        assert out.is_file()
    return made


def test_parts_become_one_file(tmp_path):
    assert work(tmp_path / "deep" / "x.csv") == [0, 1, 2, 3, 4]
    assert (tmp_path / "deep" / "x.csv").read_text() == "0 1 2 3 4 "
    assert names_in(tmp_path / "deep") == ["x.csv"]


def test_a_stopped_run_goes_on(tmp_path, capsys):
    out = tmp_path / "x.csv"
    with pytest.raises(OSError, match="no space"):
        work(out, stop=3)
    assert f"3 parts are kept in {out}.parts; the same command" in capsys.readouterr().err
    assert not out.exists()
    assert work(out) == [3, 4]
    assert f"continuing {out}: 3 parts are done" in capsys.readouterr().err
    assert out.read_text() == "0 1 2 3 4 " and names_in(tmp_path) == ["x.csv"]


def test_a_run_that_failed_at_once_leaves_nothing(tmp_path, capsys):
    with pytest.raises(OSError, match="no space"):
        work(tmp_path / "x.csv", stop=0)
    assert not names_in(tmp_path) and not capsys.readouterr().err


def test_a_merge_that_fails_keeps_the_parts(tmp_path, monkeypatch):
    merge_really = merge

    def full(paths, out):
        out.write_text(next(iter(paths)).read_text())
        raise OSError("no space left on device")

    out = tmp_path / "x.csv"
    out.write_text("of yesterday")
    monkeypatch.setitem(globals(), "merge", full)
    with pytest.raises(OSError, match="no space"):
        work(out, count=1)
    monkeypatch.setitem(globals(), "merge", merge_really)
    assert out.read_text() == "of yesterday"
    assert names_in(tmp_path) == ["x.csv", "x.csv.parts"]
    assert work(out, count=1) == [] and out.read_text() == "0 "


@pytest.mark.parametrize("name", ["checkpoint", "input"])
def test_parts_of_something_else_are_made_anew(tmp_path, capsys, name):
    out = tmp_path / "x.csv"
    with pytest.raises(OSError, match="no space"):
        work(out, stop=3)
    capsys.readouterr()
    assert work(out, identity=IDENTITY | {name: ["c", 3]}) == [0, 1, 2, 3, 4]
    said = capsys.readouterr().err
    assert f"starting {out} over: the parts in {out}.parts are of another {name}\n" in said


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_not_ours_is_not_removed(tmp_path, kind):
    folder = tmp_path / "x.csv.parts"
    if kind == "folder":
        folder.mkdir()
        (folder / "thesis.tex").write_text("years of work")
    else:
        folder.write_text("years of work")
    with pytest.raises(ValueError, match=r"x\.csv\.parts: .*is not the folder of parts.*--out"):
        work(tmp_path / "x.csv")
    assert (folder / "thesis.tex" if kind == "folder" else folder).read_text() == "years of work"


@pytest.mark.parametrize("waits", [(0.0, 0.1, 0.1), (0.2, 0.0, 0.0), (0.0, 0.0, 0.2)])
@pytest.mark.parametrize("left", ["nothing", "all parts", "parts of another"])
def test_processes_share_the_parts(tmp_path, waits, left):
    """Whoever starts last, and whatever is left of a run before."""
    out = tmp_path / "x.csv"
    if left != "nothing":
        other = IDENTITY if left == "all parts" else IDENTITY | {"input": ["c", 3]}
        with Parts(out, other, Processes()) as parts:
            for number in range(5):
                parts.path(number).write_text(f"{number} " if left == "all parts" else "wrong ")
        (tmp_path / "x.csv.parts" / "1.done").touch()
    with ThreadPoolExecutor(3) as pool:
        tasks = [
            pool.submit(work, out, Processes(rank, 3), wait=wait) for rank, wait in enumerate(waits)
        ]
        made = [task.result(timeout=20) for task in tasks]
    assert made == ([[], [], []] if left == "all parts" else [[0, 3], [1, 4], [2]])
    assert out.read_text() == "0 1 2 3 4 " and names_in(tmp_path) == ["x.csv"]


def test_who_takes_part(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Processes.from_environment() == Processes(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert Processes.from_environment() == Processes(2, 4)


def test_identity_of_files_and_folders(tmp_path):
    path = tmp_path / "a" / "x"
    path.parent.mkdir()
    path.write_text("one")
    before = identity_of(path), identity_of(path.parent)
    shutil.copy2(path, tmp_path / "y")
    assert identity_of(tmp_path / "y") != before[0]
    os.utime(path, ns=(5, 5))
    assert identity_of(path) != before[0] and identity_of(path.parent) != before[1]
    with pytest.raises(FileNotFoundError, match=r"nothing: there is no such file; correct"):
        identity_of(tmp_path / "nothing")
