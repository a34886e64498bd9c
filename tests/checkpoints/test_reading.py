"""What is read from files of every layout."""

from dataclasses import asdict

import numpy as np
import pytest
import torch
from padded import make_encoder
from reference import weights, write_multimolecule, write_official
from safetensors.torch import load_file, save_file

from rnafm.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from rnafm.modules import Encoder, MaskedLMHead


def same(one, other):
    states = [each.state_dict() for each in (one.encoder, other.encoder)]
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.fixture
def ours(tmp_path):
    encoder = make_encoder()
    checkpoint = Checkpoint(encoder, MaskedLMHead(32, len(encoder.vocabulary)), [], (6, 7, 8, 9))
    return checkpoint, tmp_path / "ours.safetensors"


@pytest.mark.parametrize(
    "prefix", ["encoder.encoder.", "encoder.sentence_encoder.", "encoder.", "", "backbone."]
)
def test_official_prefixes(tmp_path, prefix):
    first = load_checkpoint(write_official("rnafm", tmp_path / "a.pth"))
    other = load_checkpoint(write_official("rnafm", tmp_path / "b.pth", prefix))
    assert same(first, other) and first.head is not None
    assert first.vocabulary.name == "official-rna"
    assert first.trained_ids == (*range(20), 24)
    assert first.config.embed_norm and first.config.max_length == 62
    assert any("contact head" in note for note in first.notes)


def test_official_weights_alone_and_the_structure_model(tmp_path):
    wanted = load_checkpoint(write_official("mrnafm", tmp_path / "a.pth"))
    flat = {f"backbone.{key}": value for key, value in weights("official_mrnafm").items()}
    flat["downstream_modules.pc-resnet_1_sym_first:r-ss.proj.final.weight"] = torch.zeros(1)
    torch.save(flat, tmp_path / "b.pth")
    found = load_checkpoint(tmp_path / "b.pth")
    assert same(wanted, found) and found.config.num_heads == 4 and not found.config.embed_norm
    assert any("1 tensors of another head" in note for note in found.notes)
    for key in [key for key in flat if "contact_head" in key]:
        del flat[key]
    torch.save(flat, tmp_path / "c.pth")
    with pytest.raises(ValueError, match=r"embed_dim 32 is neither .* give num_heads"):
        load_checkpoint(tmp_path / "c.pth")
    assert load_checkpoint(tmp_path / "c.pth", num_heads=4).config == found.config


def test_official_optimizer_states_and_meters_are_passed_over(tmp_path):
    extra = {
        "extra_state": {"loss": np.float64(1.5), "step": np.int64(3)},
        "last_optimizer_state": {},
    }
    path = write_official("rnafm", tmp_path / "a.pth", **extra)
    assert load_checkpoint(path).head is not None


def test_official_decoder_wins_and_the_mask_row_is_as_stored(tmp_path):
    path = write_official("rnafm", tmp_path / "a.pth")
    content = torch.load(path, weights_only=False)
    content["model"]["encoder.encoder.embed_tokens.weight"][24] = 0
    torch.save(content, path)
    found = load_checkpoint(path)
    mask = found.encoder.embed_tokens.weight[24]
    assert torch.equal(mask, weights("official_rnafm")["lm_head.weight"][24].float())
    assert any("the decoder was used for both" in note for note in found.notes)
    zeroed = load_checkpoint(path, zero_mask_row=True).encoder.embed_tokens.weight
    assert not zeroed[24].any() and torch.equal(zeroed[:24], found.encoder.embed_tokens.weight[:24])


@pytest.mark.parametrize("prefix", ["model.", "rnafm.", ""])
def test_multimolecule_names_of_all_ages(tmp_path, prefix):
    def rename(key):
        if prefix == "rnafm.":  # the oldest: another name for the heads, too
            key = key.replace("lm_head.", "pretrain.predictions.")
        return prefix + key.removeprefix("model.") if key.startswith("model.") else key

    first = load_checkpoint(write_multimolecule("rnafm", tmp_path / "a"))
    other = load_checkpoint(write_multimolecule("rnafm", tmp_path / "b", rename))
    assert same(first, other)
    assert torch.equal(first.head.bias, other.head.bias)
    assert first.vocabulary.name == "rna-28"
    untrained = {first.vocabulary.tokens[i] for i in range(28)} - {
        first.vocabulary.tokens[i] for i in first.trained_ids
    }
    assert untrained == {"<null>", "I", "X", "|", ".", "*", "?"}
    assert "ss_head was left out (2 tensors)" in first.notes


def test_multimolecule_pickle_with_tied_copies_and_other_heads(tmp_path):
    directory = write_multimolecule("mrnafm", tmp_path / "a")
    wanted = load_checkpoint(directory)
    state = load_file(directory / "model.safetensors")
    state["lm_head.decoder.weight"] = state["model.embeddings.word_embeddings.weight"]
    state["lm_head.decoder.bias"] = state.pop("lm_head.bias")
    state["model.embeddings.position_ids"] = torch.arange(66)
    state["model.pooler.dense.bias"] = torch.zeros(32)
    state["token_head.decoder.bias"] = torch.zeros(1)
    torch.save(state, directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    found = load_checkpoint(directory)
    assert same(wanted, found) and torch.equal(wanted.head.bias, found.head.bias)
    assert {"token_head was left out (1 tensors)", "model.pooler was left out (1 tensors)"} <= set(
        found.notes
    )


def test_multimolecule_wrong_eps_is_corrected_and_can_be_kept(tmp_path):
    changes = {"layer_norm_eps": 1e-12, "codon": True, "embed_norm": True}
    directory = write_multimolecule("rnafm", tmp_path / "a", **changes)
    found = load_checkpoint(directory)
    assert found.config.layer_norm_eps == 1e-5 and found.head.norm.eps == 1e-5
    assert found.vocabulary.name == "rna-28"  # whatever "codon" says
    assert any("give layer_norm_eps=1e-12" in note for note in found.notes)
    kept = load_checkpoint(directory / "model.safetensors", layer_norm_eps=1e-12)
    assert kept.config.layer_norm_eps == kept.encoder.final_norm.eps == 1e-12


def test_multimolecule_vocabulary_by_size(tmp_path):
    directory = write_multimolecule("rnafm", tmp_path / "a")
    (directory / "vocab.txt").unlink()
    found = load_checkpoint(directory)
    assert found.vocabulary.name == "rna-28"
    assert any("taken by its size of 28" in note for note in found.notes)
    state = load_file(directory / "model.safetensors")
    for key in ("lm_head.bias", "model.embeddings.word_embeddings.weight"):
        state[key] = state[key][:20].clone()
    save_file(state, directory / "model.safetensors")
    with pytest.raises(ValueError, match="weights have 20 embeddings, and no vocabulary"):
        load_checkpoint(directory)


def test_our_file_keeps_everything(ours):
    checkpoint, path = ours
    assert save_checkpoint(checkpoint, path) == []
    found = load_checkpoint(path)
    assert same(checkpoint, found) and found.trained_ids == (6, 7, 8, 9) and not found.notes
    assert found.config == checkpoint.config and found.vocabulary == checkpoint.vocabulary
    assert torch.equal(found.head.dense.weight, checkpoint.head.dense.weight)
    assert all(p.requires_grad and p.dtype == torch.float32 for p in found.encoder.parameters())
    assert found.encoder.training
    save_checkpoint(Checkpoint(checkpoint.encoder), path)
    assert load_checkpoint(path).head is None
    assert load_checkpoint(path).trained_ids == tuple(range(26))
    assert torch.equal(
        Encoder.from_checkpoint(path).embed(["ACGU"]), checkpoint.encoder.embed(["ACGU"])
    )


def test_our_file_is_as_readable_as_others(ours):
    save_checkpoint(*ours)
    other = ours[1].with_name("other")
    other.touch()
    assert ours[1].stat().st_mode == other.stat().st_mode


def test_loading_leaves_random_numbers_alone(ours):
    save_checkpoint(*ours)
    before = torch.random.get_rng_state()
    load_checkpoint(ours[1])
    assert torch.equal(before, torch.random.get_rng_state())


def lightning(checkpoint, **other):
    state = {f"encoder.{key}": value for key, value in checkpoint.encoder.state_dict().items()}
    state |= {f"head.{key}": value for key, value in checkpoint.head.state_dict().items()} | other
    values = {"encoder": asdict(checkpoint.config), "vocabulary": checkpoint.vocabulary.to_dict()}
    return {"state_dict": state, "hyper_parameters": values, "optimizer_states": [{"state": {}}]}


def test_lightning_checkpoints(ours, tmp_path):
    checkpoint, path = ours[0], tmp_path / "last.ckpt"
    torch.save(lightning(checkpoint, **{"scores.total": torch.zeros(1)}), path)
    found = load_checkpoint(path)
    assert same(checkpoint, found) and torch.equal(found.head.bias, checkpoint.head.bias)
    assert found.notes == ["other parts of the task were left out: scores"]
    content = lightning(checkpoint)
    del content["state_dict"]["head.norm.weight"]  # the head of another task
    torch.save(content, path)
    found = load_checkpoint(path)
    assert found.head is None and found.notes == ["other parts of the task were left out: head"]
    del content["hyper_parameters"]["vocabulary"]
    torch.save(content, path)
    with pytest.raises(ValueError, match="without hyper_parameters vocabulary, so it was not"):
        load_checkpoint(path)
