"""Blocks that are computed again give the same gradients, to the bit."""

import pytest
import torch
from padded import make_encoder, make_pack

from rnafm.tasks import MaskedLM


def gradients(*, again, training=True, **shape):
    encoder = make_encoder(**shape).train(training)
    encoder.activation_checkpointing = again
    tokens, cu_seqlens, longest, _ = make_pack([20, 20, 7, 33], encoder.vocabulary)
    torch.manual_seed(1)  # of dropout
    encoder(tokens, cu_seqlens, longest).square().mean().backward()
    return {name: parameter.grad for name, parameter in encoder.named_parameters()}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_gradients_are_equal_to_the_bit(dropout):
    shape = {"num_layers": 3, "dropout": dropout, "attention_dropout": dropout}
    expected = gradients(again=False, **shape)
    found = gradients(again=True, **shape)
    assert len(expected) > 30 and expected.keys() == found.keys()
    for name, value in expected.items():
        assert value.equal(found[name]), name
        assert value.abs().sum() > 0 or "embed" in name or "qkv.bias" in name


def test_blocks_are_computed_again_only_where_gradients_are_wanted(monkeypatch):
    calls = []
    encoder = make_encoder(num_layers=2)
    encoder.activation_checkpointing = True
    pack = make_pack([9, 9], encoder.vocabulary)[:3]
    monkeypatch.setattr(
        "rnafm.modules.encoder.checkpoint",
        lambda block, *rest, **_: calls.append(1) or block(*rest),
    )
    encoder.eval()(*pack)
    with torch.no_grad():
        encoder.train()(*pack)
    assert not calls
    encoder(*pack)
    assert len(calls) == 2


def test_it_is_a_switch_of_the_task_and_not_of_its_checkpoints():
    config = {"num_layers": 1, "embed_dim": 16, "num_heads": 2, "ffn_dim": 16}
    task = MaskedLM(encoder=config, activation_checkpointing=True)
    assert task.encoder.activation_checkpointing
    assert "activation_checkpointing" not in task.hparams
    assert not MaskedLM(encoder=config).encoder.activation_checkpointing
