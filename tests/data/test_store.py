"""Stores: what goes in comes out, on every process, whole or not at all."""

import errno
import gzip
import json
import logging
import multiprocessing
import os
import pickle
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import run_and_kill

from rnafm.data import building, publish
from rnafm.data.checksums import SPAN
from rnafm.data.fasta import Record, write_fasta
from rnafm.data.filters import sequence_digests
from rnafm.data.manifest import write_manifest
from rnafm.data.store import Filters, SequenceStore, build_store
from rnafm.data.store_columns import add_columns
from rnafm.data.vocabulary import Vocabulary

RNA, CODON = Vocabulary.named("rna"), Vocabulary.named("codon")
RECORDS = [
    Record("a", "ACGU", "family=x type=tRNA"),
    Record("b", "acgt", "family=y"),
    Record("c", "GGGGCC", "type=rRNA"),
    Record("d", "NNAC"),
    Record("e", "", "family=x"),
    Record("a", "U" * 2000, "family=z type=tRNA"),
]
ALL = Filters(max_ambiguous=1.0, redundancy="none")


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch):
    """A kill leaves what the kernel holds; only a power cut would not."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def build(folder, records=RECORDS, **options):
    path = folder / "x.fa"
    write_fasta(path, records)
    options = {"vocabulary": RNA, "progress": False, **options}
    return build_store([path], folder / "store", **options)


class TestContents:
    def test_filters_and_counts(self, tmp_path):
        store = build(tmp_path)
        assert [store.name(i) for i in range(len(store))] == ["a", "c", "a"]
        assert [store.sequence(i) for i in range(3)] == ["ACGU", "GGGGCC", "U" * 2000]
        assert store.info["counts"] == {
            "read": 6,
            "kept": 3,
            "empty": 1,
            "too short": 0,
            "too long": 0,
            "ambiguous": 1,
            "duplicate": 1,
        }
        assert list(store.names()) == [["a", "c", "a"]]
        assert store.lengths.tolist() == [4, 6, 2000]  # long ones stay whole
        assert store.offsets.tolist() == [0, 4, 10, 2010]

    def test_length_rules(self, tmp_path):
        store = build(tmp_path, filters=Filters(min_length=5, max_length=100))
        assert [store.name(i) for i in range(len(store))] == ["c"]
        counts = store.info["counts"]
        assert (counts["too short"], counts["too long"], counts["empty"]) == (3, 1, 1)

    def test_without_rules_only_empty_records_go(self, tmp_path):
        store = build(tmp_path, filters=ALL)
        assert [store.sequence(i) for i in range(4)] == ["ACGU", "ACGU", "GGGGCC", "NNAC"]
        assert store.info["ambiguous"] == 2

    def test_tokens_are_those_of_the_vocabulary(self, tmp_path):
        store = build(tmp_path, filters=ALL)
        expected, lengths = RNA.encode_many([r.sequence for r in RECORDS if r.sequence])
        np.testing.assert_array_equal(store.tokens, expected)
        np.testing.assert_array_equal(store.lengths, lengths)
        assert type(store.tokens) is np.ndarray and store.tokens.dtype == np.uint8
        assert store.vocabulary == RNA

    def test_hashes_say_nothing_of_case_t_and_place(self, tmp_path):
        store = build(tmp_path, filters=ALL)
        assert store.hashes[0] == store.hashes[1] != store.hashes[2]
        assert store.hashes[0] == sequence_digests(["acgt"])[0][0]

    def test_the_hash_is_the_same_on_every_machine(self):
        hashes, checks = sequence_digests(["ACGU", ""])
        assert hashes.tolist() == [0x1F90BFA410BBF614, 0x6001C324468D497F]
        assert checks.tolist() == [0xEF2D894F, 0x014798D8]

    def test_several_files_in_order(self, tmp_path):
        write_fasta(tmp_path / "x.fa.gz", RECORDS[:3])
        write_fasta(tmp_path / "y.fa", RECORDS[1:])
        store = build_store(
            [tmp_path / "x.fa.gz", tmp_path / "y.fa"], tmp_path / "s", vocabulary=RNA
        )
        assert [store.name(i) for i in range(len(store))] == ["a", "c", "a"]
        assert [source["name"] for source in store.info["sources"]] == ["x.fa.gz", "y.fa"]
        assert store.info["counts"]["duplicate"] == 3

    def test_codons(self, tmp_path):
        store = build(tmp_path, [Record("a", "AUGGCCUAA"), Record("b", "ATGNNN")], vocabulary=CODON)
        assert [store.sequence(i) for i in range(len(store))] == ["AUGGCCUAA"]
        assert store.lengths.tolist() == [3]
        assert store.info["counts"]["ambiguous"] == 1

    def test_column_of_key_value_words(self, tmp_path):
        store = build(tmp_path, filters=ALL)
        assert store.columns == ("family", "type")
        codes, categories = store.column("type")
        assert [categories[code] for code in codes] == ["tRNA", "", "rRNA", "", "tRNA"]
        codes, categories = store.column("family")
        assert [categories[code] for code in codes] == ["x", "y", "", "", "z"]

    def test_a_column_that_comes_late_starts_empty(self, tmp_path, monkeypatch):
        monkeypatch.setattr("rnafm.data.filling.BLOCK", 16)
        store = build(tmp_path, [*RECORDS[:4], Record("z", "CCCC", "late=1")], filters=ALL)
        codes, categories = store.column("late")
        assert [categories[code] for code in codes] == ["", "", "", "", "1"]

    def test_columns_of_an_expression(self, tmp_path):
        records = [Record("rfam:1", "AC", "tRNA"), Record("2", "CC"), Record("x:3", "GC", "mi RNA")]
        pattern = r"^(?P<source>\w+):\S+ (?P<type>.+)"
        store = build(tmp_path, records, columns=pattern)
        codes, categories = store.column("type")
        assert [categories[code] for code in codes] == ["tRNA", "", "mi RNA"]
        assert categories == ["", "tRNA", "mi RNA"]
        assert store.column("source")[1] == ["", "rfam", "x"]

    def test_unknown_letters_as_unk(self, tmp_path):
        records = [Record("a", "ACJU" + "A" * 50), Record("b", "ACéU" + "A" * 50)]
        store = build(tmp_path, records, on_unknown="unk", filters=ALL)
        assert store.sequence(0)[:9] == "AC<unk>UA"
        assert store.sequence(1)[:9] == "AC<unk>UA"

    @given(
        st.lists(
            st.builds(
                Record,
                st.text("abcXYZ019_.|/é", min_size=1, max_size=12),
                st.text("ACGUTNacgutnRYS", min_size=1, max_size=90),
                st.just(""),
            ),
            min_size=1,
        ),
        st.integers(1, 300),
    )
    def test_any_sequences_come_back(self, tmp_path_factory, records, chunk):
        folder = tmp_path_factory.mktemp("any")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("rnafm.data.filling.BLOCK", chunk)
            patch.setattr("rnafm.data.blocks._PART", chunk // 2)
            store = build(folder, records, filters=ALL)
        assert [store.name(i) for i in range(len(store))] == [r.name for r in records]
        sequences = [r.sequence.upper().replace("T", "U") for r in records]
        assert [store.sequence(i) for i in range(len(store))] == sequences
        shutil.rmtree(folder / "store")
        unique = build(folder, records, filters=Filters(max_ambiguous=1.0))
        found = [unique.sequence(i) for i in range(len(unique))]
        assert found == list(dict.fromkeys(sequences))


class TestOpening:
    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="holds no token store; make one with: rnafm"):
            SequenceStore.open(tmp_path)

    @pytest.mark.parametrize("version", [1, 99])
    def test_other_format(self, tmp_path, version):
        path = build(tmp_path).path / "store.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "format": version}))
        match = f"has format {version}, this version of rnafm reads 2; build the store again"
        with pytest.raises(ValueError, match=match):
            SequenceStore.open(path.parent)

    def test_damaged_description(self, tmp_path):
        path = build(tmp_path).path / "store.json"
        path.write_text("{")
        with pytest.raises(ValueError, match=r"store\.json: cannot be read .*; delete the store"):
            SequenceStore.open(path.parent)

    @pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "hashes.bin"])
    def test_cut_files(self, tmp_path, name):
        store = build(tmp_path)
        os.truncate(store.path / name, (store.path / name).stat().st_size - 1)
        with pytest.raises(ValueError, match=r"has [\d,]+ bytes, not [\d,]+, so .* do not fit tog"):
            SequenceStore.open(store.path)

    def test_verify(self, tmp_path):
        store = build(tmp_path)
        store.verify()
        with (store.path / "tokens.bin").open("r+b") as file:
            file.write(b"\7\7")
        with pytest.raises(ValueError, match=r"tokens\.bin: is damaged between bytes 0 and 2,010"):
            SequenceStore.open(store.path).verify()

    def test_indices_and_columns(self, tmp_path):
        store = build(tmp_path)
        assert store.name(-1) == store.name(2)
        with pytest.raises(IndexError, match="has 3 sequences, none with index 3"):
            store.sequence(3)
        with pytest.raises(ValueError, match=r"no column 'kind' .it has: family, type.; build it"):
            store.column("kind")

    def test_opening_reads_almost_nothing(self, tmp_path):
        """The files of 40 million sequences, sparse on the disk."""
        store = build(tmp_path, RECORDS[:1])
        count = 40_000_000
        info = json.loads((store.path / "store.json").read_text())
        info["counts"]["kept"], info["tokens"] = count, 100 * count
        for name, size in {"tokens": 100, "offsets": 8, "hashes": 8, "name_offsets": 8}.items():
            length = size * count + (8 if "offsets" in name else 0)
            os.truncate(store.path / f"{name}.bin", length)
            sums = ["0" * 16] * -(-length // SPAN)
            info["files"][f"{name}.bin"] = {"size": length, "xxh3": sums}
        for column in info["columns"].values():
            os.truncate(store.path / column["file"], 4 * count)
            sums = ["0" * 16] * -(-4 * count // SPAN)
            info["files"][column["file"]] = {"size": 4 * count, "xxh3": sums}
        write_manifest(store.path / "store.json", info)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        opened = SequenceStore.open(store.path)
        assert len(opened) == count and opened.tokens.shape == (100 * count,)
        assert time.perf_counter() - start < 1
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000  # KiB
        shutil.rmtree(store.path)


def _sum_in_process(store, queue):
    queue.put((int(store.tokens.sum()), store.name(0), len(store), store.lengths.tolist()))


class TestProcesses:
    def test_pickle_holds_no_data(self, tmp_path):
        store = build(tmp_path, [Record("a", "ACGU" * 100_000)])
        store.tokens.sum()
        data = pickle.dumps(store)
        assert len(data) < 5000
        assert pickle.loads(data).sequence(0) == store.sequence(0)  # noqa: S301

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_fork_and_spawn(self, tmp_path, method):
        store = build(tmp_path)
        expected = (int(store.tokens.sum()), "a", 3, [4, 6, 2000])
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        processes = [
            context.Process(target=_sum_in_process, args=(store, queue))
            for _ in range(3 if method == "fork" else 1)
        ]
        for process in processes:
            process.start()
        assert [queue.get(timeout=60) for _ in processes] == [expected] * len(processes)
        for process in processes:
            process.join()


class TestReuse:
    def again(self, folder, caplog, **options):
        """Whether the store is built again, and the log."""
        caplog.clear()
        before = (folder / "store" / "store.json").stat().st_ino
        options = {"vocabulary": RNA, "progress": False, **options}
        with caplog.at_level(logging.INFO):
            store = build_store([folder / "x.fa"], folder / "store", **options)
        assert names(folder) == ["store", "x.fa"]
        store.verify()
        return (store.path / "store.json").stat().st_ino != before, caplog.text

    def test_as_it_is(self, tmp_path, caplog):
        build(tmp_path)
        rebuilt, log = self.again(tmp_path, caplog)
        assert not rebuilt and "is up to date and used as it is" in log

    def test_other_time_same_content(self, tmp_path, caplog):
        build(tmp_path)
        os.utime(tmp_path / "x.fa", (1, 1))
        rebuilt, _ = self.again(tmp_path, caplog)
        assert not rebuilt

    @pytest.mark.parametrize("same_size", [True, False])
    def test_other_content(self, tmp_path, caplog, same_size):
        build(tmp_path)
        text = (tmp_path / "x.fa").read_text()
        (tmp_path / "x.fa").write_text(text.replace("GGGGCC", "GGGGCA" if same_size else "GGGGCCA"))
        os.utime(tmp_path / "x.fa", (1, 1))
        rebuilt, log = self.again(tmp_path, caplog)
        assert rebuilt and "x.fa has changed" in log
        assert SequenceStore.open(tmp_path / "store").sequence(1).startswith("GGGGC")

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"vocabulary": CODON}, "its vocabulary are others: letters_per_token was 1 and is 3"),
            ({"vocabulary": Vocabulary.named("rna-28")}, "its vocabulary are others: tokens was"),
            ({"filters": Filters(min_length=2)}, "settings are others: min_length was 1 and is 2"),
            ({"columns": "(?P<a>.)"}, "settings are others: columns was None and is '(?P<a>.)'"),
            ({"on_unknown": "unk"}, "settings are others: on_unknown was 'error' and is 'unk'"),
        ],
    )
    def test_other_settings(self, tmp_path, caplog, options, reason):
        build(tmp_path, RECORDS[2:3])
        rebuilt, log = self.again(tmp_path, caplog, **options)
        assert rebuilt and "store: is built again, since" in log and reason in log

    def test_other_files(self, tmp_path, caplog):
        build(tmp_path)
        (tmp_path / "x.fa").rename(tmp_path / "y.fa")
        with caplog.at_level(logging.INFO):
            build_store([tmp_path / "y.fa"], tmp_path / "store", vocabulary=RNA)
        assert "it was made from other files: x.fa" in caplog.text

    def test_damaged_description(self, tmp_path, caplog):
        build(tmp_path)
        (tmp_path / "store" / "store.json").write_text("{")
        rebuilt, log = self.again(tmp_path, caplog)
        assert rebuilt and "store.json: cannot be read" in log

    def test_something_else_is_left_alone(self, tmp_path):
        (tmp_path / "store").mkdir()
        (tmp_path / "store" / "thesis.txt").write_text("years")
        with pytest.raises(ValueError, match="is there and is no token store; delete it or choose"):
            build(tmp_path)
        assert names(tmp_path / "store") == ["thesis.txt"]

    def test_an_empty_folder_is_used(self, tmp_path):
        (tmp_path / "store").mkdir()
        assert len(build(tmp_path)) == 3

    def test_a_failed_build_leaves_the_old_store(self, tmp_path):
        build(tmp_path)
        with pytest.raises(ValueError, match=r"x\.fa:d: letter 'J' at position 2"):
            build(tmp_path, [*RECORDS[:3], Record("d", "AJ")])
        assert len(SequenceStore.open(tmp_path / "store")) == 3
        assert names(tmp_path) == ["store", "x.fa"]


class TestRefusals:
    def refused(self, folder, match, *args, error=ValueError, **options):
        with pytest.raises(error, match=match):
            build(folder, *args, **options)
        assert names(folder) == ["x.fa"]

    def test_unknown_letters(self, tmp_path):
        match = (
            r"x\.fa:b: letter 'J' at position 3 is not in the vocabulary 'rna'.*on_unknown='unk'"
        )
        self.refused(tmp_path, match, [Record("a", "AC"), Record("b", "ACJ")])

    def test_blanks(self, tmp_path):
        (tmp_path / "x.fa").write_text(">a\nAC GU\n")
        with pytest.raises(ValueError, match=r"x\.fa:a: letter ' ' at position 3"):
            build_store([tmp_path / "x.fa"], tmp_path / "s", vocabulary=RNA)

    def test_unicode(self, tmp_path):
        self.refused(tmp_path, r"x\.fa:a: letter 'é' at position 2", [Record("a", "Aé")])

    def test_parts_of_codons(self, tmp_path):
        match = r"x\.fa:b: 4 letters are not a whole number of codons; cut the sequence"
        self.refused(tmp_path, match, [Record("a", "AUG"), Record("b", "AUGA")], vocabulary=CODON)

    def test_nothing_left(self, tmp_path):
        match = r"no sequence is left \(1 empty, 5 too short\); loosen the filters"
        self.refused(tmp_path, match, filters=Filters(min_length=5000))

    def test_no_files(self, tmp_path):
        with pytest.raises(ValueError, match="no FASTA files are given; name at least one"):
            build_store([], tmp_path / "s", vocabulary=RNA)

    def test_cut_file(self, tmp_path):
        write_fasta(tmp_path / "x.fa.gz", RECORDS * 50)
        os.truncate(tmp_path / "x.fa.gz", 200)
        with pytest.raises(ValueError, match=r"x\.fa\.gz: the gzip data end too early, after \d+"):
            build_store([tmp_path / "x.fa.gz"], tmp_path / "s", vocabulary=RNA)
        assert names(tmp_path) == ["x.fa.gz"]

    @pytest.mark.parametrize(
        ("pattern", "match"),
        [
            ("(", r"columns: '\(' is no regular expression .*; correct it"),
            (r"\S+", r"columns: .* has no named group; name one, as in '\(\?P<type>"),
        ],
    )
    def test_columns(self, tmp_path, pattern, match):
        self.refused(tmp_path, match, columns=pattern)

    def test_columns_that_are_no_categories(self, tmp_path, monkeypatch):
        monkeypatch.setattr("rnafm.data.columns.MOST_CATEGORIES", 3)
        match = "'family' has more than 3 values, so it names no categories; give an expression"
        self.refused(tmp_path, match)

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"min_length": 5, "max_length": 4}, r"max_length \(4\) is below min_length \(5\)"),
            ({"max_ambiguous": 1.5}, r"max_ambiguous \(1.5\) must lie between 0 and 1"),
        ],
    )
    def test_filters(self, options, match):
        with pytest.raises(ValueError, match=match):
            Filters(**options)


class TestInterruption:
    def test_killed_at_any_moment(self, tmp_path):
        """Small stores, which take the place of one another."""
        rng = random.Random(0)  # noqa: S311
        fasta, store = tmp_path / "x.fa", tmp_path / "store"
        records = [Record(f"r{i}", "".join(rng.choices("ACGU", k=100))) for i in range(2000)]
        write_fasta(fasta, records)
        seen = set()

        def work():
            while True:
                for name in ("rna", "rna-28"):
                    vocabulary = Vocabulary.named(name)
                    build_store([fasta], store, vocabulary=vocabulary, progress=False)

        for _ in range(20):
            run_and_kill(work, rng.random() * 0.15)
            seen.update(name.split("-")[0] for name in names(tmp_path))
            if store.exists():  # whatever is there under this name is whole
                opened = SequenceStore.open(store)
                opened.verify()
                assert len(opened) == len(records)
                assert opened.sequence(1_999) == records[-1].sequence
        assert "store.building" in seen, "no build was interrupted: the test tests nothing"
        # Other settings, so that it is built whatever the last process has left.
        found = build_store([fasta], store, vocabulary=RNA, columns="(?P<a>.)", progress=False)
        found.verify()
        assert len(found) == len(records)
        assert names(tmp_path) == ["store", "x.fa"]

    def test_leftovers_go(self, tmp_path):
        for name in ("store.tmp-1", "store.tmp-old", "other.tmp-1"):
            (tmp_path / name).mkdir()
        build(tmp_path)
        assert names(tmp_path) == ["other.tmp-1", "store", "x.fa"]

    def test_two_at_once_build_once(self, tmp_path):
        write_fasta(tmp_path / "x.fa", RECORDS)
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        processes = [
            context.Process(target=_build_in_process, args=(tmp_path, queue)) for _ in range(4)
        ]
        for process in processes:
            process.start()
        results = [queue.get(timeout=60) for _ in processes]
        for process in processes:
            process.join()
        assert len(set(results)) == 1  # the same file, not one each
        assert names(tmp_path) == ["store", "x.fa"]

    def test_full_disk(self, tmp_path):
        """A real refusal by the kernel: no file may grow beyond 64 KiB."""
        records = [Record(f"r{i}", "ACGU" * 100 + "A" * i) for i in range(1000)]
        write_fasta(tmp_path / "x.fa", records)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with pytest.MonkeyPatch.context() as patch:
            patch.delattr(os, "memfd_create", raising=False)
            patch.setattr("rnafm.data.blocks._CHUNK", 8192)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
            try:
                with pytest.raises(OSError, match=r"store: cannot be written .*; make room or ch"):
                    build_store([tmp_path / "x.fa"], tmp_path / "store", vocabulary=RNA)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                signal.signal(signal.SIGXFSZ, before)
        assert names(tmp_path) == ["x.fa"]

    @pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
    @pytest.mark.parametrize("place", ["mkdir", "sync"])
    def test_any_refusal(self, tmp_path, monkeypatch, code, place):
        def refuse(*_, **__):
            raise OSError(code, os.strerror(code))

        write_fasta(tmp_path / "x.fa", RECORDS)
        monkeypatch.setattr(
            *((Path, "mkdir") if place == "mkdir" else (publish, "synchronise")), refuse
        )
        match = f"store: cannot be written .{os.strerror(code)}.; make room or choose another"
        with pytest.raises(OSError, match=match):
            build_store([tmp_path / "x.fa"], tmp_path / "new" / "store", vocabulary=RNA)
        assert "new" not in names(tmp_path) or not names(tmp_path / "new")


def _build_in_process(folder, queue):
    store = build_store([folder / "x.fa"], folder / "store", vocabulary=RNA, progress=False)
    queue.put((store.path / "tokens.bin").stat().st_ino)


class TestWriting:
    def test_progress_elsewhere_is_a_line(self, tmp_path, capsys):
        build(tmp_path, progress=True)
        error = capsys.readouterr().err
        assert error.startswith("prepare store: 6 records, 2,018 nt in ")
        assert error.count("\n") == 1 and "seq/s" in error and "Mnt/s" in error

    def test_gzip_and_plain_give_the_same(self, tmp_path):
        first = build(tmp_path)
        (tmp_path / "x.fa.gz").write_bytes(gzip.compress((tmp_path / "x.fa").read_bytes()))
        second = build_store([tmp_path / "x.fa.gz"], tmp_path / "s", vocabulary=RNA)
        assert first.fingerprint == second.fingerprint
        for name in set(names(first.path)) - {"store.json"}:
            assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


class TestCostly:
    """What took long to make is not replaced because an option was forgotten."""

    def test_a_store_without_contained_sequences(self, tmp_path, monkeypatch):
        nothing = np.zeros(3, np.uint8), 0  # the search itself has tests of its own
        monkeypatch.setattr(building, "find_kinds", lambda *_, **__: nothing)
        contained = Filters(redundancy="contained")
        first = build(tmp_path, filters=contained)
        with pytest.raises(
            ValueError,
            match=r"store: is a store without contained sequences, .* since its settings are others"
            r": columns was None and is '\(\?P<x>.\)', redundancy was 'contained' and is 'exact'\."
            r" Give the same settings; or use it as it is .*--data.store .*--overwrite",
        ):
            build(tmp_path, columns="(?P<x>.)")
        assert SequenceStore(first.path).fingerprint == first.fingerprint
        second = build(tmp_path, overwrite=True)
        assert second.info["settings"]["filters"]["redundancy"] == "exact"

    def test_a_store_with_added_columns(self, tmp_path):
        first = build(tmp_path)
        codes = np.arange(len(first), dtype=np.int64)
        add_columns(first.path, {"cluster": (codes, None)}, {"cluster": {"identity": 0.8}})
        with pytest.raises(ValueError, match=r"is a store with cluster, and would be built again"):
            build(tmp_path, filters=ALL)
        assert "cluster" in SequenceStore(first.path).columns
        assert "cluster" in build(tmp_path).columns
