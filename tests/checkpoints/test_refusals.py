"""What is refused, and what the messages say."""

import json
import os
from argparse import Namespace
from dataclasses import asdict

import pytest
import torch
from padded import make_encoder
from reference import weights, write_multimolecule, write_official
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rnafm.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import MaskedLMHead


@pytest.fixture
def ours(tmp_path):
    encoder = make_encoder()
    checkpoint = Checkpoint(encoder, MaskedLMHead(32, len(encoder.vocabulary)), [], (6, 7, 8, 9))
    return checkpoint, tmp_path / "ours.safetensors"


NAMES = {  # one parameter to leave out, and one to cut
    "official": ("layers.1.fc1.bias", "layers.0.fc2.weight"),
    "multimolecule": (
        "model.encoder.layer.1.intermediate.dense.bias",
        "model.encoder.layer.0.output.dense.weight",
    ),
    "rnafm": ("encoder.blocks.1.fc1.bias", "encoder.blocks.0.fc2.weight"),
}


@pytest.mark.parametrize("layout", NAMES)
def test_one_message_names_all_that_is_wrong(ours, tmp_path, layout):
    absent, cut = NAMES[layout]

    def spoil(state, prefix=""):
        del state[prefix + absent]
        state[prefix + cut] = state[prefix + cut][:, 1:].clone()
        state[prefix + "surplus.weight"] = torch.zeros(1)
        return state

    if layout == "official":
        path = write_official("rnafm", tmp_path / "a.pth")
        content = torch.load(path, weights_only=False)
        spoil(content["model"], "encoder.encoder.")
        torch.save(content, path)
    elif layout == "multimolecule":
        path = write_multimolecule("rnafm", tmp_path / "a") / "model.safetensors"
        save_file(spoil(load_file(path)), path)
    else:
        path = ours[1]
        save_checkpoint(*ours)
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        del metadata["xxh3_128"]  # or nothing else would be looked at
        save_file(spoil(load_file(path)), path, metadata)
    message = (
        rf"missing: {absent}; unexpected: surplus.weight; wrong shape: {cut} "
        r"\(\d+, \d+\) instead of \(\d+, \d+\)\. Download it again"
    )
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["a.pth", "a.ckpt", "a.bin"])
def test_code_in_a_file_is_never_run(tmp_path, name):
    trap = tmp_path / "sprung"
    torch.save({"model": {}, "args": Malicious(trap)}, tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is refused: reading it would run \w+\.mkdir"):
        load_checkpoint(tmp_path / name)
    assert not trap.exists()
    torch.load(tmp_path / name, weights_only=False)  # the trap itself works
    assert trap.exists()


def write(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"<html>not found</html>", "cannot be read as a torch file .* download it again"),
        ("a.pth", b"", "cannot be read as a torch file"),
        ("a.pth", [torch.zeros(1)], "holds a list, not a dictionary of weights"),
        (
            "a.pth",
            {"model": {"fc.weight": torch.zeros(1)}},
            r"missing: embed_tokens.* it has: fc\.",
        ),
        ("a.pth", {"args": Namespace(token_dropout=True)}, "trained with token_dropout"),
        ("a.safetensors", b"<html>not found</html>", "not a complete safetensors file"),
        ("a.txt", b"", r"ends in \.safetensors, \.pth"),
    ],
)
def test_other_files_are_named(tmp_path, name, content, message):
    write(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / name)


def test_embeddings_of_an_unknown_vocabulary(tmp_path):
    state = weights("official_rnafm")
    for key in ("embed_tokens.weight", "lm_head.weight", "lm_head.bias"):
        state[key] = state[key][:11]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"embeddings for 11 tokens, the official .* have 25"):
        load_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_dropout": True}, "says token_dropout True, and only False is offered here"),
        ({"position_embedding_type": "rotary"}, "says position_embedding_type 'rotary'"),
    ],
)
def test_multimolecule_models_of_another_kind(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        load_checkpoint(write_multimolecule("rnafm", tmp_path / "a", **changes))


def test_incomplete_directories(tmp_path):
    directory = write_multimolecule("rnafm", tmp_path / "a")
    text = (directory / "config.json").read_text()
    values = json.loads(text)
    del values["hidden_size"]
    (directory / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"config.json has no 'hidden_size'"):
        load_checkpoint(directory)
    (directory / "config.json").write_text(text[:-9])
    with pytest.raises(ValueError, match=r"config.json is no JSON"):
        load_checkpoint(directory)
    (directory / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="download all of it"):
        load_checkpoint(directory)
    (directory / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no model.safetensors"):
        load_checkpoint(directory)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "nowhere.pth")


def test_files_of_a_newer_version_and_of_another_layout(ours, tmp_path):
    checkpoint, path = ours
    save_checkpoint(checkpoint, path)
    metadata = {"rnafm_format": "2"}
    save_file(load_file(path), tmp_path / "new.safetensors", metadata)
    with pytest.raises(ValueError, match="has format 2, this version of rnafm reads up to 1"):
        load_checkpoint(tmp_path / "new.safetensors")
    save_file(load_file(path), tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="no rnafm metadata"):
        load_checkpoint(tmp_path / "bare.safetensors", "rnafm")
    with pytest.raises(ValueError, match="is a safetensors file, which layout 'official' never is"):
        load_checkpoint(path, "official")
    pickled = write_official("rnafm", tmp_path / "a.pth")
    with pytest.raises(ValueError, match="is a pickle, which layout 'rnafm' never is"):
        load_checkpoint(pickled, "rnafm")
    with pytest.raises(ValueError, match="has no state_dict"):
        load_checkpoint(pickled, "lightning")
    strange = {"encoder": json.dumps(asdict(checkpoint.config) | {"wings": 2}), "rnafm_format": "1"}
    save_file(load_file(path), tmp_path / "strange.safetensors", strange)
    with pytest.raises(ValueError, match="does not know: wings; upgrade rnafm"):
        load_checkpoint(tmp_path / "strange.safetensors")


def test_what_cannot_be_written(ours, tmp_path):
    checkpoint, path = ours
    with pytest.raises(ValueError, match=r"'rnafm' is written to .safetensors, not to .*a\.pth"):
        save_checkpoint(checkpoint, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="needs a masked-LM head, and this checkpoint has none"):
        save_checkpoint(Checkpoint(checkpoint.encoder), tmp_path / "a.pth", "official")
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="'multimolecule' is written to a directory"):
        save_checkpoint(checkpoint, tmp_path / "file", "multimolecule")
    with pytest.raises(ValueError, match="tokens of 1 letters cannot take the vocabulary 'codon'"):
        save_checkpoint(checkpoint, path, vocabulary=Vocabulary.named("codon"))


def test_a_failed_write_leaves_the_old_file(ours, monkeypatch):
    checkpoint, path = ours
    save_checkpoint(checkpoint, path)
    before = path.read_bytes()

    def fail(_state, temporary, _metadata):
        temporary.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("rnafm.checkpoints.base.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(checkpoint, path)
    assert path.read_bytes() == before and [each.name for each in path.parent.iterdir()] == [
        path.name
    ]
