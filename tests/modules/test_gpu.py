"""The flash kernel against padded attention; ``pytest -m gpu``."""

import pytest
import torch
from padded import make_encoder, make_pack, padded_forward

from rnafm.modules import attention

pytestmark = pytest.mark.gpu
LENGTHS = [20, 20, 33, 57, 120, 121, 300, 511, 1]


@pytest.fixture(autouse=True)
def _full_precision():
    """The float32 reference must not be computed in TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def on_gpu(lengths, **changes):
    """An encoder in which half precision costs 0.3 %, and a leak would cost all."""
    encoder = make_encoder(embed_dim=64, num_heads=2, **changes)
    for name, parameter in encoder.named_parameters():
        if "norm" in name:
            torch.nn.init.constant_(parameter, float(name.endswith("weight")))
        else:
            torch.nn.init.normal_(parameter, std=0.1)
    encoder.cuda()
    tokens, cu_seqlens, longest, padded = make_pack(lengths, encoder.vocabulary)
    return encoder, (tokens.cuda(), cu_seqlens.cuda(), longest), padded.cuda()


def relative(one, other):
    return ((one.float() - other).norm() / other.norm()).item()


def test_half_precision_takes_the_flash_kernel():
    encoder, (_, cu_seqlens, _), _ = on_gpu(LENGTHS)
    with torch.autocast("cuda", torch.bfloat16):
        assert attention.plan(encoder.embed_tokens.weight, 32, cu_seqlens).flash
    assert not attention.plan(encoder.embed_tokens.weight, 32, cu_seqlens).flash


@pytest.mark.parametrize("lengths", [LENGTHS, [1024], [64] * 8, [1024, 1], [2]], ids=str)
def test_flash_equals_padded_float32(lengths):
    encoder, pack, padded = on_gpu(lengths)
    with torch.inference_mode():
        wanted = padded_forward(encoder, padded)[padded != encoder.vocabulary.pad_id]
        assert relative(encoder(*pack), wanted) < 1e-4
        with torch.autocast("cuda", torch.bfloat16):
            assert relative(encoder(*pack), wanted) < 1e-2


def test_gradients_of_flash_equal_those_of_padded_float32():
    encoder, pack, padded = on_gpu(LENGTHS)
    real = padded != encoder.vocabulary.pad_id
    target = torch.randn(len(pack[0]), 64, device="cuda")
    (padded_forward(encoder, padded)[real] * target).mean().backward()
    wanted = {name: value.grad for name, value in encoder.named_parameters()}
    encoder.zero_grad(set_to_none=True)
    with torch.autocast("cuda", torch.bfloat16):
        embeddings = encoder(*pack)
    (embeddings * target).mean().backward()
    for name in ("embed_tokens.weight", "blocks.0.qkv.weight", "blocks.1.fc2.weight"):
        gradient = encoder.get_parameter(name).grad
        assert relative(gradient, wanted[name]) < 2e-2, name


@pytest.mark.parametrize("poisoned", [0, len(LENGTHS) - 1], ids=["first", "tail"])
def test_nothing_leaks_in_flash(poisoned):
    encoder, pack, _ = on_gpu(LENGTHS)
    start = sum(LENGTHS[:poisoned])
    own = slice(start, start + LENGTHS[poisoned])

    def poison(_module, _inputs, embeddings):
        embeddings = embeddings.clone()
        embeddings[own] = torch.nan
        return embeddings

    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        clean = encoder(*pack)
        encoder.embed_norm.register_forward_hook(poison)
        dirty = encoder(*pack)
    assert dirty[own].isnan().all()
    dirty[own] = clean[own]
    assert torch.equal(dirty, clean)


def test_the_order_in_a_pack_does_not_matter_to_flash():
    encoder, (tokens, _, longest), _ = on_gpu(LENGTHS)
    order = list(reversed(range(len(LENGTHS))))
    outputs = []
    for numbers in (range(len(LENGTHS)), order):
        lengths = [LENGTHS[i] for i in numbers]
        moved = torch.cat([tokens.split(LENGTHS)[i] for i in numbers])
        bounds = torch.tensor([0, *lengths]).cumsum(0).to("cuda", torch.int32)
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            outputs.append(encoder(moved, bounds, longest).split(lengths))
    for place, i in enumerate(order):
        assert relative(outputs[1][place], outputs[0][i].float()) < 5e-3


@pytest.mark.filterwarnings("ignore")  # the compiler has opinions on precision
def test_compiled_blocks_take_any_pack():
    encoder, pack, _ = on_gpu(LENGTHS)
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
        wanted = encoder(*pack)
    for block in encoder.blocks:
        block.compile()
    with torch.autocast("cuda", torch.bfloat16):
        for lengths in ([64, 64], [100], LENGTHS):
            tokens, cu_seqlens, longest, _ = make_pack(lengths, encoder.vocabulary)
            embeddings = encoder(tokens.cuda(), cu_seqlens.cuda(), longest)
            embeddings.square().mean().backward()
    assert relative(embeddings.detach(), wanted) < 1e-2


def test_embeddings_come_back_to_the_cpu():
    encoder, _, _ = on_gpu([4])
    embeddings = encoder.embed(["ACGU", "GG"])
    assert embeddings.device.type == "cpu"
    assert (embeddings - encoder.cpu().embed(["ACGU", "GG"])).abs().max() < 1e-4
