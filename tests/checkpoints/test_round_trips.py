"""Weights through other layouts and back: every bit that both have a place for comes back."""

import json

import pytest
import torch
from reference import NAMES, weights, write_multimolecule, write_official
from safetensors.torch import load_file

from rnafm.checkpoints import Checkpoint, load_checkpoint, save_checkpoint, with_vocabulary
from rnafm.checkpoints.compare import largest_difference
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import Encoder, EncoderConfig, MaskedLMHead

PREFIX = "encoder.encoder."
ROWS = {"embed_tokens.weight", "lm_head.weight", "lm_head.bias"}


def through(checkpoint, path, layout, **options):
    save_checkpoint(checkpoint, path, layout, **options)
    return load_checkpoint(path)


def official_state(path):
    return {
        key.removeprefix(PREFIX): value
        for key, value in torch.load(path, weights_only=False)["model"].items()
    }


def check_official(path, name, rows=slice(None)):
    found = official_state(path)
    wanted = {
        key: value.float()
        for key, value in weights(f"official_{name}").items()
        if "contact" not in key
    }
    assert found.keys() == wanted.keys()
    for key, value in found.items():
        some = rows if key in ROWS else slice(None)
        assert torch.equal(value[some], wanted[key][some]), key


def check_multimolecule(directory, name):
    found = load_file(directory / "model.safetensors")
    wanted = {
        key: value.float() for key, value in weights(f"hf_{name}").items() if "ss_head" not in key
    }
    assert found.keys() == wanted.keys()
    assert all(torch.equal(value, wanted[key]) for key, value in found.items())


@pytest.mark.parametrize("name", NAMES)
def test_official_ours_official(name, tmp_path):
    first = load_checkpoint(write_official(name, tmp_path / "a.pth"))
    second = through(first, tmp_path / "b.safetensors", "rnafm")
    assert second.vocabulary.name.startswith("official") and second.trained_ids == first.trained_ids
    save_checkpoint(second, tmp_path / "c.pth", "official")
    check_official(tmp_path / "c.pth", name)


@pytest.mark.parametrize("name", NAMES)
def test_multimolecule_ours_multimolecule(name, tmp_path):
    first = load_checkpoint(write_multimolecule(name, tmp_path / "a"))
    second = through(first, tmp_path / "b.safetensors", "rnafm")
    save_checkpoint(second, tmp_path / "c", "multimolecule")
    check_multimolecule(tmp_path / "c", name)
    assert (tmp_path / "a/vocab.txt").read_text() == (tmp_path / "c/vocab.txt").read_text()
    before, after = (json.loads((tmp_path / each / "config.json").read_text()) for each in "ac")
    del after["architectures"], after["dtype"]
    for key in ("layer_norm_eps", "dropout", "transform", "transform_act", "bias", "act"):
        assert after["lm_head"][key] == before["lm_head"][key]
    del after["lm_head"]
    assert after == {key: before[key] for key in after}


@pytest.mark.parametrize("name", NAMES)
def test_official_multimolecule_official(name, tmp_path):
    first = load_checkpoint(write_official(name, tmp_path / "a.pth"))
    second = through(first, tmp_path / "b", "multimolecule")
    assert second.vocabulary.name == {"rnafm": "rna", "mrnafm": "codon"}[name]
    names = [second.vocabulary.tokens[i] for i in second.trained_ids]
    assert sorted(names) == sorted(first.vocabulary.tokens[i] for i in first.trained_ids)
    assert largest_difference(first, second) < 1e-5
    save_checkpoint(second, tmp_path / "c.pth", "official")
    # <null_1> to <null_3> share one row in between; all the others, <null_4> too, are as before.
    rows = [
        i
        for i, token in enumerate(first.vocabulary.tokens)
        if token not in ("<null_1>", "<null_2>", "<null_3>")
    ]
    check_official(tmp_path / "c.pth", name, rows)
    state = official_state(tmp_path / "c.pth")
    nulls = [first.vocabulary.ids[f"<null_{i}>"] for i in range(1, 5)]
    assert all(
        torch.equal(state["embed_tokens.weight"][i], state["embed_tokens.weight"][nulls[3]])
        for i in nulls
    )


@pytest.mark.parametrize("name", NAMES)
def test_multimolecule_official_multimolecule(name, tmp_path):
    first = load_checkpoint(write_multimolecule(name, tmp_path / "a"))
    second = through(first, tmp_path / "b.pth", "official")
    third = with_vocabulary(second, first.vocabulary)
    ids = list(first.trained_ids)
    assert third.trained_ids == first.trained_ids
    for left, right in (
        (first.encoder.embed_tokens.weight, third.encoder.embed_tokens.weight),
        (first.head.bias, third.head.bias),
    ):
        assert torch.equal(left[ids], right[ids])
    assert largest_difference(second, third) < 1e-5


def test_from_26_to_28_tokens_and_back(tmp_path):
    torch.manual_seed(0)
    small, words = Vocabulary.named("rna"), Vocabulary.named("rna-28")
    first = Checkpoint(Encoder(EncoderConfig(1, 32, 2, 64), small), MaskedLMHead(32, 26))
    torch.nn.init.normal_(first.head.bias)
    second = through(first, tmp_path / "b", "multimolecule", vocabulary=words)
    assert second.vocabulary == words
    for token in small.tokens:
        one, other = (
            each.encoder.embed_tokens.weight[each.vocabulary.ids[token]] for each in (first, second)
        )
        assert torch.equal(one, other), token
    third = through(second, tmp_path / "c.safetensors", "rnafm", vocabulary=small)
    assert torch.equal(third.encoder.embed_tokens.weight, first.encoder.embed_tokens.weight)
    assert torch.equal(third.head.bias, first.head.bias)


# Rows that MultiMolecule's own conversion makes up, at the widths of RNA-FM and mRNA-FM.
MADE_UP = {
    ("rna-28", "I"): (-0.007450, 0.001520, -0.003032),
    ("rna-28", "."): (0.001809, -0.020944, -0.012409),
    ("rna", "."): (-0.007450, 0.001520, -0.003032),
    ("rna", "I"): (0.015697, -0.001926, 0.016965),
    ("codon", "AAN"): (0.008083, -0.006053, 0.010163),
}


@pytest.mark.parametrize(("name", "token"), MADE_UP)
def test_missing_rows_are_those_that_multimolecule_makes_up(name, token):
    source = Vocabulary.named("official-codon" if name == "codon" else "official-rna")
    width = 1280 if name == "codon" else 640
    encoder = Encoder(EncoderConfig(1, width, 20, 8, max_length=4), source)
    first = Checkpoint(encoder, MaskedLMHead(width, len(source)))
    torch.nn.init.normal_(first.head.bias)
    second = with_vocabulary(first, Vocabulary.named(name))
    rows, ids = second.encoder.embed_tokens.weight, second.vocabulary.ids
    assert torch.allclose(rows[ids[token], :3], torch.tensor(MADE_UP[name, token]), atol=1e-6)
    assert second.head.bias[ids[token]] == 0
    assert ids[token] not in second.trained_ids
    assert any(note.startswith("untrained rows") and token in note for note in second.notes)
    if name != "codon":
        acgu = list(source.standard_ids)
        assert torch.allclose(rows[ids["X"]], encoder.embed_tokens.weight[acgu].mean(0))
        assert torch.allclose(second.head.bias[ids["X"]], first.head.bias[acgu].mean())
        assert ids["X"] not in second.trained_ids


def test_what_a_layout_cannot_keep_is_said(tmp_path):
    official = load_checkpoint(write_official("rnafm", tmp_path / "RNA-FM.pth"))
    notes = save_checkpoint(official, tmp_path / "a", "multimolecule")
    assert "untrained rows, made up for the vocabulary 'rna': . X * I" in notes
    assert any("those of <null_1> to <null_3> are lost" in note for note in notes)
    assert any("no pooler" in note for note in notes)
    notes = save_checkpoint(load_checkpoint(tmp_path / "a"), tmp_path / "b.pth", "official")
    assert "rows left out, the vocabulary 'official-rna' has no such tokens: . X * I" in notes
    assert any("'RNA-FM' in their name" in note for note in notes)
    assert any("no contact head" in note for note in notes)
    codons = load_checkpoint(write_multimolecule("mrnafm", tmp_path / "m"), layer_norm_eps=1e-6)
    notes = save_checkpoint(codons, tmp_path / "CDS-FM.pth", "official")
    assert any("AAN ACN AGN AUN ANA ANC ANG ANU ... (61 in all)" in note for note in notes)
    assert any("layer_norm_eps 1e-06 is lost" in note for note in notes)
    assert not any("in their name" in note for note in notes)


def test_an_encoder_alone_is_a_bare_model_there(tmp_path):
    checkpoint = load_checkpoint(write_multimolecule("rnafm", tmp_path / "a"))
    found = through(Checkpoint(checkpoint.encoder), tmp_path / "b", "multimolecule")
    assert found.head is None and largest_difference(checkpoint, found) == 0
    assert "embeddings.word_embeddings.weight" in load_file(tmp_path / "b" / "model.safetensors")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["architectures"] == [
        "RnaFmModel"
    ]
