"""Reading FASTA: what works, what is refused and with which words."""

import contextlib
import gzip
import multiprocessing
import os
import pickle
import random
import re
import resource

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data import blocks, parsing
from rnafm.data.fasta import FastaFile, Record, read_fasta, write_fasta

RECORDS = [Record("a", "ACGU"), Record("b", "GGGG", "family=x type=y"), Record("c", "UU", "tRNA")]
TEXT = ">a\nAC\nGU\n>b family=x type=y\nGGGG\n>c tRNA\nUU\n"


def put(path, data):
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def names(folder):
    return [path.name for path in folder.iterdir()]


def records_of(path):
    return list(read_fasta(path))


def many(number=3000):
    rng = random.Random(0)  # noqa: S311
    return [
        Record(f"r{i}", "".join(rng.choices("ACGU", k=rng.randint(20, 200))), f"n={i}")
        for i in range(number)
    ]


def as_text(records):
    return "".join(f">{record.header}\n{record.sequence}\n" for record in records).encode()


class TestWhatWorks:
    def test_plain_and_gzip(self, tmp_path):
        assert records_of(put(tmp_path / "x.fa", TEXT)) == RECORDS
        assert records_of(put(tmp_path / "x.fa.gz", gzip.compress(TEXT.encode()))) == RECORDS

    def test_gzip_is_known_by_its_content(self, tmp_path):
        assert records_of(put(tmp_path / "x.fa", gzip.compress(TEXT.encode()))) == RECORDS

    def test_members_one_after_another_with_padding(self, tmp_path):
        first, second = TEXT[:20].encode(), TEXT[20:].encode()
        data = gzip.compress(first) + gzip.compress(b"") + gzip.compress(second) + bytes(600)
        assert records_of(put(tmp_path / "x.fa.gz", data)) == RECORDS

    @pytest.mark.parametrize(
        "text",
        [
            TEXT.replace("\n", "\r\n"),
            TEXT.rstrip("\n"),
            "\n\n" + TEXT,
            TEXT.replace(">", "\n>"),
            TEXT.replace(">b", "\r\n>b").replace("AC", "\r\nAC"),
        ],
        ids=["windows", "no last line end", "blank first", "blank between", "mixed"],
    )
    def test_line_ends(self, tmp_path, text):
        assert records_of(put(tmp_path / "x.fa", text)) == RECORDS

    def test_case_is_kept(self, tmp_path):
        assert records_of(put(tmp_path / "x.fa", ">a\nacgT\n"))[0].sequence == "acgT"

    def test_empty_records_and_repeated_names(self, tmp_path):
        found = records_of(put(tmp_path / "x.fa", ">a\n>a\nAC\n>a\n\n>b"))
        assert found == [Record("a", ""), Record("a", "AC"), Record("a", ""), Record("b", "")]

    def test_unicode_headers(self, tmp_path):
        found = records_of(put(tmp_path / "x.fa", ">é 種=イネ\nAC\n"))
        assert found == [Record("é", "AC", "種=イネ")]

    def test_unicode_and_blanks_stay_in_the_sequence(self, tmp_path):
        assert records_of(put(tmp_path / "x.fa", ">a\nAC GU\n>b\nAé\n"))[0].sequence == "AC GU"

    def test_header(self):
        assert [record.header for record in RECORDS] == ["a", "b family=x type=y", "c tRNA"]

    @pytest.mark.parametrize("chunk", [1, 2, 3, 5, 17, 64])
    @pytest.mark.parametrize("packed", [False, True])
    def test_blocks_may_end_anywhere(self, tmp_path, monkeypatch, chunk, packed):
        monkeypatch.setattr(blocks, "_CHUNK", chunk + 18 * packed)  # a gzip header is whole
        records = many(60)
        text = as_text(records)
        path = put(tmp_path / "x.fa", gzip.compress(text) if packed else text)
        assert records_of(path) == records

    def test_a_record_longer_than_blocks(self, tmp_path, monkeypatch):
        monkeypatch.setattr(blocks, "_CHUNK", 100)
        records = [Record("a", "ACGU" * 5000), Record("b", "A")]
        assert records_of(put(tmp_path / "x.fa", as_text(records))) == records

    def test_position_and_source(self, tmp_path):
        file = FastaFile(put(tmp_path / "x.fa", TEXT))
        assert file.source is None
        for _ in file:
            pass
        assert file.position == file.size == file.source["size"] == len(TEXT)
        assert file.source["name"] == "x.fa"
        assert file.is_(file.source)

    def test_two_passes_at_once(self, tmp_path):
        file = FastaFile(put(tmp_path / "x.fa", as_text(many())))
        first = iter(file)
        next(first)
        assert len(list(file)) == 1 + len(list(first)) == 3000

    def test_without_files_in_memory(self, tmp_path, monkeypatch):
        monkeypatch.delattr(os, "memfd_create", raising=False)
        assert records_of(put(tmp_path / "x.fa", TEXT)) == RECORDS


class TestRefusals:
    def refused(self, path, match, error=ValueError):
        with pytest.raises(error, match=match):
            records_of(path)

    def test_missing(self, tmp_path):
        self.refused(tmp_path / "x.fa", r"x\.fa: there is no such file; corr", FileNotFoundError)

    def test_folder(self, tmp_path):
        self.refused(tmp_path, "is a folder; name the FASTA files in it")

    @pytest.mark.parametrize("data", [b"", gzip.compress(b"", mtime=0), b"\n\n\r\n"])
    def test_empty(self, tmp_path, data):
        self.refused(put(tmp_path / "x.fa", data), r"x\.fa: holds no records; is this the right")

    def test_text_before_the_first_record(self, tmp_path):
        path = put(tmp_path / "x.fa", "# made by hand >1\n" + TEXT)
        self.refused(path, r"x\.fa: starts with '# made by hand >1', but FASTA with '>'; remove")

    def test_fastq(self, tmp_path):
        self.refused(put(tmp_path / "x.fq", "@a\nAC\n+\nII\n"), "convert FASTQ to FASTA")

    def test_binary(self, tmp_path):
        path = put(tmp_path / "x.fa", bytes(range(7, 200)) * 30)
        self.refused(path, r"x\.fa: starts with .*, but FASTA with '>'; .* unpack the file")

    def test_null_bytes(self, tmp_path):
        path = put(tmp_path / "x.fa", ">a\nAC\n>b\nA\0C\n>c\nA\n")
        self.refused(path, r"x\.fa:b: has a NUL byte; is this a text file\? .* tr -d")

    def test_latin_1(self, tmp_path):
        path = put(tmp_path / "x.fa", ">a\nAC\n>b é\nAC\n".encode("latin-1"))
        self.refused(path, r"x\.fa:b: has bytes that are not UTF-8; .* iconv -f latin1")
        path = put(tmp_path / "y.fa", ">a\nAé\n".encode("latin-1"))
        self.refused(path, r"y\.fa:a: has bytes that are not UTF-8")

    @pytest.mark.parametrize("line", ["@GGGG", "+GGGG"])
    def test_lines_that_pyfastx_misreads(self, tmp_path, line):
        path = put(tmp_path / "x.fa", TEXT.replace("GGGG", line))
        match = rf"x\.fa:b: has a line that starts with '\{line[0]}', where FASTQ goes on; remove"
        self.refused(path, match)
        path = put(tmp_path / "y.fa", TEXT.replace("GGGG", f"GG\n{line}"))
        self.refused(path, match.replace("x", "y", 1))

    def test_signs_elsewhere_are_fine(self, tmp_path):
        assert records_of(put(tmp_path / "x.fa", ">a@b +\nAC\n")) == [Record("a@b", "AC", "+")]

    def test_neither_name_nor_sequence_at_the_end(self, tmp_path):
        self.refused(
            put(tmp_path / "x.fa", TEXT + ">"),
            r"x\.fa:\(no name\): is not among the 3 records .* of 4 here; if it",
        )

    def test_changed_meanwhile(self, tmp_path, monkeypatch):
        monkeypatch.setattr(blocks, "_CHUNK", 2)
        path = put(tmp_path / "x.fa", TEXT)
        reading = read_fasta(path)
        next(reading)
        os.utime(path, (1, 1))
        with pytest.raises(ValueError, match=r"x\.fa: was changed while it was read; read it ag"):
            list(reading)

    def test_continued_in_another_process(self, tmp_path, monkeypatch):
        reading = FastaFile(put(tmp_path / "x.fa", TEXT)).batches()
        next(reading)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(RuntimeError, match="another process has started this pass; read the"):
            next(reading)


class TestNoEnd:
    """Files that would take all memory."""

    def peak(self, path, match):
        """MiB that refusing a file takes, in a process of its own."""
        read, write = os.pipe()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        child = os.fork()
        if child == 0:
            try:
                for _ in FastaFile(path).batches():
                    pass
            except ValueError as error:
                os.write(write, str(error).encode())
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            os.write(write, b"|%d" % (max(after - before, 0) >> 10))
            os._exit(0)
        os.waitpid(child, 0)
        message, _, memory = os.read(read, 10_000).decode().rpartition("|")
        os.close(read), os.close(write)
        assert re.search(match, message), message
        return int(memory)

    @pytest.mark.parametrize(
        ("start", "letters", "match"),
        [
            (b">a\n", b"A" * 1000, r"x\.fa\.gz:a: is a record of more than 8,388,608 letters"),
            (b">a\n", b"\n" * 1000, r"x\.fa\.gz:a: is a record of more than 8,388,608 letters"),
            (b">b ", b"x" * 1000, r"x\.fa\.gz:b: is a record of more than 8,388,608 letters"),
            (b"", b"\n" * 1000, r"x\.fa\.gz:.*: is a record of more than 8,388,608 letters"),
            (b"", b"\0" * 1000, r"x\.fa\.gz: starts with .*, but FASTA with '>'"),
        ],
        ids=["sequence", "line ends", "header", "blank lines", "zeros"],
    )
    def test_a_bomb(self, tmp_path, monkeypatch, start, letters, match):
        monkeypatch.setattr(blocks, "LONGEST_RECORD", 8 << 20)
        monkeypatch.setattr(parsing, "LONGEST_RECORD", 8 << 20)
        with gzip.open(tmp_path / "x.fa.gz", "wb", compresslevel=1) as file:
            file.write(start)
            for _ in range(120):
                file.write(letters * 1000)
        assert (tmp_path / "x.fa.gz").stat().st_size < 2_000_000
        assert self.peak(tmp_path / "x.fa.gz", match) < 90

    def test_very_many_records(self, tmp_path):
        """As many objects as a part has, not as the file has."""
        with gzip.open(tmp_path / "x.fa.gz", "wb", compresslevel=1) as file:
            file.write(b">a\n" * 2_000_000 + b"\0")
        assert self.peak(tmp_path / "x.fa.gz", "has a NUL byte") < 300

    def test_a_long_sequence_and_a_long_header(self, tmp_path, monkeypatch):
        monkeypatch.setattr(parsing, "LONGEST_RECORD", 1000)
        path = put(tmp_path / "x.fa", ">a\nAC\n>b\n" + "ACGU\n" * 251 + ">c\nA\n")
        with pytest.raises(
            ValueError, match=r"x\.fa:b: is a record of more than 1,000 letters.* cut it into"
        ):
            records_of(path)
        monkeypatch.setattr(parsing, "LONGEST_HEADER", 1000)
        path = put(tmp_path / "y.fa", f">a\nAC\n>b {'x' * 1000}\nAC\n>c\nA\n")
        match = r"y\.fa:b: has a header of 1,003 bytes, and at most 1,000 are read; shorten it"
        with pytest.raises(ValueError, match=match):
            records_of(path)

    def test_long_ones_that_are_fine(self, tmp_path):
        records = [Record("a", "ACGU" * 500_000), Record("b", "A", "x" * 1_000_000)]
        assert records_of(put(tmp_path / "x.fa", as_text(records))) == records


@given(st.integers(1, 400), st.integers(1, 300), st.booleans())
def test_blocks_depend_on_the_text_alone(tmp_path_factory, size, chunk, packed):
    text, folder = as_text(many(12)), tmp_path_factory.mktemp("blocks")
    with pytest.MonkeyPatch.context() as patch:
        whole = [block.text for block in FastaFile(put(folder / "a.fa", text)).blocks(size)]
        patch.setattr(blocks, "_CHUNK", chunk + 18)
        path = put(folder / "b.fa", gzip.compress(text) if packed else text)
        assert [block.text for block in FastaFile(path).blocks(size)] == whole
    assert b"".join(whole) == text
    assert all(len(block) >= size for block in whole[:-1])


class TestDamage:
    def test_cut_gzip_says_how_many_records_came(self, tmp_path):
        records = many()
        data = gzip.compress(as_text(records))
        path = put(tmp_path / "x.fa.gz", data[: len(data) // 2])
        found = []
        with pytest.raises(ValueError, match="end too early, after") as error:
            found.extend(read_fasta(path))
        assert f"x.fa.gz: the gzip data end too early, after {len(found):,} records; fetch" in str(
            error.value
        )
        assert 1000 < len(found) < 2000
        assert found == records[: len(found)]

    @pytest.mark.parametrize("left", [10, 50, -8, -4, -1])
    def test_every_cut_is_noticed(self, tmp_path, left):
        data = gzip.compress(as_text(many(20)))
        with pytest.raises(ValueError, match="the gzip data end too early, after"):
            records_of(put(tmp_path / "x.fa.gz", data[:left]))

    def test_cut_in_the_second_member(self, tmp_path):
        data = gzip.compress(as_text(many(9))) + gzip.compress(as_text(many(20)))[:-5]
        with pytest.raises(ValueError, match=r"end too early, after 2\d records"):
            records_of(put(tmp_path / "x.fa.gz", data))

    def test_bgzf_without_its_last_block(self, tmp_path):
        # The header of a BGZF block is a gzip header with an extra field BC: the block's size - 1.
        body = gzip.compress(as_text(many(5)), mtime=0)[10:]
        size = len(body) + 18
        head = bytes.fromhex("1f8b08040000000000ff060042430200") + (size - 1).to_bytes(2, "little")
        whole = put(tmp_path / "x.fa.gz", head + body + blocks._BGZF_END)
        assert len(records_of(whole)) == 5
        with pytest.raises(ValueError, match="the gzip data end too early, after 4 records"):
            records_of(put(tmp_path / "y.fa.gz", head + body))

    @given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def test_no_flipped_bit_gives_other_records(self, tmp_path_factory, place, bit):
        records = many(40)
        data = bytearray(gzip.compress(as_text(records), mtime=0))
        data[int(place * len(data))] ^= 1 << bit
        path = put(tmp_path_factory.mktemp("bits") / "x.fa.gz", bytes(data))
        with contextlib.suppress(ValueError):
            # Without an error it was a bit of the header that means nothing, such as the time.
            assert records_of(path) == records

    def test_damage_in_the_middle(self, tmp_path):
        data = bytearray(gzip.compress(as_text(many())))
        data[len(data) // 2 : len(data) // 2 + 8] = bytes(8)
        with pytest.raises(ValueError, match=r"x\.fa\.gz: the gzip data are damaged \(.*\), after"):
            records_of(put(tmp_path / "x.fa.gz", bytes(data)))

    def test_trailing_garbage(self, tmp_path):
        path = put(tmp_path / "x.fa.gz", gzip.compress(TEXT.encode()) + b"garbage")
        with pytest.raises(ValueError, match=r"the gzip data are damaged .* after 2 records"):
            records_of(path)


def _read_in_process(path, queue):
    queue.put(list(read_fasta(path)) == many())


def _read_file_object(file, queue):
    queue.put(list(file) == many())


class TestNoIndex:
    @pytest.mark.parametrize("name", ["x.fa", "x.fa.gz"])
    def test_nothing_appears_beside_the_file(self, tmp_path, name):
        data = TEXT.encode()
        records_of(put(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data))
        assert names(tmp_path) == [name]

    @pytest.mark.parametrize("stale", [b"", b"no database", None])
    def test_a_stale_index_has_no_influence(self, tmp_path, stale):
        path = put(tmp_path / "x.fa", ">old\nGGGGGGGGGG\n")
        if stale is None:
            import pyfastx

            pyfastx.Fasta(str(path))
        else:
            put(tmp_path / "x.fa.fxi", stale)
        before = (tmp_path / "x.fa.fxi").read_bytes()
        put(path, TEXT)
        assert records_of(path) == RECORDS
        assert (tmp_path / "x.fa.fxi").read_bytes() == before

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_every_process_reads_for_itself(self, tmp_path, method):
        context = multiprocessing.get_context(method)
        path = tmp_path / "x.fa.gz"
        write_fasta(path, many())
        file, queue = FastaFile(path), context.Queue()
        reading = iter(file)
        next(reading)  # a pass that is under way here is no concern of the others
        processes = [
            context.Process(target=target, args=(what, queue))
            for target, what in ((_read_in_process, path), (_read_file_object, file))
            for _ in range(2 if method == "fork" else 1)
        ]
        for process in processes:
            process.start()
        assert all(queue.get(timeout=60) for _ in processes)
        for process in processes:
            process.join()
        assert len(list(reading)) == 2999

    def test_pickle(self, tmp_path):
        file = FastaFile(put(tmp_path / "x.fa", TEXT))
        assert list(pickle.loads(pickle.dumps(file))) == RECORDS  # noqa: S301


class TestWrite:
    @pytest.mark.parametrize("name", ["x.fa", "x.fa.gz"])
    def test_round_trip(self, tmp_path, name):
        assert write_fasta(tmp_path / name, RECORDS) == 3
        assert records_of(tmp_path / name) == RECORDS
        assert names(tmp_path) == [name]

    def test_the_same_bytes_at_any_time(self, tmp_path):
        for name in ("x.fa.gz", "y.fa.gz"):
            write_fasta(tmp_path / name, RECORDS)
        data = (tmp_path / "x.fa.gz").read_bytes()
        assert data == (tmp_path / "y.fa.gz").read_bytes()
        assert data[4:8] == bytes(4)

    @pytest.mark.parametrize("name", ["x.fa", "x.fa.gz"])
    def test_all_or_nothing(self, tmp_path, name):
        def broken():
            yield RECORDS[0]
            raise RuntimeError("no more")

        put(tmp_path / name, "before")
        with pytest.raises(RuntimeError, match="no more"):
            write_fasta(tmp_path / name, broken())
        assert (tmp_path / name).read_bytes() == b"before"
        assert names(tmp_path) == [name]

    @pytest.mark.parametrize(
        ("record", "match"),
        [
            (Record("a b", "AC"), "x.fa:record 1: the name 'a b' must be one word"),
            (Record("", "AC"), "the name '' must be one word"),
            (Record("a", "AC", "x\ny"), "the header 'a x\\\\ny' one line"),
            (Record("a", "AC GU"), "x.fa:a: a sequence has no white space"),
            (Record("a", ">AC"), "starts with a letter, not with '>AC'; correct it"),
        ],
    )
    def test_what_could_not_be_read_back(self, tmp_path, record, match):
        with pytest.raises(ValueError, match=match):
            write_fasta(tmp_path / "x.fa", [record])

    @given(
        st.lists(
            st.builds(
                Record,
                st.text("abcXYZ0189_.|/é", min_size=1, max_size=12),
                st.text("ACGUTNacgutn-*", max_size=90),
                st.text("ab=;, é", max_size=9).map(str.strip),
            ),
            min_size=1,
        ),
        st.booleans(),
    )
    def test_any_records_come_back(self, tmp_path_factory, records, packed):
        path = tmp_path_factory.mktemp("any") / ("x.fa.gz" if packed else "x.fa")
        write_fasta(path, records)
        assert records_of(path) == records
