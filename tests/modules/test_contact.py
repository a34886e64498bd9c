from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from batches import RNA, TINY, random_batch
from padded import make_encoder

from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import (
    AttentionContactHead,
    EncoderConfig,
    LinearContactHead,
    OneHotEncoder,
    ResidualContactHead,
    ResNetContactHead,
    embed_long,
)

HEADS = {
    "linear": LinearContactHead,
    "residual": ResidualContactHead,
    "attention": AttentionContactHead,
    "resnet": lambda config: ResNetContactHead(config, num_layers=3, reduction_dim=6, channels=4),
}
LENGTHS = [9, 1, 14, 9, 0, 2, 14, 9]


def make_head(name, encoder):
    head = HEADS[name](encoder.config)
    for key, parameter in head.named_parameters():
        if "conv" not in key:  # the rest starts at very small numbers, or zeros
            torch.nn.init.normal_(parameter, std=0.3)
    return head.eval()


def predict(head, encoder, batch):
    inputs = batch.tokens, batch.cu_seqlens, batch.max_seqlen
    return head(encoder, *inputs, embed_long(encoder, *inputs))


def alone(batch, number):
    first, last = batch.cu_seqlens[number : number + 2].tolist()
    bounds = torch.tensor([0, last - first], dtype=torch.int32)
    return batch._replace(
        tokens=batch.tokens[first:last], cu_seqlens=bounds, max_seqlen=last - first
    )


@pytest.mark.parametrize("name", HEADS)
def test_maps_of_one_sequence_and_of_eight_are_the_same(name):
    encoder, batch = make_encoder(), random_batch(LENGTHS)
    head = make_head(name, encoder)
    with torch.inference_mode():
        together = predict(head, encoder, batch)
        for number, logits in enumerate(together):
            assert logits.shape == (LENGTHS[number], LENGTHS[number])
            assert logits.dtype == torch.float32 and logits.isfinite().all()
            assert torch.equal(logits, logits.T)
            (own,) = predict(head, encoder, alone(batch, number))
            assert torch.allclose(own, logits, rtol=1e-6, atol=1e-6)
    assert together[0].std() > 1e-3


@pytest.mark.parametrize("name", ["linear", "residual", "resnet"])
def test_the_same_embeddings_give_the_same_bits_in_any_batch(name):
    encoder, batch = make_encoder(), random_batch(LENGTHS)
    head, embeddings = make_head(name, encoder), torch.randn(len(batch.tokens), 32)
    inputs = batch.tokens, batch.cu_seqlens, batch.max_seqlen
    with torch.inference_mode():
        together = head(encoder, *inputs, embeddings)
        for number, part in enumerate(embeddings.split(batch.cu_seqlens.diff().tolist())):
            one = alone(batch, number)
            (own,) = head(encoder, one.tokens, one.cu_seqlens, one.max_seqlen, part.clone())
            assert torch.equal(own, together[number])


def test_maps_computed_together_in_training_differ_by_rounding_only():
    encoder, batch = make_encoder(), random_batch(LENGTHS)
    head = make_head("residual", encoder)
    with torch.no_grad():
        wanted = predict(head, encoder, batch)
    stacks = []
    head.out.register_forward_pre_hook(lambda _, inputs: stacks.append(len(inputs[0])))
    for one, other in zip(predict(head.train(), encoder, batch), wanted, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-5 * float(wanted[0].abs().max()))
    assert stacks == [3, 2, 1]


@pytest.mark.parametrize("name", HEADS)
def test_maps_do_not_see_other_sequences(name):
    encoder, batch = make_encoder(), random_batch(LENGTHS)
    encoder.embed_tokens.weight.data[RNA.ids["N"]] = torch.nan
    head = make_head(name, encoder)
    wanted = predict(head, encoder, batch)
    batch.tokens[1:10] = RNA.ids["N"]  # the first of three of equal length
    found = predict(head, encoder, batch)
    assert found[0].isnan().any()
    assert all(torch.equal(one, other) for one, other in zip(found[1:], wanted[1:], strict=True))


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_made_again_from_its_options(name):
    encoder = make_encoder()
    head = make_head(name, encoder)
    again = type(head)(encoder.config, **head.options).eval()
    again.load_state_dict(head.state_dict())
    batch = random_batch([8])
    (one,), (other,) = predict(head, encoder, batch), predict(again, encoder, batch)
    assert torch.equal(one, other) and again.options == head.options


@pytest.mark.parametrize("name", HEADS)
def test_half_precision_gives_float32_logits(name):
    encoder = make_encoder()
    head, batch = make_head(name, encoder), random_batch([8, 1])
    with torch.autocast("cpu", torch.bfloat16):
        maps = predict(head, encoder, batch)
    assert all(logits.dtype == torch.float32 and torch.equal(logits, logits.T) for logits in maps)


def with_dim(dim):
    return replace(TINY, embed_dim=dim, num_heads=1)


def count(head):
    return sum(parameter.numel() for parameter in head.parameters())


def test_parameter_counts_are_the_published_ones():
    sizes = {4: 90_849, 640: 111_201, 768: 115_297}
    assert all(count(ResidualContactHead(with_dim(dim))) == size for dim, size in sizes.items())
    assert count(ResNetContactHead(EncoderConfig())) == 2_462_465
    assert count(AttentionContactHead(EncoderConfig())) == 241
    assert count(LinearContactHead(EncoderConfig())) == 641


def test_residual_head_is_its_definition():
    head, features = ResidualContactHead(with_dim(5), channels=3).eval(), torch.randn(1, 7, 5)
    hidden = features @ head.reduction.weight.T + head.reduction.bias
    pairs = torch.empty(1, 6, 7, 7)
    for i in range(7):
        for j in range(7):
            pairs[0, :, i, j] = torch.cat([hidden[0, i], hidden[0, j]])
    for block in head.blocks:
        maps = pairs
        for convolution, padding in zip(block.convolutions, (0, 1, 0), strict=True):
            maps = F.conv2d(maps, convolution.weight, padding=padding)
            mean, variance = maps.mean((2, 3), True), maps.var((2, 3), False, True)
            maps = F.relu((maps - mean) / (variance + 1e-5) ** 0.5)
        pairs = pairs + maps
    wanted = F.conv2d(pairs, head.out.weight, head.out.bias, padding=1)[0, 0]
    (found,) = head.maps(head.reduce(features))
    assert (found.triu() - wanted.triu()).abs().max() < 1e-5 and torch.equal(found, found.T)


@pytest.mark.parametrize("name", ["residual", "resnet"])
def test_checkpointing_changes_memory_only(name):
    encoder, batch = make_encoder(), random_batch([9, 6, 9])
    with torch.inference_mode():
        embeddings = encoder(batch.tokens, batch.cu_seqlens, batch.max_seqlen)
    embeddings = embeddings.clone()
    results, first = [], make_head(name, encoder)
    for checkpointing in (False, True):
        head = type(first)(encoder.config, **first.options | {"checkpointing": checkpointing})
        head.load_state_dict(first.state_dict())
        torch.manual_seed(3)  # of dropout
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, saved=saved: saved.append(tensor.numel()) or tensor,
            lambda tensor: tensor,
        ):
            maps = head(encoder, batch.tokens, batch.cu_seqlens, batch.max_seqlen, embeddings)
        sum(logits.square().sum() for logits in maps).backward()
        buffers = [buffer.clone() for buffer in head.buffers()]
        results.append((maps, [p.grad for p in head.parameters()], buffers, sum(saved)))
    (maps, grads, buffers, size), (maps_, grads_, buffers_, size_) = results
    for ours, theirs in ((maps, maps_), (grads, grads_), (buffers, buffers_)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert (one - other).abs().max() <= 1e-5 * one.abs().max()
    assert size_ < size / 2
    assert all(gradient.any() for gradient in grads)


def test_batch_norm_of_a_map_in_training_is_its_own():
    encoder, batch = make_encoder(), random_batch([9, 9, 2, 1])
    head = ResNetContactHead(encoder.config, 3, 6, 4, dropout=0.0)
    together = predict(head, encoder, batch)
    for number, logits in enumerate(together):
        (own,) = predict(head, encoder, alone(batch, number))
        assert torch.allclose(own, logits, rtol=1e-5, atol=1e-5)


def test_attention_head_reads_long_sequences_in_windows():
    encoder = make_encoder(max_length=12)
    head = make_head("attention", encoder)
    batch = random_batch([30, 5])
    found = predict(head, encoder, batch)
    window = torch.cat([batch.tokens[:1], batch.tokens[10:22], batch.tokens[31:32]])
    (own,) = head(encoder, window, torch.tensor([0, 14], dtype=torch.int32), 14, torch.empty(0))
    assert found[0].shape == (30, 30)
    assert (found[0][12:18, 12:18] - own[3:9, 3:9]).abs().max() < 1e-5  # in one window only
    assert found[0][0, 12] == found[0][29, 0] == head.regression.bias
    (short,) = predict(head, encoder, alone(batch, 1))
    assert (found[1] - short).abs().max() < 1e-5


def test_attention_head_holds_one_layer_at_a_time():
    encoder = make_encoder(num_layers=3)
    head, alive = make_head("attention", encoder), []
    original = encoder.attention_maps

    def watched(*inputs):
        import weakref

        for maps in original(*inputs):
            alive.append(weakref.ref(maps[0]))
            yield maps
            del maps
        assert len(alive) == 3

    encoder.attention_maps = watched
    batch = random_batch([6])
    with torch.inference_mode():
        head(encoder, batch.tokens, batch.cu_seqlens, batch.max_seqlen, torch.empty(0))
    assert [reference() for reference in alive] == [None] * 3


def test_attention_head_learns():
    encoder = make_encoder()
    head, batch = make_head("attention", encoder), random_batch([6, 9])
    sum(logits.square().sum() for logits in predict(head, encoder, batch)).backward()
    assert head.regression.weight.grad.all() and encoder.blocks[1].qkv.weight.grad.any()
    assert not AttentionContactHead.reads_embeddings and LinearContactHead.reads_embeddings


def test_one_hot_stands_in_for_an_encoder():
    encoder, batch = OneHotEncoder(RNA), random_batch([3000, 4])
    embeddings = embed_long(encoder, batch.tokens, batch.cu_seqlens, batch.max_seqlen)
    assert embeddings.shape == (3008, 4) == (len(batch.tokens), encoder.config.embed_dim)
    standard = torch.isin(batch.tokens, torch.tensor(RNA.standard_ids))
    assert torch.equal(embeddings.sum(1), standard.float())
    assert [RNA.tokens[i] for i in RNA.standard_ids] == list("ACGU")
    for column, letter in enumerate("ACGU"):
        assert torch.equal(embeddings[:, column] == 1, batch.tokens == RNA.ids[letter])
    assert not list(encoder.parameters()) and not encoder.state_dict()
    assert encoder.vocabulary is RNA
    assert OneHotEncoder(Vocabulary.named("codon")).config.embed_dim == 64
    head = ResidualContactHead(encoder.config, channels=2)
    batch = random_batch([8, 5])
    assert [len(logits) for logits in predict(head, encoder, batch)] == [8, 5]


def test_what_heads_refuse():
    encoder, batch = OneHotEncoder(RNA), random_batch([4])
    with pytest.raises(ValueError, match=r"encoder \(OneHotEncoder\): it has no attention maps"):
        predict(AttentionContactHead(encoder.config), encoder, batch)
    with pytest.raises(ValueError, match="kernel_size must be odd, not 4"):
        ResidualContactHead(encoder.config, kernel_size=4)
