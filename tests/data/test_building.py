"""Building stores: the same bytes however it comes about, and nothing is done twice."""

import errno
import logging
import os
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from stores import (
    build,
    contents,
    counted_encoding,
    in_small_blocks,
    records,
    run_and_kill,
)

from rnafm.data import building, containment, workers
from rnafm.data.fasta import write_fasta
from rnafm.data.reading import Reading
from rnafm.data.store import Filters, SequenceStore
from rnafm.data.store_columns import add_columns
from rnafm.data.vocabulary import Vocabulary
from rnafm.data.writer import StoreWriter


@pytest.fixture
def small(monkeypatch):
    in_small_blocks(monkeypatch)


@pytest.fixture
def files(tmp_path):
    """Three files, about 30 blocks in all."""
    for name, count, seed in (("a.fa.gz", 120, 0), ("b.fa", 30, 1), ("c.fa.gz", 90, 2)):
        write_fasta(tmp_path / name, [*records(count, seed), *records(20, 7)])
    return [tmp_path / name for name in ("a.fa.gz", "b.fa", "c.fa.gz")]


@pytest.fixture
def expected(tmp_path, files):
    """The store in one go."""
    return contents(build(files, tmp_path / "expected").path)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


class Stop(BaseException):
    """As an interrupt from the keyboard: no failure of anything."""


def stop_after(patch, number):
    """Stop a build when so many blocks are in the store."""
    append, count = StoreWriter.append, [0]

    def stopping(self, part):
        count[0] += 1
        if count[0] > number:
            raise Stop
        append(self, part)

    patch.setattr(StoreWriter, "append", stopping)


def interrupted(files, path, number, **options):
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, number)
        with pytest.raises(Stop):
            build(files, path, **options)


class TestSameBytes:
    @pytest.mark.parametrize("num_workers", [1, 2, 4, 9])
    @pytest.mark.parametrize("size", [200, 5000])
    def test_any_number_of_workers_and_size_of_blocks(
        self, tmp_path, monkeypatch, files, expected, num_workers, size
    ):
        in_small_blocks(monkeypatch, size=size)
        store = build(files, tmp_path / "store", num_workers=num_workers)
        assert contents(store.path) == expected
        assert store.info["counts"]["duplicate"] > 20
        assert names(tmp_path) == ["a.fa.gz", "b.fa", "c.fa.gz", "expected", "store"]

    def test_real_processes(self, tmp_path, monkeypatch, files, expected):
        in_small_blocks(monkeypatch, local=False)
        store = build(files, tmp_path / "store", num_workers=2)
        assert contents(store.path) == expected

    @pytest.mark.usefixtures("small")
    def test_parts_that_finish_out_of_order(self, tmp_path, monkeypatch, files, expected):
        encode, rng = workers.Processes._encode, random.Random(0)  # noqa: S311

        def slow(self, job):
            time.sleep(rng.random() * 0.02)
            encode(self, job)

        monkeypatch.setattr(workers.Processes, "_encode", slow)
        assert contents(build(files, tmp_path / "store", num_workers=6).path) == expected

    def test_small_files_start_no_processes_and_write_no_journal(
        self, tmp_path, monkeypatch, files
    ):
        def never(*_):
            raise AssertionError("this costs more than it saves")

        monkeypatch.setattr(workers, "_Worker", never)
        monkeypatch.setattr("rnafm.data.journal.write_manifest", never)
        assert len(build(files, tmp_path / "store")) > 150

    @pytest.mark.usefixtures("small")
    def test_one_worker_per_core_for_large_files(self, tmp_path, monkeypatch, files):
        found = []
        monkeypatch.setattr(building, "default_threads", lambda: found.append(1) or 3)
        build(files, tmp_path / "store")
        assert found

    def test_no_worker(self, tmp_path, files):
        with pytest.raises(ValueError, match=r"num_workers \(0\) must be at least 1"):
            build(files, tmp_path / "store", num_workers=0)


def killed_again_and_again(tmp_path, files, kills, seconds, **options):
    """Kill builds until so many were under way, then let one finish.

    Returns:
        How many blocks were encoded in all, how often a build came to its end, and how many
        journals a kill has left.
    """
    rng, log = random.Random(1), tmp_path / "log"  # noqa: S311
    done, ends, journals = 0, 1, set()
    with pytest.MonkeyPatch.context() as patch:
        in_small_blocks(patch, local=options.pop("local", True))
        counted_encoding(patch, log)
        while done < kills:
            done += run_and_kill(
                lambda: build(files, tmp_path / "store", **options), rng.uniform(0, seconds)
            )
            journal = tmp_path / "store.building" / "journal.json"
            journals.add(journal.read_bytes() if journal.exists() else b"")
            if (tmp_path / "store").exists():
                SequenceStore(tmp_path / "store").verify()
                shutil.rmtree(tmp_path / "store")
                shutil.rmtree(tmp_path / "store.building", ignore_errors=True)
                ends += 1
        build(files, tmp_path / "store", **options)
    return len(log.read_bytes()) if log.exists() else 0, ends, len(journals)


class TestKilled:
    @pytest.mark.parametrize("num_workers", [1, 4])
    def test_at_any_moment(self, tmp_path, monkeypatch, num_workers):
        """20 kills: the same bytes, and only what was in flight is encoded twice."""
        for name, seed in (("a.fa.gz", 0), ("b.fa.gz", 1)):
            write_fasta(tmp_path / name, records(700, seed))
        files = [tmp_path / "a.fa.gz", tmp_path / "b.fa.gz"]
        expected = contents(build(files, tmp_path / "expected").path)
        with monkeypatch.context() as patch:
            in_small_blocks(patch)
            counted_encoding(patch, tmp_path / "once")
            start = time.perf_counter()
            build(files, tmp_path / "whole", num_workers=num_workers)
            seconds = time.perf_counter() - start
        blocks = len((tmp_path / "once").read_bytes())
        encoded, ends, journals = killed_again_and_again(
            tmp_path, files, 20, seconds / 5, num_workers=num_workers
        )
        assert contents(tmp_path / "store") == expected
        assert blocks > 40
        in_flight = 20 * (num_workers + 1)
        assert ends * blocks <= encoded <= ends * blocks + in_flight
        assert journals > 5, "hardly anything was finished between the kills"
        assert sorted(path.name for path in tmp_path.glob("store*")) == ["store"]

    @pytest.mark.slow
    def test_real_processes(self, tmp_path, files, expected):
        in_all, _, _ = killed_again_and_again(tmp_path, files, 40, 0.7, num_workers=3, local=False)
        assert contents(tmp_path / "store") == expected
        assert in_all == 0  # nothing was encoded in this process


class TestGoingOn:
    @pytest.mark.parametrize("num_workers", [1, 4])
    @pytest.mark.parametrize("number", [0, 1, 8])
    @pytest.mark.usefixtures("small")
    def test_after_an_interrupt(self, tmp_path, files, expected, caplog, num_workers, number):
        with caplog.at_level(logging.INFO):
            interrupted(files, tmp_path / "store", number, num_workers=num_workers)
            assert "what is finished is kept; run it again to go on" in caplog.text
            store = build(files, tmp_path / "store", num_workers=5 - num_workers)
        assert contents(store.path) == expected
        assert ("goes on after" in caplog.text) == (number > 0)

    @pytest.mark.usefixtures("small")
    def test_between_the_last_block_and_the_journal(self, tmp_path, monkeypatch, files, expected):
        commit = building.Journal.commit

        def stop(self, writer=None):
            if self.state.contents is not None:
                raise Stop
            commit(self, writer)

        with monkeypatch.context() as patch:
            patch.setattr(building.Journal, "commit", stop)
            with pytest.raises(Stop):
                build(files, tmp_path / "store")
        counted_encoding(monkeypatch, tmp_path / "log")
        assert contents(build(files, tmp_path / "store").path) == expected
        assert not (tmp_path / "log").exists()

    @pytest.mark.usefixtures("small")
    def test_killed_when_the_store_is_in_its_place(self, tmp_path, monkeypatch, files, expected):
        def stop(_):
            raise Stop

        with monkeypatch.context() as patch:
            patch.setattr(building.Build, "clean", stop)
            with pytest.raises(Stop):
                build(files, tmp_path / "store")
        assert contents(tmp_path / "store") == expected
        assert (tmp_path / "store.building").exists()
        with monkeypatch.context() as patch:
            patch.setattr(building.Build, "run", None)
            build(files, tmp_path / "store")
            assert not (tmp_path / "store.building").exists()
        interrupted(files, tmp_path / "store", 3, filters=Filters(min_length=30))
        build(files, tmp_path / "store")
        assert (tmp_path / "store.building").exists()  # which is about another store

    @pytest.mark.usefixtures("small")
    def test_finished_files_are_not_read_again(self, tmp_path, monkeypatch, files, expected):
        with monkeypatch.context() as patch:
            patch.setattr(building.Journal, "wrote", lambda *_: None)
            interrupted(files, tmp_path / "store", 13)
        read, opened = Reading._read, []

        def reading(self, index):
            opened.append(index)
            read(self, index)

        monkeypatch.setattr(Reading, "_read", reading)
        assert contents(build(files, tmp_path / "store").path) == expected
        assert opened and 0 not in opened

    @pytest.mark.parametrize("change", ["same size", "shorter", "finished file"])
    @pytest.mark.usefixtures("small")
    def test_a_source_that_changes_meanwhile(self, tmp_path, files, caplog, change):
        interrupted(files, tmp_path / "store", 3 if change != "finished file" else 9)
        changed = records(300, 5 if change != "shorter" else 0)[
            : 300 if change != "shorter" else 10
        ]
        write_fasta(files[0], changed)
        os.utime(files[0], (1, 1))
        store = build(files, tmp_path / "store")
        assert contents(store.path) == contents(build(files, tmp_path / "again").path)
        reason = "a.fa.gz has changed"
        assert reason in caplog.text
        assert store.name(0) == changed[0].name

    @pytest.mark.parametrize("name", ["tokens.bin", "names.bin", "checks.bin", "column_0.bin"])
    @pytest.mark.parametrize("how", ["flip", "cut", "remove"])
    @pytest.mark.usefixtures("small")
    def test_what_is_damaged_is_not_gone_on_with(
        self, tmp_path, files, expected, caplog, name, how
    ):
        interrupted(files, tmp_path / "store", 5)
        file = tmp_path / "store.building" / "store" / name
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 4
        if how == "flip":
            file.write_bytes(data)
        elif how == "cut":
            file.write_bytes(data[: len(data) // 2])
        else:
            file.unlink()
        assert contents(build(files, tmp_path / "store").path) == expected
        assert f"begins anew, since {file}: " in caplog.text

    @pytest.mark.usefixtures("small")
    def test_a_damaged_journal(self, tmp_path, files, expected, caplog):
        interrupted(files, tmp_path / "store", 9)
        journal = tmp_path / "store.building" / "journal.json"
        journal.write_bytes(journal.read_bytes().replace(b'"num_records": ', b'"num_records": 1'))
        assert contents(build(files, tmp_path / "store").path) == expected
        assert "is not gone on with, since" in caplog.text
        assert "journal.json: is damaged" in caplog.text

    @pytest.mark.usefixtures("small")
    def test_other_settings(self, tmp_path, files, caplog):
        interrupted(files, tmp_path / "store", 9)
        filters = Filters(min_length=50)
        store = build(files, tmp_path / "store", filters=filters)
        assert "it was begun with other settings" in caplog.text
        assert contents(store.path) == contents(build(files, tmp_path / "n", filters=filters).path)

    @pytest.mark.usefixtures("small")
    def test_a_damaged_part_is_made_again(self, tmp_path, monkeypatch, files, expected):
        interrupted(files, tmp_path / "store", 3, num_workers=4)
        parts = sorted((tmp_path / "store.building" / "parts").glob("*.part"))
        assert len(parts) > 3, "no parts wait: the test tests nothing"
        data = parts[1].read_bytes()
        parts[1].write_bytes(data[:99] + bytes([data[99] ^ 1]) + data[100:])
        parts[2].write_bytes(b"")
        counted_encoding(monkeypatch, tmp_path / "log")
        assert contents(build(files, tmp_path / "store", num_workers=4).path) == expected

    @pytest.mark.usefixtures("small")
    def test_parts_without_a_journal_are_used(self, tmp_path, monkeypatch, files, expected):
        interrupted(files, tmp_path / "store", 0, num_workers=4)
        folder = tmp_path / "store.building"
        parts = len(list((folder / "parts").glob("*.part")))
        assert parts and not (folder / "journal.json").exists()
        counted_encoding(monkeypatch, tmp_path / "log")
        assert contents(build(files, tmp_path / "store", num_workers=4).path) == expected
        with monkeypatch.context() as patch:
            counted_encoding(patch, tmp_path / "whole")
            build(files, tmp_path / "whole.store", num_workers=4)
        again, whole = (len((tmp_path / name).read_bytes()) for name in ("log", "whole"))
        assert again == 2 * whole - parts or again == whole - parts


class TestFaults:
    def test_a_worker_that_is_killed(self, tmp_path, monkeypatch, files, expected):
        in_small_blocks(monkeypatch, local=False)
        ask, count = workers._Worker.ask, [0]

        def killing(self, job):
            count[0] += 1
            if count[0] == 5:
                os.kill(self._process.pid, signal.SIGKILL)
            return ask(self, job)

        with monkeypatch.context() as patch:
            patch.setattr(workers._Worker, "ask", killing)
            match = "store: a process that encodes was ended by SIGKILL, perhaps for want of memory"
            with pytest.raises(ChildProcessError, match=match):
                build(files, tmp_path / "store", num_workers=2)
        assert (tmp_path / "store.building" / "journal.json").exists()
        assert contents(build(files, tmp_path / "store", num_workers=1).path) == expected

    def test_errors_come_from_processes_as_they_are(self, tmp_path, monkeypatch):
        in_small_blocks(monkeypatch, local=False)
        path = tmp_path / "x.fa"
        text = "".join(f">r{i}\nACGU{'J' if i == 150 else 'A'}\n" for i in range(300))
        path.write_text(text)
        match = r"x\.fa:r150: letter 'J' at position 5 is not in the vocabulary"
        for num_workers in (1, 2):
            with pytest.raises(ValueError, match=match):
                build([path], tmp_path / "store", num_workers=num_workers)
            assert names(tmp_path) == ["x.fa"]

    @pytest.mark.usefixtures("small")
    def test_the_first_of_several_errors_is_said(self, tmp_path):
        for name in "abc":
            (tmp_path / name).write_text(f">{name}\nACJ\n")
        with pytest.raises(ValueError, match="a:a: letter 'J'"):
            build([tmp_path / name for name in "abc"], tmp_path / "store", num_workers=9)

    @pytest.mark.usefixtures("small")
    def test_a_cut_file_says_how_far_it_goes(self, tmp_path):
        path = tmp_path / "x.fa.gz"
        write_fasta(path, records(200))
        os.truncate(path, path.stat().st_size // 2)
        interrupted([path], tmp_path / "store", 2)
        messages = []
        for _ in range(2):
            with pytest.raises(ValueError, match=r"end too early, after \d\d records") as error:
                build([path], tmp_path / "store")
            messages.append(str(error.value))
        assert messages[0] == messages[1]  # begun anew, or gone on with

    @pytest.mark.usefixtures("small")
    def test_a_full_disk(self, tmp_path, monkeypatch, files, expected):
        append, count = StoreWriter.append, [0]

        def full(self, part):
            count[0] += 1
            if count[0] == 7:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            append(self, part)

        with monkeypatch.context() as patch:
            patch.setattr(StoreWriter, "append", full)
            with pytest.raises(OSError, match=r"store: cannot be written .No space left on dev"):
                build(files, tmp_path / "store", num_workers=3)
        assert contents(build(files, tmp_path / "store").path) == expected

    def test_a_disk_that_fills_while_parts_are_written(
        self, tmp_path, monkeypatch, files, expected
    ):
        in_small_blocks(monkeypatch, local=False)
        ask = workers._Worker.ask

        def refused(self, job):
            job.path = Path("/dev/full/x") if "b.fa" in job.source else job.path
            return ask(self, job)

        with monkeypatch.context() as patch:
            patch.setattr(workers._Worker, "ask", refused)
            with pytest.raises(OSError, match=r"store: cannot be written .Not a directory"):
                build(files, tmp_path / "store", num_workers=2)
        assert contents(build(files, tmp_path / "store", num_workers=1).path) == expected

    @pytest.mark.parametrize("redundancy", ["exact", "contained"])
    def test_too_little_room_is_said_before_anything_is_read(
        self, tmp_path, monkeypatch, redundancy
    ):
        path = tmp_path / "x.fa.gz"
        write_fasta(path, records(3000))
        size = sum(map(len, contents(build([path], tmp_path / "there").path).values()))
        usage = shutil.disk_usage(tmp_path)._replace(free=size // 3)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(OSError, match=r"store: the store needs about .* make room or") as error:
            build([path], tmp_path / "store", filters=Filters(redundancy=redundancy))
        assert error.value.errno == errno.ENOSPC
        needed = float(str(error.value).split("needs about ")[1].split(" MB")[0]) * 1e6
        sets = 2 if redundancy == "contained" else 1
        assert 0.9 * sets * size < needed < 1.25 * sets * size
        assert not (tmp_path / "store").exists()


def found_as_contained(offsets):
    """Every third sequence, for tests of what is done with it."""
    kinds = np.zeros(len(offsets) - 1, np.uint8)
    kinds[2::3], kinds[5::9], kinds[8::27] = 2, 3, 1
    return containment.Redundancy(kinds, np.full(len(kinds), -1), peak_bytes=12_000_000)


class TestContained:
    CONTAINED = Filters(redundancy="contained")

    @pytest.fixture(autouse=True)
    def _search(self, monkeypatch):
        self.searches = []

        def search(_, offsets, **options):
            self.searches.append(options)
            return found_as_contained(offsets)

        monkeypatch.setattr(containment, "find_redundant", search)

    @pytest.mark.parametrize("chunk", [7, 1 << 16])
    def test_what_is_kept(self, tmp_path, monkeypatch, files, chunk):
        monkeypatch.setattr("rnafm.data.compaction._CHUNK", chunk)
        monkeypatch.setattr("rnafm.data.compaction._TOKENS", 300 if chunk == 7 else 1 << 20)
        whole = build(files, tmp_path / "whole")
        store = build(files, tmp_path / "store", filters=self.CONTAINED)
        store.verify()
        kinds = found_as_contained(whole.offsets).kinds
        left = np.flatnonzero(kinds == 0)
        assert [store.sequence(i) for i in range(len(store))] == [whole.sequence(i) for i in left]
        assert [store.name(i) for i in range(len(store))] == [whole.name(i) for i in left]
        np.testing.assert_array_equal(store.hashes, whole.hashes[left])
        np.testing.assert_array_equal(store.column("type")[0], whole.column("type")[0][left])
        assert store.column("type")[1] == whole.column("type")[1]
        counts = store.info["counts"]
        assert counts["contained"] == (kinds == 2).sum()
        assert counts["contained reverse complement"] == (kinds == 3).sum()
        assert counts["duplicate"] == whole.info["counts"]["duplicate"] + (kinds == 1).sum()
        assert counts["read"] == sum(n for rule, n in counts.items() if rule != "read")
        assert store.info["made"] == {"memory_bytes": 12_000_000}

    def test_by_type(self, tmp_path, files):
        store = build(files, tmp_path / "store", filters=self.CONTAINED)
        found, counts = store.info["redundancy"], store.info["counts"]
        assert found["column"] == "type" and set(found["types"]) == {"", "tRNA", "rRNA", "miRNA"}
        names = ("kept", "duplicate", "contained", "contained reverse complement")
        for kind, name in zip(found["types"][""], names, strict=True):
            assert sum(row[kind] for row in found["types"].values()) == counts[name]
        codes, values = store.column("type")
        assert found["types"]["tRNA"]["kept"] == (codes == values.index("tRNA")).sum()

    @pytest.mark.parametrize("place", ["find_kinds", "compact", "take_place"])
    @pytest.mark.usefixtures("small")
    def test_killed_at_any_stage(self, tmp_path, monkeypatch, files, place):
        expected = contents(build(files, tmp_path / "expected", filters=self.CONTAINED).path)
        self.searches.clear()

        def stop(*_, **__):
            raise Stop

        with monkeypatch.context() as patch:
            patch.setattr(building, place, stop)
            with pytest.raises(Stop):
                build(files, tmp_path / "store", filters=self.CONTAINED)
        counted_encoding(monkeypatch, tmp_path / "log")
        store = build(files, tmp_path / "store", filters=self.CONTAINED)
        assert contents(store.path) == expected
        assert len(self.searches) == 1  # the search is not done twice
        assert not (tmp_path / "log").exists()  # nor is anything read again

    @pytest.mark.parametrize("name", ["kinds.bin", "store/offsets.bin"])
    @pytest.mark.usefixtures("small")
    def test_damage_between_the_stages(self, tmp_path, monkeypatch, files, caplog, name):
        expected = contents(build(files, tmp_path / "expected", filters=self.CONTAINED).path)

        def stop(*_, **__):
            raise Stop

        with monkeypatch.context() as patch:
            patch.setattr(building, "compact", stop)
            with pytest.raises(Stop):
                build(files, tmp_path / "store", filters=self.CONTAINED)
        file = tmp_path / "store.building" / name
        file.write_bytes(b"\1" + file.read_bytes()[1:])
        store = build(files, tmp_path / "store", filters=self.CONTAINED)
        assert contents(store.path) == expected
        assert f"begins anew, since {file}: is damaged" in caplog.text

    def annotate(self, folder):
        """Types that no header says."""
        store = SequenceStore(folder)
        codes = np.arange(len(store)) % 3
        add_columns(folder, {"rna_type": (codes, ["", "x", "y"])}, {"metadata": {"files": []}})

    @pytest.mark.usefixtures("small")
    def test_by_types_that_are_added(self, tmp_path, files):
        store = build(files, tmp_path / "s", filters=self.CONTAINED, annotate=self.annotate)
        store.verify()
        found, counts = store.info["redundancy"], store.info["counts"]
        assert found["column"] == "rna_type"
        assert {name: row["contained"] > 0 for name, row in found["types"].items()} == {
            "": False,  # the kinds of these tests have the same period
            "x": False,
            "y": True,
        }
        assert sum(row["kept"] for row in found["types"].values()) == counts["kept"] == len(store)
        assert store.columns == ("type", "rna_type")
        assert set(store.column("rna_type")[0].tolist()) == {0, 1}
        assert store.info["added"] == {"metadata": {"files": []}}
        assert set(contents(store.path)) == {*store.info["files"], "store.json"}

    @pytest.mark.usefixtures("small")
    def test_tables_that_are_refused_cost_no_reading(self, tmp_path, monkeypatch, files):
        def refuse(_):
            raise ValueError("x.tsv:3: a bad row")

        with pytest.raises(ValueError, match="a bad row"):
            build(files, tmp_path / "store", annotate=refuse)
        counted_encoding(monkeypatch, tmp_path / "log")
        assert build(files, tmp_path / "store", annotate=self.annotate).columns[1] == "rna_type"
        assert not (tmp_path / "log").exists()

    def test_codons_are_refused_at_once(self, tmp_path, files):
        with pytest.raises(ValueError, match="containment compares nucleotides; use redundancy: e"):
            build(
                files,
                tmp_path / "store",
                filters=self.CONTAINED,
                vocabulary=Vocabulary.named("codon"),
            )

    def test_without_numba(self, tmp_path, monkeypatch, files):
        monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
        with pytest.raises(ValueError, match="redundancy: contained needs numba, which is not ins"):
            build(files, tmp_path / "store", filters=self.CONTAINED)

    def test_exact_has_types_too(self, tmp_path, files):
        store = SequenceStore(build(files, tmp_path / "store").path)
        rows = store.info["redundancy"]["types"].values()
        assert sum(row["duplicate"] for row in rows) == store.info["counts"]["duplicate"]
        assert sum(row["kept"] for row in rows) == len(store)


def test_an_unknown_redundancy():
    with pytest.raises(ValueError, match=r"redundancy \('all'\) must be one of none, exact, cont"):
        Filters(redundancy="all")
