import pytest
import torch
import torch.nn.functional as F

from rnafm.modules import MaskedLMHead, SequenceHead, TokenHead

POOLINGS = ["mean", "cls", "attention"]
LENGTHS = [7, 2, 3, 12]  # with cls and eos: the second has no nucleotide


def test_decoder_is_the_embedding_table_and_a_bias():
    head, table, embeddings = MaskedLMHead(16, 7), torch.randn(7, 16), torch.randn(5, 16)
    torch.nn.init.normal_(head.bias)
    logits = head(embeddings, table)
    hidden = embeddings @ head.dense.weight.T + head.dense.bias
    hidden = F.layer_norm(hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)), (16,))
    assert (logits - hidden @ table.T - head.bias).abs().max() < 1e-5
    assert [name for name, _ in head.named_parameters()] == [
        "bias", "dense.weight", "dense.bias", "norm.weight", "norm.bias",
    ]  # fmt: skip


def make_head(pool, **options):
    head = SequenceHead(8, 3, pool, **options)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head.eval()


def make_pack(lengths=LENGTHS):
    bounds = torch.tensor([0, *lengths]).cumsum(0).int()
    return torch.randn(sum(lengths), 8), bounds


def plain(head, embeddings, cu_seqlens):
    """The same, sequence by sequence."""
    rows = []
    for part in embeddings.split(cu_seqlens.diff().tolist()):
        inner = part[1:-1]
        if head.pooling == "cls":
            row = part[0]
        elif len(inner) == 0:
            row = part.new_zeros(8)
        elif head.pooling == "mean":
            row = inner.mean(0)
        else:
            row = (inner @ head.query / 8**0.5).softmax(0) @ inner
        hidden = row
        if head.predictor.dense is not None:
            hidden = F.gelu(F.linear(row, head.predictor.dense.weight, head.predictor.dense.bias))
        rows.append(F.linear(hidden, head.predictor.out.weight, head.predictor.out.bias))
    return torch.stack(rows)


@pytest.mark.parametrize("hidden_dim", [None, 5])
@pytest.mark.parametrize("pool", POOLINGS)
def test_sequence_head_is_the_plain_loop_and_its_gradients(pool, hidden_dim):
    head, (embeddings, bounds) = make_head(pool, hidden_dim=hidden_dim), make_pack()
    embeddings.requires_grad_()
    logits, wanted = head(embeddings, bounds), plain(head, embeddings, bounds)
    assert logits.shape == (4, 3) and (logits - wanted).abs().max() < 1e-5
    inputs = [embeddings, *head.parameters()]
    factors = torch.randn(4, 3)
    ours = torch.autograd.grad((logits * factors).sum(), inputs)
    theirs = torch.autograd.grad((wanted * factors).sum(), inputs)
    assert all((one - other).abs().max() < 1e-4 for one, other in zip(ours, theirs, strict=True))
    assert all(gradient.any() for gradient in ours)
    pooled = head.pool(embeddings, bounds)
    assert torch.equal(head.classify(pooled), logits)


@pytest.mark.parametrize("pool", POOLINGS)
def test_sequences_of_a_pack_do_not_see_each_other(pool):
    head, (embeddings, bounds) = make_head(pool), make_pack()
    wanted = head(embeddings, bounds)
    poisoned = embeddings.clone()
    poisoned[:7] = torch.nan
    logits = head(poisoned, bounds)
    assert logits[0].isnan().all() and torch.equal(logits[1:], wanted[1:])
    order = [2, 0, 3, 1]
    parts = embeddings.split(LENGTHS)
    permuted = torch.cat([parts[i] for i in order])
    sizes = torch.tensor([0, *(LENGTHS[i] for i in order)]).cumsum(0).int()
    assert (head(permuted, sizes) - wanted[order]).abs().max() < 1e-6


@pytest.mark.parametrize("pool", ["mean", "attention"])
def test_special_tokens_are_not_pooled(pool):
    head, (embeddings, bounds) = make_head(pool), make_pack()
    wanted = head.pool(embeddings, bounds)
    for ends in (bounds[:-1], bounds[1:] - 1):
        embeddings[ends.long()] = torch.nan
    assert torch.equal(head.pool(embeddings, bounds), wanted)
    assert not wanted[1].any()  # no nucleotides


def test_pooling_is_exact_in_half_precision_and_over_large_scores():
    values = torch.ones(4098, 8)
    bounds = torch.tensor([0, 4098], dtype=torch.int32)
    pooled = make_head("mean").pool(values.bfloat16(), bounds)
    assert pooled.dtype == torch.bfloat16 and torch.equal(pooled, torch.ones(1, 8).bfloat16())
    head = make_head("attention")
    embeddings, bounds = make_pack()
    head.query.data.mul_(1000)
    assert torch.isfinite(head(embeddings, bounds)).all()


def test_attention_starts_as_the_mean_and_learns():
    torch.manual_seed(1)
    embeddings, bounds = make_pack()
    head = SequenceHead(8, 2, "attention")
    mean = SequenceHead(8, 2, "mean").pool(embeddings, bounds)
    assert (head.pool(embeddings, bounds) - mean).abs().max() < 1e-6
    head.pool(embeddings, bounds)[0].pow(2).sum().backward()
    assert head.query.grad.any()


def test_token_head_predicts_each_token_by_itself():
    head, embeddings = TokenHead(8, 3, hidden_dim=5), torch.randn(6, 8)
    hidden = F.gelu(F.linear(embeddings, head.dense.weight, head.dense.bias))
    wanted = F.linear(hidden, head.out.weight, head.out.bias)
    assert (head(embeddings) - wanted).abs().max() < 1e-6
    embeddings[2] = torch.nan
    logits = head(embeddings)
    assert logits[2].isnan().all() and logits[[0, 1, 3, 4, 5]].isfinite().all()


def test_dropout_is_for_training_only():
    head, embeddings = TokenHead(64, 3, dropout=0.5), torch.randn(6, 64)
    assert not torch.equal(head(embeddings), head(embeddings))
    head.eval()
    assert torch.equal(head(embeddings), head(embeddings))


def test_options_that_make_no_sense():
    with pytest.raises(ValueError, match=r"pool is 'mean', 'cls', 'attention', not 'max'"):
        SequenceHead(8, 1, "max")
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\), not 1"):
        TokenHead(8, 1, dropout=1)
