"""The models of a step against what torch counts and keeps."""

import math

import pytest
import torch
from padded import make_encoder, make_pack, padded_forward
from torch._subclasses import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.flop_counter import FlopCounterMode

from rnafm.modules.attention import Runs
from rnafm.modules.encoder import EncoderConfig
from rnafm.modules.heads import MaskedLMHead
from rnafm.planning import costs
from rnafm.planning.devices import DEVICES, NETWORKS

RNAFM = EncoderConfig()
SHAPE = {"num_layers": 3, "embed_dim": 64, "num_heads": 4, "ffn_dim": 160, "dropout": 0.0}


@pytest.mark.parametrize("shape", [SHAPE, SHAPE | {"num_layers": 2, "ffn_dim": 512}])
def test_flops_are_those_that_torch_counts_on_the_padded_path(shape):
    encoder = make_encoder(**shape)
    config, vocabulary = encoder.config, encoder.vocabulary
    lengths = [40, 40, 40]  # all equal: the padded path does no more than the packed one
    _, _, _, padded = make_pack(lengths, vocabulary)
    head = MaskedLMHead(config.embed_dim, len(vocabulary))
    counter = FlopCounterMode(display=False)
    with counter:
        embeddings = padded_forward(encoder, padded)
        logits = head(embeddings[:, :7].flatten(0, 1), encoder.embed_tokens.weight)
        forward = counter.get_total_flops()
        logits.sum().backward()
    tokens, squares = sum(lengths), sum(length**2 for length in lengths)
    arguments = (config, tokens, squares, 21, len(vocabulary))
    assert costs.forward_flops(*arguments) == forward
    assert costs.training_flops(*arguments) == counter.get_total_flops()


def test_rnafm_has_the_published_flops():
    # MultiMolecule's card: 109.02 G for 512 tokens.
    assert costs.forward_flops(RNAFM, 512, 512**2, 512, 26) == pytest.approx(109.02e9, rel=0.002)


def test_training_in_part_lies_between_forward_and_all():
    arguments = (RNAFM, 1000, 190_000)
    whole = costs.adapting_flops(*arguments, flowing=1, trained=1)
    assert whole == costs.training_flops(*arguments)
    assert costs.adapting_flops(*arguments, flowing=0, trained=0) == whole / 3
    low_rank = costs.adapting_flops(*arguments, flowing=1, trained=0)
    assert 0.66 < low_rank / whole < 0.69  # no gradients of weights, all of attention


def test_bytes_that_matrix_products_do_not_hide():
    # Counted by hand for the published encoder: 158 and 226 bytes for each of 12 x 640 values.
    assert costs.elementwise_bytes(RNAFM, 1, mixed=True, compiled=True) == 158 * 12 * 640
    assert costs.elementwise_bytes(RNAFM, 10, mixed=True) == 10 * 226 * 12 * 640
    assert costs.elementwise_bytes(RNAFM, 1, mixed=False) > 1.4 * 226 * 12 * 640


def kept_by_autograd(num_layers, *, mixed=False, checkpointing=False, backend=None, **shape):
    """Bytes that the forward pass keeps, its configuration, and the number of tokens."""
    encoder = make_encoder(**SHAPE | shape | {"num_layers": num_layers, "attention_dropout": 0.0})
    encoder.train().activation_checkpointing = checkpointing
    for block in encoder.blocks if backend else ():
        block.compile(backend=backend)
    tokens, cu_seqlens, longest, _ = make_pack([50] * 8, encoder.vocabulary)
    parameters = {each.untyped_storage().data_ptr() for each in encoder.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=mixed),
    ):
        encoder(tokens, cu_seqlens, longest)
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    return size, encoder.config, len(tokens)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("ffn_dim", [64, 512])
def test_activations_of_a_block_are_those_that_autograd_keeps(ffn_dim, mixed):
    few, config, count = kept_by_autograd(2, ffn_dim=ffn_dim, mixed=mixed)
    many, _, _ = kept_by_autograd(4, ffn_dim=ffn_dim, mixed=mixed)
    width = 2 if mixed else 4
    expected = count * costs.block_activations(config, mixed=mixed)
    expected += count * width * config.embed_dim  # on a CPU what attention gives is copied once
    if mixed:
        weights = {"parameters": 1, "trained": 1, "moment_bytes": 8, "activation_bytes": 0}
        expected += costs.memory(
            **weights, block=costs.block_parameters(config), num_layers=1
        ).copies
    assert (many - few) / 2 == pytest.approx(expected, rel=0.02)


@pytest.mark.filterwarnings("ignore:.torch.jit")
@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_compiled_blocks_keep_both_sides_of_the_gelu():
    pytest.importorskip("torch._dynamo").reset()
    # Divides forward from backward as inductor does, without its code.
    compiled, _, _ = kept_by_autograd(1, ffn_dim=1024, backend="aot_eager_decomp_partition")
    eager, config, count = kept_by_autograd(1, ffn_dim=1024)
    one_side = count * 4 * config.ffn_dim
    assert abs(compiled - eager) < one_side / 4


def test_dropout_keeps_its_decisions():
    few, config, count = kept_by_autograd(1)
    many, dropping, _ = kept_by_autograd(1, dropout=0.1)
    decisions = costs.block_activations(dropping, mixed=False) - costs.block_activations(
        config, mixed=False
    )
    assert many - few == 4 * decisions * count  # a byte each on a GPU, four on a CPU


def test_checkpointing_keeps_the_inputs_of_blocks():
    few, _, count = kept_by_autograd(2, checkpointing=True)
    many, config, _ = kept_by_autograd(6, checkpointing=True)
    assert (many - few) / 4 == count * 4 * config.embed_dim
    less = [
        costs.activations(config, count, mixed=False, checkpointing=again)
        for again in (True, False)
    ]
    block = costs.block_activations(config, mixed=False)
    assert less[1] - less[0] == count * (5 * block - 5 * 4 * config.embed_dim)


@pytest.mark.parametrize("again", [False, True], ids=["kept", "checkpointing"])
@pytest.mark.parametrize("mixed", [False, True], ids=["float32", "bfloat16"])
def test_the_greatest_memory_of_a_step_is_what_is_counted(monkeypatch, mixed, again):
    """Without numbers: tensors of a GPU's size that have no storage, and its attention kernel."""
    monkeypatch.setattr("rnafm.modules.encoder.plan", lambda *_, **__: Runs([], flash=True))
    shape = SHAPE | {"embed_dim": 128, "ffn_dim": 1024, "max_length": 510, "num_layers": 4}
    tokens = 1 << 18
    with FakeTensorMode():
        encoder = make_encoder(**shape, attention_dropout=0.0).train()
        encoder.activation_checkpointing = again
        for parameter in encoder.parameters():
            parameter.grad = torch.zeros_like(parameter)
        packed = torch.zeros(tokens, dtype=torch.uint8)
        cu_seqlens = torch.arange(0, tokens + 1, 512, dtype=torch.int32)
        tracker = MemTracker()
        tracker.track_external(encoder)
        with tracker:
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                embeddings = encoder(packed, cu_seqlens, 512)
            embeddings.backward(torch.ones_like(embeddings))
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    number = sum(parameter.numel() for parameter in encoder.parameters())
    counted = costs.memory(
        number,
        number,
        0,
        costs.activations(encoder.config, tokens, mixed=mixed, checkpointing=again),
        block=costs.block_parameters(encoder.config),
        num_layers=4,
        mixed=mixed,
        checkpointing=again,
    )
    assert peak["Total"] == pytest.approx(counted.total - counted.reserved, rel=0.05)


def test_parameters_of_a_block():
    encoder = make_encoder(**SHAPE)
    counted = sum(parameter.numel() for parameter in encoder.blocks[0].parameters())
    assert costs.block_parameters(encoder.config) == counted
    assert costs.block_parameters(RNAFM) == 8_202_880


def test_shards_share_parameters_gradients_and_moments():
    block = costs.block_parameters(RNAFM)
    options = {"block": block, "num_layers": 12}
    whole = costs.memory(100_000_000, 100_000_000, 8, 5 * costs.GIB, **options)
    shared = costs.memory(100_000_000, 100_000_000, 8, 5 * costs.GIB, shards=8, **options)
    assert whole.parameters + whole.gradients + whole.moments == 1_600_000_000
    assert shared.moments == whole.moments // 8
    assert shared.copies == 2 * block * (2 + 4)
    assert whole.total == 1_600_000_000 + 12 * 2 * block + 5 * costs.GIB + costs.RESERVED


def test_a_step_waits_for_what_cannot_hide():
    device, fast, slow = DEVICES["h100"], NETWORKS["infiniband"], NETWORKS["ethernet"]
    flops = costs.executed_flops(RNAFM, 65_536, 65_536 * 390)
    options = {"mfu": 0.33, "devices": 64}
    alone = costs.step_time(flops, 99_521_946, device, fast, mfu=0.33, devices=1)
    assert alone.exposed == 0 and alone.efficiency == 1
    hidden = costs.step_time(flops, 99_521_946, device, fast, **options)
    waiting = costs.step_time(flops, 99_521_946, device, slow, **options)
    assert hidden.communication < waiting.communication
    assert hidden.efficiency > 0.97 > waiting.efficiency
    # All-reduce moves 2 (n - 1) / n of the gradients; latency is little here.
    assert hidden.communication == pytest.approx(2 * 63 / 64 * 4 * 99_521_946 / 320e9, rel=0.5)
    more = costs.step_time(flops, 99_521_946, device, slow, micro_batches=8, **options)
    assert more.efficiency > waiting.efficiency
    sharded = costs.step_time(flops, 99_521_946, device, slow, sharded=True, **options)
    again = costs.step_time(
        flops, 99_521_946, device, slow, sharded=True, micro_batches=8, **options
    )
    assert again.exposed == pytest.approx(8 * sharded.exposed)


def test_collectives_grow_with_devices_and_bytes():
    network = NETWORKS["infiniband"]
    assert network.gather(1e9, 1) == 0
    assert network.gather(1e9, 8) < network.gather(1e9, 16) < network.gather(1e9, 1024)
    assert network.all_reduce(2e9, 8) == pytest.approx(2 * network.all_reduce(1e9, 8), rel=5e-3)
    assert math.isclose(network.gather(1e9, 8, messages=1), 7 / 8 * 1e9 / 360e9 + 6e-6)
