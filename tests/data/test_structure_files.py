"""Tables and files of structures: what is read, found, refused and counted."""

import gzip
import json
from functools import partial

import numpy as np
import pytest
from structure_texts import read_text, refuse_text

from rnafm.data.structure_files import find_structure_files, read_structures


@pytest.fixture
def read(tmp_path):
    return partial(read_text, tmp_path)


@pytest.fixture
def refuse(tmp_path):
    return partial(refuse_text, tmp_path)


class TestTables:
    def test_dot_bracket(self, read):
        text = "id,sequence,structure,family\na,ggaTcc,((..)),5S\n,ACGU,[..],\n"
        one, two = read("x.csv.gz", text)
        assert one[:2] == ("a", "GGAUCC")
        assert one.pairs.tolist() == [[0, 5], [1, 4]]
        assert one.columns == {"id": "a", "family": "5S"}
        assert one.place.endswith("x.csv.gz:2")
        assert (two.name, two.pairs.tolist(), two.columns["family"]) == ("x_2", [[0, 3]], "")

    @pytest.mark.parametrize("index_base", [0, 1])
    def test_base_pairs(self, read, index_base):
        pairs = np.array([[0, 5], [5, 0], [4, 1]]) + index_base  # symmetric, as UFold has them
        text = f"name\tsequence\tbase_pairs\na\tGGAUCC\t{json.dumps(pairs.tolist())}\nb\tA\t[]\n"
        one, two = read("x.tsv", text, index_base=index_base)
        assert one.pairs.tolist() == [[0, 5], [1, 4]]
        assert (two.name, two.pairs.shape) == ("b", (0, 2))

    def test_json_lines(self, read):
        (one,) = read("x.jsonl", '{"sequence": "GGAUCC", "base_pairs": [[1, 6]], "n": 3}\n')
        assert (one.pairs.tolist(), one.columns) == ([[0, 5]], {"n": "3"})

    def test_which_column(self, read):
        text = 'sequence,structure,base_pairs,mfe\nGAAC,....,"[[1, 4]]",(())\n'
        with pytest.raises(ValueError, match=r"has both columns 'structure' and 'base_pairs'; nam"):
            read("x.csv", text)
        read_pairs = {
            name: read("x.csv", text, structure_column=name)[0].pairs.tolist()
            for name in ("structure", "base_pairs", "mfe")
        }
        assert read_pairs == {"structure": [], "base_pairs": [[0, 3]], "mfe": [[0, 3], [1, 2]]}
        with pytest.raises(ValueError, match=r"has neither of the columns .*; it has: sequence, s"):
            read("x.csv", "sequence,s\nA,.\n")
        with pytest.raises(ValueError, match=r"has no column 'mea' for the structures"):
            read("x.csv", text, structure_column="mea")
        with pytest.raises(ValueError, match=r"has no column 'sequence' for the sequences"):
            read("x.csv", "fold,id\n1,a\n")

    def test_multiplets(self, refuse, read):
        text = 'sequence,base_pairs\nGGACC,"[[1, 5], [1, 4]]"\n'
        refuse("x.csv", text, 2, r"base 1 .*: has several partners \(4, 5\); keep", "multiplets")
        (record,) = read("x.csv", text, allow_multiplets=True)
        assert record.pairs.tolist() == [[0, 3], [0, 4]]

    @pytest.mark.parametrize(
        ("cell", "match", "reason"),
        [
            ("[[0, 4]]", r"pair \(0, 4\): lies outside of 1 to 5; .* index_base", "out of range"),
            ("[[1, 6]]", r"pair \(1, 6\): lies outside of 1 to 5", "out of range"),
            ("[[2, 2]]", r"base 2 \(counted from 1\): pairs with itself", "self pair"),
            ("", "column 'base_pairs' is empty", "no structure"),
            ("((.))", r"base pairs \(\(\(\.\)\)\): are no list of pairs", "bad base pairs"),
            ("[[1, 2, 3]]", "base pairs .*: are no list of pairs", "bad base pairs"),
            ("[[1, 2.5]]", "base pairs .*: are no list of pairs", "bad base pairs"),
            ("[1, 2]", "base pairs .*: are no list of pairs", "bad base pairs"),
            ("7", "base pairs .*: are no list of pairs", "bad base pairs"),
        ],
    )
    def test_wrong_pairs(self, refuse, cell, match, reason):
        text = f'sequence,base_pairs\nGGACC,"{cell}"\nACGU,"[[1, 4]]"\n'
        (record,) = refuse("x.csv", text, 2, match, reason)
        assert record.sequence == "ACGU"

    def test_length(self, refuse):
        text = "sequence,structure\nGGACC,((..))\n"
        refuse("x.csv", text, 2, "the structure has 6 signs, the sequence 5 letters", "length")


class TestFiles:
    def test_drop_counts_by_reason(self, tmp_path):
        one, two = tmp_path / "one.dbn", tmp_path / "two.ct"
        one.write_text(">a\nACGU\n(..)\n>b\nACGU\n(.)\n>c\nA-GU\n....\n>d\nACG\n....\n")
        two.write_text("2 e\n1 A 0 2 0\n")
        records, dropped = read_structures([one, two], on_error="drop")
        assert [record.name for record in records] == ["a"]
        assert dropped == {"length": 3, "no letter": 1}
        assert dropped.examples["length"].startswith(f"{one}:6: the structure has 3 signs")

    def test_cut_gzip(self, tmp_path, read):
        path = tmp_path / "x.dbn.gz"
        rng = np.random.default_rng(0)
        letters = "".join(rng.choice(list("ACGU"), 5000))
        whole = gzip.compress(f">a\n{letters}\n{'.' * 5000}\n".encode())
        path.write_bytes(whole[:-20])
        match = "the gzip data are damaged or end too early .*; fetch or compress the file again"
        with pytest.raises(ValueError, match=match):
            read_structures(path, on_error="drop")
        path.write_bytes(b">a\nACGU\n....\n")
        with pytest.raises(ValueError, match="the gzip data are damaged"):
            read_structures(path)
        with pytest.raises(
            ValueError, match=r"is no UTF-8 text .*add .gz to its name if it is com"
        ):
            read("y.dbn", whole)

    def test_no_structures(self, tmp_path, read):
        with pytest.raises(
            ValueError, match=r"x\.dbn: holds no structures; is this the right file"
        ):
            read("x.dbn", "# nothing\n", on_error="drop")
        with pytest.raises(ValueError, match=r"x\.txt: the end of the name says no known format"):
            read("x.txt", "")
        with pytest.raises(FileNotFoundError, match=r"y\.ct: there is no such file; correct"):
            read_structures(str(tmp_path / "y.ct"))

    def test_finding(self, tmp_path, monkeypatch):
        names = ["b.ct", "a/x.dbn.gz", "a/y.STO", "a/notes.txt", "a/.hidden.ct", ".git/z.ct"]
        for name in names:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
        folder = [tmp_path / name for name in ("a/x.dbn.gz", "a/y.STO", "b.ct")]
        assert find_structure_files([tmp_path]) == folder
        assert find_structure_files([tmp_path / "b.ct", str(tmp_path)]) == folder[2:] + folder[:2]
        assert find_structure_files([tmp_path / "**" / "*.ct"]) == [tmp_path / "b.ct"]
        assert find_structure_files([tmp_path / "a/notes.txt"]) == [tmp_path / "a/notes.txt"]
        monkeypatch.chdir(tmp_path)
        assert [str(path) for path in find_structure_files(["a/*.gz"])] == ["a/x.dbn.gz"]

    @pytest.mark.parametrize("name", ["nothing.ct", "*.ct", "empty"])
    def test_nothing_found(self, tmp_path, name):
        (tmp_path / "empty").mkdir()
        match = r": no files with structures are found; name files, a folder in which names end in"
        with pytest.raises(ValueError, match=match):
            find_structure_files([tmp_path / name])
        with pytest.raises(ValueError, match="structure files: none are named; name files"):
            find_structure_files([])
