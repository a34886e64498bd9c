import re
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from padded import SMALL, make_encoder, make_pack, padded_forward

from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import Encoder, EncoderConfig, MaskedLMHead

CONFIGS = Path(__file__).parents[2] / "configs" / "encoder"
EDGES = [[2], [17], [6, 6, 6, 6], [1024], [1024, 1], [2, 2, 1], [300, 20, 20, 33, 57]]
ENCODER = make_encoder()


def run(encoder, lengths):
    tokens, cu_seqlens, longest, padded = make_pack(lengths, encoder.vocabulary)
    return encoder(tokens, cu_seqlens, longest), padded


def unpadded(encoder, padded):
    return padded_forward(encoder, padded)[padded != encoder.vocabulary.pad_id]


@pytest.mark.parametrize("lengths", EDGES, ids=str)
def test_packed_equals_padded(lengths):
    with torch.inference_mode():
        embeddings, padded = run(ENCODER, lengths)
        assert (embeddings - unpadded(ENCODER, padded)).abs().max() < 1e-5


@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(0, 99))
def test_packed_equals_padded_whatever_the_lengths(lengths, seed):
    tokens, cu_seqlens, longest, padded = make_pack(lengths, ENCODER.vocabulary, seed)
    with torch.inference_mode():
        embeddings = ENCODER(tokens, cu_seqlens, longest)
        assert (embeddings - unpadded(ENCODER, padded)).abs().max() < 1e-5


def test_gradients_equal_those_of_padded():
    lengths = [20, 20, 33, 57, 2]
    target = torch.randn(sum(lengths), SMALL["embed_dim"])
    gradients = []
    for forward in (run, lambda encoder, lengths: (unpadded(encoder, run(encoder, lengths)[1]), 0)):
        encoder = make_encoder()
        (forward(encoder, lengths)[0] - target).square().mean().backward()
        gradients.append({name: value.grad for name, value in encoder.named_parameters()})
    for name, gradient in gradients[0].items():
        assert (gradient - gradients[1][name]).abs().max() < 1e-4, name


@pytest.mark.parametrize("pad_to", [33, 60, 200])
def test_packs_that_are_filled_up_give_the_same(pad_to):
    lengths = [9, 5, 14, 5]
    encoder = make_encoder()
    tokens, cu_seqlens, longest, _ = make_pack(lengths, encoder.vocabulary)
    outputs, gradients = [], []
    for size in (None, pad_to):
        encoder.pad_to = size
        embeddings = encoder(tokens, cu_seqlens, longest)
        outputs.append(embeddings)
        encoder.zero_grad(set_to_none=True)
        embeddings.square().mean().backward()
        gradients.append([parameter.grad for parameter in encoder.parameters()])
    assert outputs[1].shape == outputs[0].shape
    assert (outputs[1] - outputs[0]).abs().max() < 1e-5
    for ours, wanted in zip(*gradients, strict=True):
        assert (ours - wanted).abs().max() <= 1e-5 * max(1, wanted.abs().max())
    states = encoder.hidden_states(tokens, cu_seqlens, longest)
    assert {tuple(state.shape) for state in states} == {(33, 32)}


def test_what_fills_a_pack_up_stays_apart():
    encoder = make_encoder()
    tokens, cu_seqlens, longest, _ = make_pack([9, 5], encoder.vocabulary)
    clean = encoder(tokens, cu_seqlens, longest)
    encoder.pad_to = 40
    seen = []

    def poison(_module, _inputs, embeddings):
        seen.append(len(embeddings))
        embeddings = embeddings.clone()
        embeddings[14:] = torch.nan
        return embeddings

    encoder.embed_norm.register_forward_hook(poison)
    dirty = encoder(tokens, cu_seqlens, longest)
    assert seen == [40] and torch.allclose(dirty, clean, atol=1e-5)


@pytest.mark.parametrize("poisoned", [0, 1, 3])
def test_nothing_leaks_from_sequence_to_sequence(poisoned):
    lengths = [9, 9, 30, 1]
    encoder = make_encoder()
    clean, _ = run(encoder, lengths)
    start = sum(lengths[:poisoned])
    own = slice(start, start + lengths[poisoned])

    def poison(_module, _inputs, embeddings):
        embeddings = embeddings.clone()
        embeddings[own] = torch.nan
        return embeddings

    encoder.embed_norm.register_forward_hook(poison)
    dirty, _ = run(encoder, lengths)
    assert dirty[own].isnan().all()
    dirty[own] = clean[own]
    assert torch.equal(dirty, clean)


def test_the_order_in_a_pack_does_not_matter():
    lengths, order = [12, 5, 12, 31], [2, 3, 0, 1]
    tokens, cu_seqlens, longest, _ = make_pack(lengths, ENCODER.vocabulary)
    moved = torch.cat([tokens.split(lengths)[i] for i in order])
    bounds = torch.tensor([0, *(lengths[i] for i in order)]).cumsum(0).to(torch.int32)
    with torch.inference_mode():
        one = ENCODER(tokens, cu_seqlens, longest).split(lengths)
        other = ENCODER(moved, bounds, longest).split([lengths[i] for i in order])
    for place, i in enumerate(order):
        assert (one[i] - other[place]).abs().max() < 1e-6


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_tokens_of_any_integer_type(dtype):
    tokens, cu_seqlens, longest, _ = make_pack([4, 9], ENCODER.vocabulary)
    both = (ENCODER(each, cu_seqlens, longest) for each in (tokens, tokens.to(dtype)))
    assert torch.equal(*both)


@torch.inference_mode()
def test_hidden_states_and_maps_share_the_layers():
    tokens, cu_seqlens, longest, _ = make_pack([4, 4, 9], ENCODER.vocabulary)
    embeddings = ENCODER(tokens, cu_seqlens, longest)
    states = ENCODER.hidden_states(tokens, cu_seqlens, longest)
    assert len(states) == 3 and torch.equal(states[-1], embeddings)
    *_, (last, _) = ENCODER._layers(tokens, cu_seqlens, longest, with_maps=True)
    assert (ENCODER.final_norm(last) - embeddings).abs().max() < 1e-5
    layers = list(ENCODER.attention_maps(tokens, cu_seqlens, longest))
    shapes = [[tuple(each.shape) for each in maps] for maps in layers]
    assert shapes == [[(4, 4, 4), (4, 4, 4), (4, 9, 9)]] * 2


def test_maps_carry_gradients():
    encoder = make_encoder()
    tokens, cu_seqlens, longest, _ = make_pack([4, 9], encoder.vocabulary)
    sum(
        each.square().sum()
        for maps in encoder.attention_maps(tokens, cu_seqlens, longest)
        for each in maps
    ).backward()
    assert encoder.blocks[0].qkv.weight.grad.abs().sum() > 0


def test_dropout_only_in_training():
    encoder = make_encoder(dropout=0.5, attention_dropout=0.5)
    assert torch.equal(run(encoder, [9])[0], run(encoder, [9])[0])
    encoder.train()
    assert not torch.equal(run(encoder, [9])[0], run(encoder, [9])[0])


def test_autocast_stays_close():
    with torch.autocast("cpu", torch.bfloat16):
        embeddings, padded = run(ENCODER, [7, 7, 20])
    difference = (embeddings - unpadded(ENCODER, padded)).norm()
    assert embeddings.dtype == torch.float32
    assert difference / embeddings.norm() < 2e-2


def test_a_sequence_that_does_not_fit():
    encoder = make_encoder(max_length=10)
    assert run(encoder, [12])[0].shape == (12, 32)
    with pytest.raises(ValueError, match=r"sequence of 13 tokens .* encoder of 12 .10 and two"):
        run(encoder, [13])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 5}, "embed_dim 32 is not a multiple of num_heads 5"),
        ({"num_layers": 0}, "num_layers must be at least 1, not 0"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\), not 1.0"),
    ],
)
def test_shapes_that_no_encoder_has(changes, message):
    with pytest.raises(ValueError, match=message):
        EncoderConfig(**SMALL | changes)


def test_initial_weights():
    encoder = Encoder(
        EncoderConfig(num_layers=1, embed_dim=128, num_heads=4, ffn_dim=256), ENCODER.vocabulary
    )
    for name, value in encoder.named_parameters():
        if "norm" in name or "bias" in name:
            assert (value == float("norm" in name and "weight" in name)).all(), name
        else:
            assert abs(value.std() - 0.02) < 2e-3, name
    head = MaskedLMHead(128, 26)
    assert abs(head.dense.weight.std() - 0.02) < 2e-3 and not head.dense.bias.any()


COUNTS = {  # published: RNA-FM and mRNA-FM, the encoder alone and what the masked-LM head adds
    ("rnafm", "rna"): (99_110_400, 411_546),
    ("rnafm", "rna-28"): (99_111_680, 411_548),
    ("rnafm", "official-rna"): (99_109_760, 411_545),
    ("mrnafm", "codon"): (237_612_800, 1_642_371),
    ("mrnafm", "official-codon"): (237_538_560, 1_642_313),
}


@pytest.mark.parametrize(("name", "vocabulary"), COUNTS)
def test_parameter_counts_of_the_published_models(name, vocabulary):
    config = EncoderConfig(**yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))
    words = Vocabulary.named(vocabulary)
    with torch.device("meta"):
        modules = Encoder(config, words), MaskedLMHead(config.embed_dim, len(words))
    counts = tuple(sum(p.numel() for p in module.parameters()) for module in modules)
    assert counts == COUNTS[name, vocabulary]


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_shapes_say_their_size(path):
    text = path.read_text()
    words = Vocabulary.named("codon" if path.stem == "mrnafm" else "rna")
    with torch.device("meta"):
        encoder = Encoder(EncoderConfig(**yaml.safe_load(text)), words)
    count = sum(parameter.numel() for parameter in encoder.parameters())
    said = re.match(r"# .*: ([\d,]+) parameters", text)
    assert said and said[1] == f"{count:,}"
    assert encoder.config.embed_dim // encoder.config.num_heads in (32, 64)
