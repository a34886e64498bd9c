"""RNAs with base pairs, from any format, to batches of which every pair is right."""

import gzip
import json
import logging

import numpy as np
import pytest

from rnafm.data.labels import LabelSpec
from rnafm.data.partition import Partition
from rnafm.data.structure import pairs_from_dot_bracket
from rnafm.data.structures import StructureDataModule
from rnafm.data.vocabulary import Vocabulary

PAIRS = LabelSpec("pairs", "pairs", 1)
SEQUENCE, STRUCTURE = "GGGAAACCCAUGC", "(((...)))...."
EXPECTED = [[0, 8], [1, 7], [2, 6]]
PARTNERS = [9, 8, 7, 0, 0, 0, 3, 2, 1, 0, 0, 0, 0]
NONE = Partition(val=0, test=0)


def lines(*texts):
    return "\n".join(texts) + "\n"


FILES = {
    "x.dbn": lines(">a", SEQUENCE, STRUCTURE),
    "x.fa": lines(">a", SEQUENCE.replace("U", "t").lower(), f"{STRUCTURE} (-1.20)"),
    "x.ct": lines(
        "13 a",
        *(
            f"{i} {letter} {i - 1} {i + 1} {j} {i}"
            for i, (letter, j) in enumerate(zip(SEQUENCE, PARTNERS, strict=True), 1)
        ),
    ),
    "x.bpseq": lines(
        *(f"{i} {x} {j}" for i, (x, j) in enumerate(zip(SEQUENCE, PARTNERS, strict=True), 1))
    ),
    "x.sto": lines(
        "# STOCKHOLM 1.0",
        f"a  {SEQUENCE}",
        "#=GC SS_cons <<<...>>>....",
        "//",
    ),
    "x.csv": lines("id,sequence,structure", f"a,{SEQUENCE},{STRUCTURE}"),
    "x.jsonl": json.dumps(
        {"id": "a", "sequence": SEQUENCE, "base_pairs": [[1, 9], [3, 7], [2, 8]]}
    ),
}  # fmt: skip


def bound(data, spec=PAIRS):
    data.setup("fit")
    data.bind(spec, 1022)
    return data


def random_structure(generator, length):
    """A sequence and a nested structure that nothing else has."""
    sequence = "".join(generator.choice(list("ACGU"), length))
    stem = int(generator.integers(0, length // 2))
    structure = "(" * stem + "." * (length - 2 * stem) + ")" * stem
    return sequence, structure


def many(path, count=40, seed=0, longest=40):
    generator = np.random.default_rng(seed)
    found = [random_structure(generator, int(n)) for n in generator.integers(5, longest, count)]
    path.write_text("".join(f">s{i} family=f{i % 4}\n{x}\n{y}\n" for i, (x, y) in enumerate(found)))
    return found


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_formats_give_the_same(tmp_path, name, packed):
    path = tmp_path / (f"{name}.gz" if packed else name)
    content = FILES[name].encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    data = bound(StructureDataModule([str(path)], split=NONE))
    assert data.sequences == [SEQUENCE]
    assert data.names == [{"x.bpseq": "x"}.get(name, "a")]
    batch = data.splits()["train"][0, 0, 1]
    assert batch.labels.tolist() == [[0, *pair] for pair in EXPECTED]


def test_files_folders_and_patterns(tmp_path):
    for folder in ("a", "b/c", "d"):
        (tmp_path / folder).mkdir(parents=True)
        many(tmp_path / folder / "x.dbn", 5, seed=len(folder) + ord(folder[0]))
    (tmp_path / "a" / "readme.txt").write_text("not a structure")
    files = [
        str(tmp_path / "a"),
        str(tmp_path / "d" / "x.dbn"),
        str(tmp_path / "b" / "**" / "*.d*"),
    ]
    data = StructureDataModule(files[:2], test_files=files[2:], split=NONE)
    bound(data)
    assert data.facts["sequences"] == {"train": 10, "val": 0, "test": 5}
    assert data.first_file == tmp_path / "a" / "x.dbn"
    assert data.cache_folder == tmp_path / "a" / "x.dbn.embeddings"
    assert data.facts["data"] == ", ".join(files)
    with pytest.raises(ValueError, match=r"nothing/\*\.ct: no files with structures"):
        StructureDataModule([str(tmp_path / "nothing" / "*.ct")]).setup("fit")


def test_nothing_named():
    with pytest.raises(ValueError, match="files is empty; name files, folders or patterns"):
        StructureDataModule([])


def test_what_contradicts_itself_stops_or_is_counted(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="rnafm")
    path = tmp_path / "x.dbn"
    path.write_text(
        FILES["x.dbn"] + ">b\nACGU\n(((.\n>c\nACGU\n...\n>d\nAC\n(((\n>e\nACGUA\n.....\n"
    )
    with pytest.raises(ValueError, match=r"x\.dbn:6: .*"):
        StructureDataModule([str(path)]).setup("fit")
    data = bound(StructureDataModule([str(path)], on_error="drop", split=NONE))
    assert data.names == ["a", "e"]
    notes = [note for note in data.facts["notes"] if "left out" in note]
    assert [note.partition(".dbn:")[0] + ".dbn" for note in notes] == [
        f"structures left out: 1 (unmatched bracket), such as {path}",
        f"structures left out: 2 (length), such as {path}",
    ]
    assert set(notes) <= set(caplog.messages)
    assert "  3 base pairs, 1 of 2 sequences have none" in caplog.messages


def test_nothing_is_left(tmp_path):
    (tmp_path / "x.dbn").write_text(">b\nACGU\n(((.\n")
    data = StructureDataModule([str(tmp_path / "x.dbn")], on_error="drop")
    with pytest.raises(ValueError, match=r"x\.dbn: no RNA is left; structures left out: 1 \(unm"):
        data.setup("fit")


def test_columns_that_only_some_have(tmp_path):
    (tmp_path / "a.dbn").write_text(">a family=tRNA\nACGU\n....\n>b\nCCGU\n....\n>c year=9\nG\n.\n")
    (tmp_path / "b.csv").write_text("id,sequence,structure,kind\nd,AA,..,x\n")
    files = [str(tmp_path / name) for name in ("a.dbn", "b.csv")]
    data = bound(StructureDataModule(files, split=NONE))
    assert data.columns == {
        "family": ["tRNA", "", "", ""],
        "year": ["", "", "9", ""],
        "id": ["", "", "", "d"],
        "kind": ["", "", "", "x"],
    }
    assert list(data.columns) == ["family", "year", "id", "kind"]  # the same in every process


def test_nucleotides_with_several_partners(tmp_path):
    row = {"sequence": SEQUENCE, "base_pairs": [[0, 8], [0, 12], [1, 7]]}
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    data = bound(StructureDataModule([str(tmp_path / "x.jsonl")], index_base=0, split=NONE))
    assert data.labels[0].tolist() == [[0, 8], [0, 12], [1, 7]]


def test_structure_column(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f'sequence,structure,my_pairs\n{SEQUENCE},{STRUCTURE},"[[4, 12]]"\n')
    data = bound(StructureDataModule([str(path)], structure_column="my_pairs", split=NONE))
    assert data.labels[0].tolist() == [[3, 11]] and data.columns["structure"] == [STRUCTURE]


def test_every_pair_of_every_batch_is_right(tmp_path):
    found = many(tmp_path / "x.dbn", 60)
    split = Partition(by="group", column="family", val=0.25, test=0.25)
    data = bound(StructureDataModule([str(tmp_path / "x.dbn")], split=split, pairs_per_batch=3000))
    rna, seen = Vocabulary.named("rna"), []
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            for number, row in enumerate(batch.indices.tolist()):
                start, stop = batch.cu_seqlens[number : number + 2].tolist()
                sequence, structure = found[row]
                assert rna.decode(batch.tokens[start + 1 : stop - 1].tolist()) == sequence
                own = batch.labels[batch.labels[:, 0] == number, 1:]
                assert own.tolist() == pairs_from_dot_bracket(structure).tolist()
                seen.append(row)
    assert sorted(seen) == list(range(60))
    families = [{int(row) % 4 for row in rows} for rows in data.rows.values()]
    assert sum(map(len, families)) == 4 == len(set.union(*families))


def test_batches_are_bounded_by_squares_of_lengths(tmp_path):
    many(tmp_path / "x.dbn", 60, longest=60)
    data = bound(StructureDataModule([str(tmp_path / "x.dbn")], split=NONE, pairs_per_batch=2500))
    alone = several = 0
    for batch in data.train_dataloader():
        squares = (batch.cu_seqlens.diff() - 2).square()
        if int(squares.max()) > 2500:
            assert batch.num_sequences == 1
            alone += 1
        else:
            assert int(squares.sum()) <= 2500
            several += batch.num_sequences > 1
    assert alone and several


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (LabelSpec("value", "sequence", 1), "predicts a value per sequence, the data are base pai"),
        (
            LabelSpec("class", "token", 3),
            "predicts a class per token, .* use ContactPrediction, or",
        ),
    ],
)
def test_other_tasks(tmp_path, spec, message):
    many(tmp_path / "x.dbn")
    with pytest.raises(ValueError, match=message):
        bound(StructureDataModule([str(tmp_path / "x.dbn")], split=NONE), spec)


def test_names_that_occur_again_are_numbered(tmp_path):
    (tmp_path / "x.dbn").write_text(">a\nACGU\n....\n>a\nCCGU\n....\n")
    assert bound(StructureDataModule([str(tmp_path / "x.dbn")], split=NONE)).names == ["a", "a#2"]


def test_facts_are_plain(tmp_path):
    many(tmp_path / "x.dbn")
    data = bound(StructureDataModule([str(tmp_path / "x.dbn")], split=Partition(val=0.2, test=0.2)))
    assert json.loads(json.dumps(data.facts)) == data.facts
