"""Damaged files are found, and files of strangers cost neither safety nor memory."""

import io
import json
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch
import xxhash
from padded import make_encoder
from reference import write_multimolecule, write_official
from runs import fit, write_fasta
from safetensors.torch import load_file, save_file

from rnafm.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from rnafm.checkpoints.pickles import load_pickle
from rnafm.files import check_seal
from rnafm.modules import MaskedLMHead
from rnafm.tasks.loading import load_task


@pytest.fixture
def ours(tmp_path):
    encoder = make_encoder()
    path = tmp_path / "ours.safetensors"
    save_checkpoint(Checkpoint(encoder, MaskedLMHead(32, len(encoder.vocabulary))), path)
    return path


def test_a_flipped_bit_anywhere_in_our_layout_is_found(ours):
    whole, chosen = ours.read_bytes(), random.Random(0)  # noqa: S311
    end = 8 + int.from_bytes(whole[:8], "little")
    places = [*range(0, end, 7), *chosen.sample(range(end, len(whole)), 40)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << chosen.randrange(8)
        ours.write_bytes(damaged)
        with pytest.raises((ValueError, FileNotFoundError), match=str(ours.parent)):
            load_checkpoint(ours)
    ours.write_bytes(whole)
    load_checkpoint(ours)


def test_the_digest_of_our_layout_names_what_else_there_is(ours):
    save_checkpoint(load_checkpoint(ours), ours.with_name("older.safetensors"))
    damaged = bytearray(ours.read_bytes())
    damaged[-1] ^= 1
    ours.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"ours.safetensors is damaged: .*: .*older.safetensors"):
        load_checkpoint(ours)
    # Files of the first versions have no digest, and are read as they are.
    tensors = load_file(ours.with_name("older.safetensors"))
    with (ours.with_name("older.safetensors")).open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))["__metadata__"]
    del header["xxh3_128"]
    save_file(tensors, ours, header)
    assert load_checkpoint(ours).config.embed_dim == 32


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("weights_only", ["null", "false"])
def test_a_run_does_not_execute_what_it_continues_from(tmp_path, weights_only):
    fasta, trap = write_fasta(tmp_path / "x.fa"), tmp_path / "sprung"
    run = fit(tmp_path, fasta, "--trainer.max_steps=5")
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    content["hyper_parameters"]["encoder"] = Malicious(trap)
    torch.save(content, last)
    with pytest.raises(SystemExit, match=r"last.ckpt is refused: reading it would run \w+\.mkdir"):
        fit(tmp_path, fasta, "--ckpt_path=last", f"--weights_only={weights_only}")
    with pytest.raises(ValueError, match="is refused: reading it would run"):
        load_task(last)
    assert not trap.exists()


def archive(path, compression=zipfile.ZIP_STORED, **members):
    """The archive of some file of torch's, with other members."""
    memory = io.BytesIO()
    torch.save({"weights": torch.zeros(4)}, memory)
    with zipfile.ZipFile(memory) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            new.writestr(name, members.get(name.rpartition("/")[2], old.read(name)))
    return path


def test_zip_bombs(tmp_path):
    path = archive(tmp_path / "a.pth", zipfile.ZIP_DEFLATED, **{"0": bytes(10**7)})
    assert path.stat().st_size < 10**5
    content = path.read_bytes()
    # A good digest is no reason to trust a file: anybody can make one.
    comment = b"rnafm xxh3-128 " + xxhash.xxh3_128(content).hexdigest().encode()
    sealed = path.with_name("sealed.pth")
    sealed.write_bytes(content[:-2] + len(comment).to_bytes(2, "little") + comment)
    assert check_seal(sealed)
    for bomb in (path, sealed):
        with pytest.raises(ValueError, match=r"pth is refused: it is compressed \(.*data.pkl"):
            load_pickle(bomb)
    # Two names for the same bytes: the archive is larger inside than outside.
    path = archive(tmp_path / "b.pth", serialization_id=bytes(1000))
    content = bytearray(path.read_bytes())
    first = content.rindex(b"PK\1\2")  # the last entry of the directory
    at = content.rindex(b"PK\5\6")
    entries = content[first:at] * 40
    count = int.from_bytes(content[at + 10 : at + 12], "little") + 39
    content[at + 8 : at + 12] = count.to_bytes(2, "little") * 2
    content[at + 12 : at + 16] = (
        int.from_bytes(content[at + 12 : at + 16], "little") + 39 * (at - first)
    ).to_bytes(4, "little")
    path.write_bytes(content[:first] + entries + content[at:])
    with pytest.raises(ValueError, match=r"b.pth is refused: it is larger inside than outside"):
        load_pickle(path)


def test_tensors_that_are_larger_than_their_file(tmp_path):
    torch.save({"wide": torch.zeros(1).expand(10**12)}, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"wide of shape \(1000000000000,\) says that it is larger"
    ):
        load_checkpoint(tmp_path / "a.pth")
    one = torch.zeros(2 * 10**5)
    torch.save({"model": {str(i): one.view(-1) for i in range(100)}}, tmp_path / "b.pth")
    with pytest.raises(ValueError, match=r"refused: its tensors take 80,000,000 bytes"):
        load_checkpoint(tmp_path / "b.pth")
    torch.save({"model": {str(i): one for i in range(3)}}, tmp_path / "tied.pth")
    assert len(load_pickle(tmp_path / "tied.pth")["model"]) == 3


@pytest.mark.parametrize("kind", ["archive", "legacy"])
def test_a_number_is_not_given_memory(tmp_path, kind):
    path = tmp_path / "a.pth"
    asks = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01c__builtin__\nbytearray\n" + (
        pickle.dumps(10**13, 2)[2:-1] + b"\x85Ru."
    )
    if kind == "archive":
        archive(path, **{"data.pkl": asks})
    else:
        path.write_bytes(asks)
    with pytest.raises(ValueError, match=r"a.pth is refused: it holds a bytearray"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 10**9}, r"has 1000000000 layers, and holds \d+ tensors"),
        ({"num_hidden_layers": -1}, "num_layers must be at least 1, not -1"),
        ({"num_hidden_layers": "two"}, "does not hold what a checkpoint of its layout has to"),
        ({"num_attention_heads": 0}, "does not hold what a checkpoint of its layout has to"),
        ({"hidden_size": None}, "does not hold what a checkpoint of its layout has to"),
        ({"layer_norm_eps": "../../x"}, "does not hold what a checkpoint of its layout has to"),
    ],
)
def test_configurations_that_make_no_sense(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_checkpoint(write_multimolecule("rnafm", tmp_path / "a", **changes))


BROKEN = {  # found by scripts/fuzz_checkpoints.py
    "an empty stack": b"\x80\x02}q\x000.",
    "keys that are numbers": {1: torch.zeros(1), "model": {2: torch.zeros(1)}},
    "options of another kind": {"args": {"layers": 1}, "model": {}},
    "a model that is none": {"model": 3},
    "a state that is none": {"state_dict": 3, "hyper_parameters": {"encoder": 1, "vocabulary": 2}},
    "hyperparameters that are none": {"state_dict": {}, "hyper_parameters": [1]},
    "nothing in all places": {"state_dict": OrderedDict(), "hyper_parameters": {}},
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".bin"])
def test_what_fuzzing_has_found(tmp_path, name, suffix):
    path = tmp_path / f"broken{suffix}"
    content = BROKEN[name]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    for load in (load_checkpoint, load_task):
        with pytest.raises((ValueError, OSError), match=str(tmp_path)):
            load(path)


def test_names_in_a_directory_lead_nowhere_else(tmp_path):
    # Weights are read under fixed names: what an index of shards says is not even opened.
    directory = write_multimolecule("rnafm", tmp_path / "a")
    (directory / "model.safetensors").rename(tmp_path / "outside.safetensors")
    index = {"weight_map": {"model.embeddings.word_embeddings.weight": "../outside.safetensors"}}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=r"a has no model.safetensors"):
        load_checkpoint(directory)


def test_writing_makes_the_same_file_again(tmp_path):
    source = load_checkpoint(write_official("rnafm", tmp_path / "RNA-FM.pth"))
    first, second = tmp_path / "RNA-FM_a.pth", tmp_path / "RNA-FM_b.pth"
    for path in (first, second):
        save_checkpoint(source, path, "official")
    assert first.read_bytes() == second.read_bytes()
