"""Tables in all formats, the places of their rows, and what is wrong with files."""

import csv
import gzip
import io
import json
import math
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnafm.data.table import Table, concatenate, join_fasta, read_table, require, unique_ids

CSV = 'id,sequence,label\nr1,ACGU,0.5\nr2,"GG,A",\n'


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into the current folder; packs it if its name says so."""
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        data = content.encode() if isinstance(content, str) else content
        packs = name.lower().endswith(".gz") and not data.startswith(b"\x1f\x8b")
        (tmp_path / name).write_bytes(gzip.compress(data) if packs else data)
        return name

    return write


def parquet(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def refused(path, match):
    with pytest.raises(ValueError, match=match):
        read_table(path)


class TestDelimited:
    @pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "T.CSV", "a.b.Csv.GZ"])
    def test_csv(self, write, name):
        table = read_table(write(name, CSV))
        assert table.columns == {
            "id": ["r1", "r2"],
            "sequence": ["ACGU", "GG,A"],
            "label": ["0.5", ""],
        }
        assert table.places == [f"{name}:2", f"{name}:3"]
        assert len(table) == 2
        assert table.file == name

    @pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz"])
    def test_tsv(self, write, name):
        table = read_table(write(name, 'id\tlabels\nr1\t[0.5, null]\nr2\t"a\tb"\n'))
        assert table.columns == {"id": ["r1", "r2"], "labels": ["[0.5, null]", "a\tb"]}

    def test_a_place_is_the_line_on_which_a_row_starts(self, write):
        text = '\nid,about\n\nr1,"two\nlines"\nr2,x\n\n\nr3,"three\n\nlines"\nr4,y\n'
        table = read_table(write("t.csv", text))
        assert table.places == ["t.csv:4", "t.csv:6", "t.csv:9", "t.csv:12"]
        assert table.columns["about"] == ["two\nlines", "x", "three\n\nlines", "y"]

    def test_windows_and_old_mac_ends_of_lines(self, write):
        for end in ("\r\n", "\r"):
            table = read_table(write("t.csv", CSV.replace("\n", end)))
            assert table.columns == read_table(write("u.csv", CSV)).columns
            assert table.places == ["t.csv:2", "t.csv:3"]

    def test_byte_order_mark(self, write):
        table = read_table(write("t.csv", b"\xef\xbb\xbf" + CSV.encode()))
        assert list(table.columns) == ["id", "sequence", "label"]

    def test_blanks_behind_commas(self, write):
        table = read_table(write("t.csv", 'id , label\nr1, "a, b"\n'))
        assert table.columns == {"id": ["r1"], "label": ["a, b"]}

    def test_pandas_leaves_the_index_without_a_name(self, write):
        table = read_table(write("t.csv", ",id\n0,r1\n1,r2\n"))
        assert table.columns == {"": ["0", "1"], "id": ["r1", "r2"]}

    def test_fields_longer_than_pythons_limit(self, write):
        limit = csv.field_size_limit()
        labels = ",".join(["0.25"] * 50_000)
        table = read_table(write("t.csv", f'id,labels\nr1,"{labels}"\n'))
        assert table.columns["labels"] == [labels]
        assert csv.field_size_limit() == limit < len(labels)

    @given(
        st.lists(
            st.lists(st.text("ab,\"';\n\r\t []é", min_size=1), min_size=2, max_size=2), min_size=1
        )
    )
    def test_whatever_python_writes(self, tmp_path_factory, rows):
        path = tmp_path_factory.mktemp("csv") / "t.csv"
        with path.open("w", newline="") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["one", "two"], *rows])
        table = read_table(path)
        assert list(zip(table.columns["one"], table.columns["two"], strict=True)) == [
            tuple(row) for row in rows
        ]

    def test_another_number_of_fields(self, write):
        refused(
            write("t.csv", 'id,x\n"a\nb",1\nr2,1,2\n'),
            r"t\.csv:4: has 3 fields, but the header names 2 columns; put fields that contain ','",
        )
        refused(write("t.tsv", "id\tx\nr1\n"), r"t\.tsv:2: has 1 fields, .* contain '\\t' into dou")

    def test_open_quotes(self, write):
        refused(write("t.csv", 'a,b\n1,2\n3,"4\n5,6\n'), r"t\.csv:3: cannot be read \(unexpected")
        refused(write("t.csv", 'a,b\n1,"2"x\n'), r"t\.csv:2: cannot be read .*; a field in double")

    def test_header(self, write):
        match = r"t\.csv:1: the first line \(.*\) names no columns; put a header line above it"
        for first in ("r1,ACGUACGU,0.5", "ACGUACGUACGU", "0,1,2.5", ",,", "1e-3,-2"):
            refused(write("t.csv", f"{first}\n{first}\n"), match)
        refused(
            write("t.csv", "id,x,id\n1,2,3\n"),
            r"t\.csv:1: columns appear twice: 'id'; rename or remove one",
        )

    def test_other_separators(self, write):
        refused(
            write("t.csv", "id;label\nr1;1\n"),
            r"t\.csv:1: has a single column 'id;label', fields seem to be separated by ';'; save i",
        )
        refused(write("t.csv", "id\tx\nr1\t1\n"), r"separated by '\\t'; end its name in \.tsv")

    def test_no_rows(self, write):
        refused(write("t.csv", "id,label\n"), r"t\.csv: has no rows; is this the right file\?")
        for text in ("", "\n \n", b"\xef\xbb\xbf"):
            refused(write("t.csv", text), r"t\.csv: is empty; is this the right file\?")


class TestJson:
    LINES = '{"id": "r1", "labels": [[0.5, null], [NaN, 2]]}\n\n{"id": 2, "new": true}\r\n'

    @pytest.mark.parametrize("name", ["t.jsonl", "t.ndjson", "t.json", "t.jsonl.gz"])
    def test_lines(self, write, name):
        table = read_table(write(name, self.LINES))
        assert table.columns["id"] == ["r1", 2]
        assert table.columns["new"] == [None, True]
        assert table.columns["labels"][1] is None
        (first, nothing), (nan, two) = table.columns["labels"][0]
        assert (first, nothing, two) == (0.5, None, 2) and math.isnan(nan)
        assert table.places == [f"{name}:1", f"{name}:3"]

    def test_broken(self, write):
        refused(
            write("t.jsonl", '{"a": 1}\n{"a": 1,}\n'),
            r"t\.jsonl:2: is no JSON \(.* at letter 9\); e",
        )
        refused(
            write("t.json", '[{"a": 1}]'), r"t\.json:1: is no JSON object \(\[\{.*jq -c '\.\[\]'"
        )
        refused(
            write("t.json", '{\n"a": 1}'), r"t\.json:1: is no JSON .*every line must be one obj"
        )

    def test_names_twice(self, write):
        refused(write("t.jsonl", '{"a": 1}\n{"a": 1, "a": 2}'), r"t\.jsonl:2: columns appear twice")

    def test_no_rows(self, write):
        refused(write("t.jsonl", b"\xef\xbb\xbf\n"), r"t\.jsonl: has no rows")


class TestParquet:
    TABLE = pa.table({"id": ["r1", "r2"], "labels": [[1.5, None], []], "n": [1, None]})

    @pytest.mark.parametrize("name", ["t.parquet", "t.parquet.gz"])
    def test_rows(self, write, name):
        table = read_table(write(name, parquet(self.TABLE)))
        assert table.columns == {
            "id": ["r1", "r2"],
            "labels": [[1.5, None], []],
            "n": [1, None],
        }
        assert table.places == [f"{name}: row 1", f"{name}: row 2"]
        assert table.file == name

    def test_folders_add_no_columns(self, tmp_path):
        path = tmp_path / "split=train" / "t.parquet"
        path.parent.mkdir()
        path.write_bytes(parquet(self.TABLE))
        assert list(read_table(path).columns) == ["id", "labels", "n"]

    def test_damaged(self, write):
        match = r"t\.parquet: is no Parquet file or a damaged one \(.*\); fetch or write it again"
        refused(write("t.parquet", "id,label\n"), match)
        refused(write("t.parquet", parquet(self.TABLE)[:-20]), match)

    def test_names_twice_and_no_rows(self, write):
        twice = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
        refused(write("t.parquet", parquet(twice)), r"t\.parquet: columns appear twice: 'a'")
        refused(write("t.parquet", parquet(self.TABLE[:0])), r"t\.parquet: has no rows")

    def test_pyarrow_is_optional(self, write, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        refused(
            write("t.parquet", "x"),
            r"t\.parquet: reading Parquet needs pyarrow, which is not installed: pip install 'rn",
        )


class TestFiles:
    def test_unknown_format(self, write):
        for name in ("t.xlsx", "t", "t.gz", ".csv", "t.csv.zip"):
            refused(
                write(name, "x"),
                r"known are \.csv \.tsv \.jsonl \.ndjson \.json \.parquet, also with \.gz behind",
            )

    def test_missing_file_and_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no\.csv: there is no such file; correct"):
            read_table(tmp_path / "no.csv")
        (tmp_path / "folder.csv").mkdir()
        refused(tmp_path / "folder.csv", r"folder\.csv: is a folder; name the tables in it")

    def test_gzip(self, write):
        packed = gzip.compress(CSV.encode() * 100)
        refused(write("t.csv.gz", packed[:-12]), r"t\.csv\.gz: the gzip data end too early; fetch")
        damaged = packed[:30] + bytes([packed[30] ^ 255]) + packed[31:]
        refused(write("t.csv.gz", damaged), r"t\.csv\.gz: the gzip data are damaged \(.*\); fetch")
        refused(write("t.csv", packed), r"t\.csv: is compressed; add \.gz to its name")

    def test_plain_text_called_gzip(self, tmp_path):
        (tmp_path / "t.csv.gz").write_text(CSV)
        refused(tmp_path / "t.csv.gz", r"damaged \(Not a gzipped .*or take \.gz off its name")

    def test_encodings(self, write):
        refused(
            write("t.csv", "id,x\nr1,1\nr2,café\n".encode("latin1")),
            r"t\.csv:3: has bytes that are not UTF-8; convert the file, .* -f latin1 -t utf-8",
        )
        refused(write("t.jsonl", '{"a": "é"}'.encode("latin1")), r"t\.jsonl:1: has bytes that are")
        refused(
            write("t.csv", CSV.encode("utf-16")), r"t\.csv: is UTF-16; convert it, .* -f utf-16"
        )
        refused(write("t.csv", "id,x\nr1,\0\n"), r"t\.csv:2: has a NUL byte; is this a text file\?")


TABLE = Table({"id": ["b", "a"], "mrl": ["1", "2"]}, ["t.csv:2", "t.csv:3"])


class TestRequire:
    def test_column(self):
        assert require(TABLE, "mrl", "labels") == ["1", "2"]

    def test_close_names(self):
        with pytest.raises(
            ValueError,
            match=r"^t\.csv: has no column 'MLR' for labels; did you mean 'mrl'\? it has: id, mrl$",
        ):
            require(TABLE, "MLR", "labels")

    def test_no_close_name(self):
        with pytest.raises(
            ValueError, match=r"^t\.csv: has no column 'sequence' for sequences; it has: id, mrl$"
        ):
            require(TABLE, "sequence", "sequences")


class TestUniqueIds:
    def test_text(self):
        table = Table({"id": ["a", 2, 0]}, ["t:1", "t:2", "t:3"])
        assert unique_ids(table, "id") == ["a", "2", "0"]

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_without(self, nothing):
        with pytest.raises(ValueError, match=r"^t:2: column 'id': is empty; every row needs an id"):
            unique_ids(Table({"id": ["a", nothing]}, ["t:1", "t:2"]), "id")

    def test_twice(self):
        with pytest.raises(
            ValueError, match=r"^t:9: column 'id': '1' is the id of t:1 as well; rename or remove"
        ):
            unique_ids(Table({"id": ["1", "x", 1]}, ["t:1", "t:2", "t:9"]), "id")

    def test_no_column(self):
        with pytest.raises(ValueError, match=r"has no column 'name' for names; .*it has: id, mrl"):
            unique_ids(TABLE, "name", "names")


class TestFasta:
    FASTA = ">a about it\nAC\nGU\n>other\nGGGG\n>b\nUU\n>more\nA\n"

    def test_join(self, write):
        joined, unused = join_fasta(TABLE, write("s.fasta", self.FASTA), "id")
        assert joined.columns == {**TABLE.columns, "sequence": ["UU", "ACGU"]}
        assert joined.places == TABLE.places
        assert unused == 2
        assert "sequence" not in TABLE.columns

    def test_numbers_as_ids(self, write):
        joined, _ = join_fasta(
            Table({"n": [7]}, ["t: row 1"]), write("s.fa", ">7\nACGU\n"), "n", "rna"
        )
        assert joined.columns == {"n": [7], "rna": ["ACGU"]}

    def test_rows_without_a_sequence(self, write):
        places = [f"t.csv:{i}" for i in range(2, 12)]
        table = Table({"id": [f"r{i}" for i in range(9)] + ["a"]}, places)
        with pytest.raises(
            ValueError,
            match=r"^9 of 10 rows have no sequence in s\.fasta, which has for instance 'other', "
            r"'b', 'more': 'r0' \(t\.csv:2\), .* 'r4' \(t\.csv:6\); column 'id' must hold the",
        ):
            join_fasta(table, write("s.fasta", self.FASTA), "id")
        with pytest.raises(ValueError, match=r"^1 of 2 rows have no sequence in s\.fasta: 'b' \("):
            join_fasta(TABLE, write("s.fasta", ">a\nACGU\n"), "id")

    def test_names_twice(self, write):
        text = self.FASTA + ">other\nC\n>a\nC\n"  # nobody asks for the second other
        with pytest.raises(
            ValueError, match=r"^s\.fasta: records 1 and 6 have the same name 'a'; rename or remove"
        ):
            join_fasta(TABLE, write("s.fasta", text), "id")

    def test_two_sources(self, write):
        table = Table({"id": ["a"], "sequence": ["A"]}, ["t.csv:2"])
        with pytest.raises(
            ValueError, match=r"^t\.csv: has a column 'sequence', and .* from s\.fasta as well; nam"
        ):
            join_fasta(table, write("s.fasta", self.FASTA), "id")


def test_concatenate():
    other = Table({"mrl": [3.5], "set": ["x"]}, ["u.parquet: row 1"])
    both = concatenate([TABLE, other])
    assert both.columns == {
        "id": ["b", "a", None],
        "mrl": ["1", "2", 3.5],
        "set": [None, None, "x"],
    }
    assert both.places == [*TABLE.places, *other.places]
    assert json.dumps(TABLE.columns) == '{"id": ["b", "a"], "mrl": ["1", "2"]}'
    with pytest.raises(ValueError, match=r"^the table: has no column 'x'"):
        require(Table({}, []), "x", "labels")
