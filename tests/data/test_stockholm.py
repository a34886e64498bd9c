"""Stockholm alignments: the consensus on every sequence."""

import pytest

from rnafm.data.structure_files import read_structures

INTERLEAVED = """# STOCKHOLM 1.0
#=GF ID   Hairpin
#=GF AC   RF00001
#=GF AU   Gr\xfcn A; 0000-0001
#=GS a/1-9 WT 1.0

a/1-9         GGaAC
b/3-11        G-CUC
#=GR b/3-11 SS <....
#=GC SS_cons  <<<AA
#=GC RF       ggcAC

a/1-9         T-UCCgu
b/3-11        UAG.CGU
#=GC SS_cons  __>>>aa
//
# STOCKHOLM 1.0
#=GF ID   Second
c             acgu
#=GC SS_cons  (::)
//
"""


def read(tmp_path, text, **options):
    path = tmp_path / "x.sto"
    path.write_bytes(text.encode("latin-1"))
    return read_structures(path, **options)


def test_consensus_on_every_sequence(tmp_path):
    (a, b, c), dropped = read(tmp_path, INTERLEAVED)
    assert not dropped
    # Columns: 0-9, 1-8 and 2-7 nested, 3-11 and 4-10 the pseudoknot.
    assert a.name == "a/1-9"
    assert a.sequence == "GGAACUUCCGU"  # without column 6, T -> U, upper case
    assert a.pairs.tolist() == [[0, 8], [1, 7], [2, 6], [3, 10], [4, 9]]
    assert a.place == f"{tmp_path}/x.sto:7"
    assert a.columns == {"family": "RF00001", "family_name": "Hairpin"}
    assert b.sequence == "GCUCUAGCGU"  # without columns 1 and 8, which pair
    assert b.pairs.tolist() == [[0, 7], [1, 6], [2, 9], [3, 8]]
    assert (c.name, c.sequence, c.pairs.tolist()) == ("c", "ACGU", [[0, 3]])
    assert c.columns == {"family": "Second", "family_name": "Second"}


def test_a_pair_without_one_of_its_ends(tmp_path):
    text = "# STOCKHOLM 1.0\nx AC_~GU\ny .CAAG-\nz --AA--\n#=GC SS_cons ((--))\n//\n"
    (x, y, z), _ = read(tmp_path, text)
    assert (x.sequence, x.pairs.tolist()) == ("ACGU", [[0, 3], [1, 2]])
    assert (y.sequence, y.pairs.tolist()) == ("CAAG", [[0, 3]])
    assert (z.sequence, z.pairs.tolist()) == ("AA", [])


@pytest.mark.parametrize(
    ("lines", "line", "match", "reason", "count"),
    [
        ("a ACGU\nb AC", 3, "'b' has 2 columns, but #=GC SS_cons 4; is a block mi", "length", 1),
        ("a ACGU\nb A*GU", 3, r"sequence sign \('\*' at position 2\): is no", "no letter", 1),
        ("a ACGU\nb ----", 3, "the sequence is empty", "no sequence", 1),
        ("a ACGU\nb ACGU\nb ACGU", 3, "'b' has 8 columns, but #=GC", "length", 1),
    ],
)
def test_wrong_rows(tmp_path, lines, line, match, reason, count):
    text = f"# STOCKHOLM 1.0\n{lines}\n#=GC SS_cons <..>\n//\n"
    with pytest.raises(ValueError, match=f"^{tmp_path}/x.sto:{line}: {match}"):
        read(tmp_path, text)
    records, dropped = read(tmp_path, text, on_error="drop")
    assert [record.name for record in records] == ["a"]
    assert dropped == {reason: count}


@pytest.mark.parametrize(
    ("consensus", "line", "match", "reason"),
    [
        ("", 2, "the alignment of 'a' has no line #=GC SS_cons; add it, or", "no structure"),
        ("#=GC SS_cons <..)\n", 4, r"structure sign \('\)' at position 4\)", "unmatched bracket"),
    ],
)
def test_wrong_consensus_drops_the_whole_alignment(tmp_path, consensus, line, match, reason):
    good = "# STOCKHOLM 1.0\nc AU\n#=GC SS_cons <>\n//\n"
    text = f"# STOCKHOLM 1.0\na ACGU\nb ACGU\n{consensus}//\n{good}"
    with pytest.raises(ValueError, match=f"^{tmp_path}/x.sto:{line}: {match}"):
        read(tmp_path, text)
    records, dropped = read(tmp_path, text, on_error="drop")
    assert [record.name for record in records] == ["c"]
    assert dropped == {reason: 2}


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (">a\nACGU\n", r"x.sto:1: line \('>a'\): a Stockholm file starts with `# STOCKHOLM 1.0`"),
        ("# STOCKHOLM 1.0\na AC\n#=GC SS_cons ..\n", "x.sto: the last alignment does not end with"),
        ("# STOCKHOLM 1.0\na A C\n", r"x.sto:2: line \('a A C'\): is no name and one row"),
    ],
)
@pytest.mark.parametrize("on_error", ["error", "drop"])
def test_wrong_files(tmp_path, text, match, on_error):
    with pytest.raises(ValueError, match=match):
        read(tmp_path, text, on_error=on_error)
