"""Stores that are damaged, and stores from strangers: refused before anything is made of them."""

import json
import os
import random
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import build, records

from rnafm.data import checksums
from rnafm.data.checksums import Spans
from rnafm.data.fasta import write_fasta
from rnafm.data.manifest import fingerprint, write_manifest
from rnafm.data.store import SequenceStore
from rnafm.data.store_columns import add_columns


@pytest.fixture
def store(tmp_path):
    write_fasta(tmp_path / "x.fa", records(50))
    found = build([tmp_path / "x.fa"], tmp_path / "store")
    return add_columns(found.path, {"cluster": (np.arange(len(found)) * 7, None)}, {"cluster": {}})


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    write_fasta(folder / "x.fa", records(50))
    return build([folder / "x.fa"], folder / "store").path


class TestDamage:
    @given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), data=st.data())
    def test_any_flipped_bit_is_noticed(self, shared, place, bit, data):
        files = sorted(path for path in shared.iterdir() if path.stat().st_size)
        path = data.draw(st.sampled_from(files))
        before = path.read_bytes()
        flipped = bytearray(before)
        flipped[int(place * len(before))] ^= 1 << bit
        path.write_bytes(flipped)
        try:
            with pytest.raises(ValueError, match=f"{path.name}: .*(prepare|again)"):
                SequenceStore(shared).verify(num_threads=2)
        finally:
            path.write_bytes(before)
        SequenceStore(shared).verify()

    def test_every_byte_of_the_description_counts(self, shared):
        path, rng = shared / "store.json", random.Random(0)  # noqa: S311
        before = path.read_bytes()
        try:
            for i in range(0, len(before), 4):
                flipped = bytearray(before)
                flipped[i] ^= 1 << rng.randrange(8)
                path.write_bytes(flipped)
                with pytest.raises(ValueError, match=r"store\.json: (is dam|cannot be|has format)"):
                    SequenceStore(shared)
        finally:
            path.write_bytes(before)

    def test_the_place_is_said(self, store, monkeypatch):
        monkeypatch.setattr(checksums, "SPAN", 1000)
        monkeypatch.setattr("rnafm.data.schema.SPAN", 1000)
        info, path = dict(store.info), store.path / "tokens.bin"
        for name in info["files"]:
            spans = Spans()
            spans.update((store.path / name).read_bytes())
            info["files"][name] = spans.sums()
        write_manifest(store.path / "store.json", info)
        SequenceStore(store.path).verify()
        data = bytearray(path.read_bytes())
        data[1500] ^= 1
        path.write_bytes(data)
        match = r"tokens\.bin: is damaged between bytes 1,000 and 2,000 \(xxh3 is \w+, not \w+\)"
        with pytest.raises(ValueError, match=match):
            SequenceStore(store.path).verify()

    def test_a_file_that_goes_while_it_is_verified(self, store):
        (store.path / "names.bin").unlink()
        with pytest.raises(ValueError, match=r"names\.bin: cannot be read \(No such file"):
            store.verify()

    @pytest.mark.parametrize("name", ["tokens.bin", "offsets.bin", "names.bin", "column_0.bin"])
    def test_missing(self, store, name):
        (store.path / name).unlink()
        with pytest.raises(ValueError, match=rf"{name}: is missing; get the store from where"):
            SequenceStore(store.path)


class TestStrangers:
    """What a description may not say, though its digest is right."""

    def refused(self, store, match, **changes):
        write_manifest(store.path / "store.json", {**store.info, **changes})
        with pytest.raises(ValueError, match=match):
            SequenceStore(store.path).verify()

    @pytest.mark.parametrize(
        "file", ["../secret.bin", "/etc/passwd", "column_0.bin/../x", "..", "", "column_.bin", 3]
    )
    def test_names_of_files(self, tmp_path, store, file):
        (tmp_path / "secret.bin").write_bytes(bytes(4 * len(store)))
        column = {**store.info["columns"]["type"], "file": file}
        self.refused(
            store,
            r"store\.json: describes no store that could be read \(the file of column 'type' is",
            columns={"type": column},
        )

    def test_files_that_are_not_those_of_a_store(self, store):
        for files in (
            {**store.info["files"], "../x": {"size": 0, "xxh3": []}},
            {name: sums for name, sums in store.info["files"].items() if name != "hashes.bin"},
        ):
            self.refused(store, r"\(it lists \[", files=files)

    def test_two_columns_of_one_file_but_not_of_its_size(self, store):
        column = {**store.info["columns"]["type"], "dtype": "<i8"}
        self.refused(store, "would have", columns={**store.info["columns"], "more": column})

    def test_links(self, tmp_path, store):
        path = store.path / "names.bin"
        shutil.move(path, tmp_path / "names.bin")
        path.symlink_to(tmp_path / "names.bin")
        with pytest.raises(ValueError, match=r"names\.bin: is no plain file, perhaps a link; copy"):
            SequenceStore(store.path)

    def test_pipes(self, store):
        (store.path / "names.bin").unlink()
        os.mkfifo(store.path / "names.bin")
        with pytest.raises(ValueError, match=r"names\.bin: is no plain file"):
            SequenceStore(store.path)

    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"tokens": -1}, r"'-1' is no number of sequences or tokens"),
            ({"tokens": 1 << 60}, "is no number of sequences"),
            ({"tokens": True}, "'True' is no number of sequences"),
            ({"tokens": "9"}, "'9' is no number of sequences"),
            ({"counts": {}}, "lacks 'kept'"),
            ({"counts": {"kept": 10**9}}, "would have"),
            ({"counts": None}, "not subscriptable"),
            ({"files": []}, "stands where names and values should"),
            ({"columns": 1}, "'1' stands where names and values should"),
            ({"vocabulary": {}}, "describes no store"),
            ({"vocabulary": {"tokens": [1], "__class__": "os.system"}}, "describes no store"),
            ({"settings": "rm -rf"}, "stands where"),
        ],
    )
    def test_values(self, store, changes, match):
        self.refused(store, match, **changes)

    @pytest.mark.parametrize(
        ("column", "match"),
        [
            ({"dtype": "|O"}, r"column 'type' has type '\|O', not <i4 or <i8"),
            ({"categories": "abc"}, "the categories of column 'type' are no list of texts"),
            ({"categories": [{}]}, "the categories of column 'type' are no list of texts"),
            ({"categories": [""]}, "has codes without a category"),
            ("column_0.bin", "stands where names and values should"),
        ],
    )
    def test_columns(self, store, column, match):
        if isinstance(column, dict):
            column = {**store.info["columns"]["type"], **column}
        self.refused(store, match, columns={**store.info["columns"], "type": column})

    @pytest.mark.parametrize("sums", [[], ["0" * 16] * 2, ["0" * 15 + "g"], [0], None])
    def test_checksums(self, store, sums):
        files = {**store.info["files"]}
        files["tokens.bin"] = {**files["tokens.bin"], "xxh3": sums}
        self.refused(
            store, r"the checksums of tokens\.bin are not one for each 64 MiB", files=files
        )

    def rewritten(self, store, name, values):
        """The store with other values in a file, and the checksums that these have."""
        data = np.asarray(values).tobytes()
        (store.path / name).write_bytes(data)
        spans = Spans()
        spans.update(data)
        return {**store.info, "files": {**store.info["files"], name: spans.sums()}}

    @pytest.mark.parametrize(
        ("places", "match"),
        [
            ({3: 1 << 40}, "has places that run backwards"),
            ({3: -5}, "has places that run backwards"),
            ({0: 8}, r"leads from \[8\] to"),
            ({-1: 1 << 40}, r"leads from \[0\] to 1,099,511,627,776, not to"),
        ],
    )
    @pytest.mark.parametrize("name", ["offsets.bin", "name_offsets.bin"])
    def test_offsets_that_lead_out_of_the_file(self, store, name, places, match):
        offsets = np.fromfile(store.path / name, np.int64)
        for place, value in places.items():
            offsets[place] = value
        write_manifest(store.path / "store.json", self.rewritten(store, name, offsets))
        opened = SequenceStore(store.path)
        if name == "offsets.bin":
            with pytest.raises(ValueError, match=match):
                _ = opened.lengths  # noticed before the first use, not only by verify
        with pytest.raises(ValueError, match=rf"{name}: {match}"):
            opened.verify()

    def test_tokens_that_no_letter_has(self, store):
        tokens = store.tokens.copy()
        tokens[9] = 200
        write_manifest(store.path / "store.json", self.rewritten(store, "tokens.bin", tokens))
        with pytest.raises(ValueError, match=r"tokens\.bin: has token 200, which no letter has"):
            SequenceStore(store.path).verify()

    def test_tokens_and_names_that_mean_nothing_when_they_are_used(self, store):
        tokens, names = store.tokens.copy(), np.fromfile(store.path / "names.bin", np.uint8)
        tokens[9], names[1] = 200, 0xB2
        info = self.rewritten(store, "tokens.bin", tokens)
        info["files"] |= {
            "names.bin": self.rewritten(store, "names.bin", names)["files"]["names.bin"]
        }
        write_manifest(store.path / "store.json", info)
        opened = SequenceStore(store.path)
        with pytest.raises(ValueError, match=r"tokens\.bin: has token 200, which no letter has"):
            opened.sequence(0)
        for use in (lambda: opened.name(0), lambda: list(opened.names())):
            with pytest.raises(ValueError, match=r"names\.bin: has names that are not UTF-8; del"):
                use()

    def test_a_description_without_end(self, store, monkeypatch):
        monkeypatch.setattr("rnafm.data.manifest._LARGEST", 100)
        with pytest.raises(ValueError, match=r"store\.json: has more than 100 bytes"):
            SequenceStore(store.path)

    @pytest.mark.parametrize(
        "text", ["[" * 100_000, "1" * 100_000, "NaN", '"x"', "null", "[]", "\udcff", ""]
    )
    def test_text_that_describes_nothing(self, store, text):
        (store.path / "store.json").write_bytes(text.encode("utf-8", "surrogateescape"))
        with pytest.raises(ValueError, match=r"store\.json: cannot be read"):
            SequenceStore(store.path)

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["kept", "size", "xxh3", "file", "dtype", "tokens.bin", "a"]),
                    inner,
                    max_size=3,
                )
            ),
            max_leaves=8,
        ),
        st.sampled_from(
            ["counts", "tokens", "files", "columns", "vocabulary", "settings", "added"]
        ),
    )
    def test_anything_anywhere(self, shared, value, key):
        before = (shared / "store.json").read_bytes()
        info = json.loads(before)
        info[key] = value
        write_manifest(shared / "store.json", info)
        try:
            SequenceStore(shared).verify()
        except ValueError:
            pass
        finally:
            (shared / "store.json").write_bytes(before)


class TestFingerprint:
    def test_it_says_what_is_in_the_store(self, tmp_path, store):
        write_fasta(tmp_path / "y.fa", records(50))
        os.utime(tmp_path / "y.fa", (1, 1))
        other = build([tmp_path / "y.fa"], tmp_path / "other")
        again = add_columns(
            other.path, {"cluster": (np.arange(len(other)) * 7, None)}, {"cluster": {}}
        )
        assert again.fingerprint == store.fingerprint != other.fingerprint
        assert again.info["digest"] != store.info["digest"]  # the files have other names
        assert len(store.fingerprint) == 32

    def test_every_value_counts(self, store):
        for key in ("counts", "tokens", "files", "columns", "vocabulary", "settings", "added"):
            assert fingerprint({**store.info, key: 0}) != store.fingerprint
