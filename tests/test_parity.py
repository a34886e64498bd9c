"""Outputs of the two published implementations, reproduced from files in their own layouts."""

import pytest
import torch
import torch.nn.functional as F
from reference import NAMES, golden, pack, write_multimolecule, write_official

from rnafm.checkpoints import load_checkpoint

TOLERANCE = 1e-5
CASES = [f"{layout}_{name}" for layout in ("hf", "official") for name in NAMES]
KEYS = {
    "hf": {
        "tokens": "input_ids",
        "masked": "input_ids_masked",
        "logits": "logits_lm",
        "masked_logits": "masked.logits_lm",
    },
    "official": {
        "tokens": "tokens",
        "masked": "tokens_masked",
        "logits": "logits",
        "masked_logits": "masked.logits",
    },
}


def furthest(logits, theirs):
    """Largest difference, in units of the largest logit: they reach 13, where 1e-5 is ten ulps."""
    return (logits - theirs).abs().max() / theirs.abs().max()


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    layout, name = request.param.split("_")
    if layout == "official":
        path = write_official(name, tmp_path / "RNA-FM.pth")
    else:
        path = write_multimolecule(name, tmp_path / "model")
    checkpoint = load_checkpoint(path)
    checkpoint.encoder.eval()
    keys, tensors = KEYS[layout], golden(request.param)
    return checkpoint, {name: tensors[key] for name, key in keys.items()}, tensors


def test_every_layer_and_the_logits(case):
    checkpoint, wanted, tensors = case
    encoder, head = checkpoint.encoder, checkpoint.head
    tokens, cu_seqlens, longest, real = pack(wanted["tokens"], encoder.vocabulary)
    name = "representations" if "representations.0" in tensors else "hidden_states"
    with torch.inference_mode():
        states = encoder.hidden_states(tokens, cu_seqlens, longest)
        embeddings = encoder(tokens, cu_seqlens, longest)
        logits = head(embeddings, encoder.embed_tokens.weight)
    assert len(states) == 3
    for i, state in enumerate(states):
        assert (state - tensors[f"{name}.{i}"][real]).abs().max() < TOLERANCE
    assert torch.equal(embeddings, states[-1])
    assert furthest(logits, wanted["logits"][real]) < TOLERANCE


def test_logits_of_masked_input(case):
    checkpoint, wanted, _ = case
    encoder = checkpoint.encoder
    tokens, cu_seqlens, longest, real = pack(wanted["masked"], encoder.vocabulary)
    assert (tokens == encoder.vocabulary.mask_id).any()
    with torch.inference_mode():
        embeddings = encoder(tokens, cu_seqlens, longest)
        logits = checkpoint.head(embeddings, encoder.embed_tokens.weight)
    assert furthest(logits, wanted["masked_logits"][real]) < TOLERANCE


def test_attention_maps(case):
    checkpoint, wanted, tensors = case
    encoder = checkpoint.encoder
    tokens, cu_seqlens, longest, _ = pack(wanted["tokens"], encoder.vocabulary)
    lengths = cu_seqlens.diff().tolist()
    with torch.inference_mode():
        layers = list(encoder.attention_maps(tokens, cu_seqlens, longest))
    assert len(layers) == 2
    for i, maps in enumerate(layers):
        both = (
            tensors["attentions"][:, i] if "attentions" in tensors else tensors[f"attentions.{i}"]
        )
        for own, theirs, length in zip(maps, both, lengths, strict=True):
            assert (own - theirs[:, :length, :length]).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradients(name, tmp_path):
    checkpoint = load_checkpoint(write_multimolecule(name, tmp_path / "model"))
    encoder, head, tensors = checkpoint.encoder.eval(), checkpoint.head, golden(f"hf_{name}")
    tokens, cu_seqlens, longest, real = pack(tensors["input_ids_masked"], encoder.vocabulary)
    logits = head(encoder(tokens, cu_seqlens, longest), encoder.embed_tokens.weight)
    loss = F.cross_entropy(logits, tensors["labels"][real])
    loss.backward()
    assert (loss - tensors["mlm_loss"]).abs() < TOLERANCE
    width = encoder.config.embed_dim
    query = encoder.blocks[0].qkv.weight.grad[:width]
    assert (query - tensors["grad.layer0.query.weight"]).abs().max() < TOLERANCE
    rows = encoder.embed_tokens.weight.grad
    assert (rows - tensors["grad.word_embeddings"]).abs().max() < TOLERANCE
