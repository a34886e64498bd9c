"""Clusters of a store: relatives together, all sequences in one, nothing left behind."""

import errno
import logging
import os
import shutil

import numpy as np
import pytest

from rnafm.data import store_clusters
from rnafm.data.fasta import Record, write_fasta
from rnafm.data.filters import Filters
from rnafm.data.store import build_store
from rnafm.data.store_clusters import cluster_store
from rnafm.data.vocabulary import Vocabulary

needs_mmseqs = pytest.mark.skipif(not shutil.which("mmseqs"), reason="mmseqs is not installed")
SWAPPED = str.maketrans("ACGU", "UGCA")


def letters(rng, length):
    return "".join(rng.choice(list("ACGU"), length))


def mutated(rng, sequence, number):
    text = list(sequence)
    for place in rng.permutation(len(text))[:number]:
        text[place] = rng.choice([other for other in "ACGU" if other != text[place]])
    return "".join(text)


def stored(folder, sequences, vocabulary="rna"):
    folder.mkdir(exist_ok=True)
    write_fasta(folder / "x.fa", [Record(f"s{i}", text) for i, text in enumerate(sequences)])
    return build_store(
        [folder / "x.fa"],
        folder / "store",
        vocabulary=Vocabulary.named(vocabulary),
        filters=Filters(max_ambiguous=1.0, redundancy="none"),
        progress=False,
    )


def fake_mmseqs(folder, script, monkeypatch):
    folder.mkdir()
    (folder / "mmseqs").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "mmseqs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def beside(store):
    return sorted(path.name for path in store.path.parent.iterdir())


@needs_mmseqs
def test_families_on_both_strands(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "")  # libgomp complains beside every output
    rng = np.random.default_rng(0)
    family = rng.permutation(np.repeat(np.arange(8), 6))
    founders = [letters(rng, 200 + 20 * i) for i in range(8)]
    sequences = [mutated(rng, founders[i], 8) for i in family]
    sequences[5] = sequences[5][::-1].translate(SWAPPED)
    sequences[7] = sequences[7][:50] + "NRY" + sequences[7][53:]
    store = stored(tmp_path, sequences)
    found = cluster_store(store, 0.9, num_threads=1, progress=False)
    np.testing.assert_array_equal(found.labels[:, None] == found.labels, family[:, None] == family)
    _, first = np.unique(found.labels, return_index=True)
    assert (np.diff(first) > 0).all() and found.labels.dtype == np.int64
    assert found.method.startswith("mmseqs 1")
    assert found.method.endswith("linclust, identity 0.9 over 80% of both")
    assert found.num_dropped == 0
    assert beside(store) == ["store", "x.fa"]


@needs_mmseqs
def test_identity_decides(tmp_path):
    rng = np.random.default_rng(1)
    founder = letters(rng, 400)
    store = stored(tmp_path, [founder, mutated(rng, founder, 60)])  # 85 %
    labels = [
        cluster_store(store, identity, num_threads=1, progress=False).labels.tolist()
        for identity in (0.8, 0.95)
    ]
    assert labels == [[0, 0], [0, 1]]


@needs_mmseqs
def test_coverage_decides(tmp_path):
    founder = letters(np.random.default_rng(2), 400)
    store = stored(tmp_path, [founder, founder[:240]])
    labels = [
        cluster_store(store, 0.9, coverage=cover, num_threads=1, progress=False).labels.tolist()
        for cover in (0.8, 0.5)
    ]
    assert labels == [[0, 1], [0, 0]]


@needs_mmseqs
@pytest.mark.parametrize("others", [[], ["GAUUACAGGCAUCUUGACCAUGCAAGUCUUACGGAUCCAGUAGC"]])
def test_short_and_strange_sequences_are_clusters(others, tmp_path):
    sequences = ["ACGU", "NNNNNNNNNNNNNNNNNNNN", "ACGU", "A", "acgt", "ACGUUGCA", *others, "A"]
    found = cluster_store(stored(tmp_path, sequences), 0.8, num_threads=1, progress=False)
    assert found.labels.tolist() == [0, 1, 0, 2, 0, 3, *([4] * len(others)), 2]


@needs_mmseqs
def test_codons_and_long_sequences(tmp_path):
    rng = np.random.default_rng(3)
    founder = letters(rng, 75_000)  # mmseqs reads 65,535 letters if it is not told
    sequences = [founder, letters(rng, 300), founder[69_000:], mutated(rng, founder, 700)]
    store = stored(tmp_path, sequences, "codon")
    labels = cluster_store(store, 0.9, num_threads=1, progress=False).labels
    assert labels.tolist() == [0, 1, 2, 0]


@needs_mmseqs
def test_tables_are_read_in_blocks(tmp_path, monkeypatch):
    rng = np.random.default_rng(4)
    founders = [letters(rng, 100) for _ in range(5)]
    store = stored(tmp_path, [founder[i:] for i in range(3) for founder in founders])
    whole = cluster_store(store, 0.9, num_threads=1, progress=False)
    assert whole.labels.tolist() == [0, 1, 2, 3, 4] * 3
    monkeypatch.setattr(store_clusters, "_BLOCK", 3)
    monkeypatch.setattr(store_clusters, "_ROWS", 2)
    parts = cluster_store(store, 0.9, num_threads=1, progress=False)
    assert parts.labels.tolist() == whole.labels.tolist()


@needs_mmseqs
def test_progress(tmp_path, capsys):
    cluster_store(stored(tmp_path, ["ACGU" * 9]), 0.9, num_threads=1)
    assert "write FASTA for mmseqs: 1 records, 36 nt" in capsys.readouterr().err


def test_what_mmseqs_leaves_out_is_counted(tmp_path, monkeypatch, caplog):
    script = 'case $1 in version) echo 99;; createtsv) printf "2\\t0\\n2\\t2\\n" > out.tsv;; esac'
    fake_mmseqs(tmp_path / "bin", script, monkeypatch)
    store = stored(tmp_path / "data", ["ACGU" * 10 + "ACG"[:i] for i in range(4)])
    with caplog.at_level(logging.WARNING):
        found = cluster_store(store, 0.9, progress=False)
    assert found.labels.tolist() == [0, 1, 0, 2] and found.num_dropped == 2
    assert "mmseqs left out 2 sequences; each is a cluster of its own" in caplog.text
    assert found.method.startswith("mmseqs 99, linclust")


def test_mmseqs_fails(tmp_path, monkeypatch):
    script = 'test $1 != linclust && exit 0\necho "No space left on device" >&2; exit 3'
    fake_mmseqs(tmp_path / "bin", script, monkeypatch)
    store = stored(tmp_path / "data", ["ACGU" * 10])
    with pytest.raises(
        ChildProcessError,
        match=r"(?s)mmseqs linclust failed with exit status 3, with [\d.,]+ GB free in .*data; "
        "make room there.*No space left on device",
    ):
        cluster_store(store, 0.9, progress=False)
    assert beside(store) == ["store", "x.fa"]


def test_the_disk_is_full(tmp_path, monkeypatch):
    # The name of the FASTA file leads to a device that is always full.
    fake_mmseqs(tmp_path / "bin", "ln -sf /dev/full in.fasta", monkeypatch)
    store = stored(tmp_path / "data", ["ACGU" * 10])
    with pytest.raises(OSError, match=r"store: cannot be written \(No space left.*make room"):
        cluster_store(store, 0.9, progress=False)
    assert beside(store) == ["store", "x.fa"]


def test_the_folder_is_read_only(tmp_path, monkeypatch):
    fake_mmseqs(tmp_path / "bin", "exit 0", monkeypatch)
    store = stored(tmp_path / "data", ["ACGU" * 10])

    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(store_clusters.tempfile, "TemporaryDirectory", refuse)
    with pytest.raises(PermissionError, match=r"store: cannot be written \(Permission denied\)"):
        cluster_store(store, 0.9, progress=False)


def test_mmseqs_is_asked_for(tmp_path, monkeypatch):
    store = stored(tmp_path, ["ACGU" * 10])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match=r"none on the PATH; install it \(apt-get install mmseqs2"):
        cluster_store(store, 0.9)


@pytest.mark.parametrize("identity", [0.4, 1.01, float("nan")])
def test_identity_out_of_range(identity, tmp_path):
    with pytest.raises(ValueError, match=rf"identity \({identity}\) must lie between 0.5 and 1"):
        cluster_store(stored(tmp_path, ["ACGU"]), identity)


def test_coverage_out_of_range(tmp_path):
    with pytest.raises(ValueError, match=r"coverage \(0\) must be over 0 and at most 1"):
        cluster_store(stored(tmp_path, ["ACGU"]), 0.9, coverage=0)
