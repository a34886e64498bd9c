import logging
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from padded import make_encoder, make_pack

from rnafm.modules import attention
from rnafm.modules.attention import Runs, attend, attend_with_maps, equal_length_runs, plan
from rnafm.modules.attention_padded import make_buckets


def make_qkv(lengths, heads=2, width=8):
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(lengths), 3, heads, width, generator=generator)
    return qkv, torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)


def one_by_one(qkv, lengths):
    parts = []
    for part in qkv.split(lengths):
        query, key, value = part.permute(1, 2, 0, 3)
        weights = (query @ key.mT / part.shape[-1] ** 0.5).softmax(-1)
        parts.append((weights @ value).transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("lengths", [[1], [4, 4, 4], [3, 3, 7, 1, 1], [2, 5, 2], [4, 0, 4]])
def test_attention_stays_within_each_sequence(lengths):
    qkv, cu_seqlens = make_qkv(lengths)
    attended = attend(qkv, cu_seqlens, max(lengths))
    assert (attended - one_by_one(qkv, lengths)).abs().max() < 1e-6


def test_maps_are_the_weights_of_the_fused_kernel():
    lengths = [3, 3, 7, 1]
    qkv, cu_seqlens = make_qkv(lengths)
    attended, maps = attend_with_maps(qkv, equal_length_runs(cu_seqlens))
    fused = attend(qkv, cu_seqlens, max(lengths))
    assert (attended - fused).abs().max() < 1e-5
    assert [tuple(each.shape) for each in maps] == [(2, length, length) for length in lengths]
    for part, value, own in zip(fused.split(lengths), qkv[:, 2].split(lengths), maps, strict=True):
        assert (own.sum(-1) - 1).abs().max() < 1e-6
        assert ((own @ value.transpose(0, 1)).transpose(0, 1) - part).abs().max() < 1e-5


def test_dropout_drops_weights():
    qkv, cu_seqlens = make_qkv([64])
    clean, dropped = (attend(qkv, cu_seqlens, 64, dropout_p=p) for p in (0.0, 0.5))
    assert not torch.allclose(clean, dropped)


@pytest.mark.parametrize(("bounds", "longest"), [([0, 3, 7], 4), ([0, 3, 6], 2)])
def test_parts_that_do_not_belong_together_are_refused(bounds, longest):
    qkv, _ = make_qkv([6])
    with pytest.raises(ValueError, match="build all three from one pack"):
        attend(qkv, torch.tensor(bounds, dtype=torch.int32), longest)


def gpu(monkeypatch, capability, *, flash=True):
    """As if there were one, and a torch that is built with or without the flash kernel."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", capability)
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: flash)


@pytest.mark.parametrize(
    ("kind", "dtype", "width", "capability", "flash"),
    [
        ("cuda", torch.bfloat16, 32, (8, 0), True),
        ("cuda", torch.float16, 64, (9, 0), True),
        ("cuda", torch.float32, 32, (9, 0), False),
        ("cuda", torch.bfloat16, 32, (7, 5), False),
        ("cuda", torch.bfloat16, 20, (9, 0), False),
        ("cuda", torch.bfloat16, 512, (9, 0), False),
        ("cpu", torch.bfloat16, 32, None, False),
    ],
)
def test_which_kernel(monkeypatch, kind, dtype, width, capability, flash):
    gpu(monkeypatch, lambda _: capability)
    weight = SimpleNamespace(device=torch.device(kind), dtype=dtype)
    monkeypatch.setattr(attention, "make_buckets", lambda _: "buckets")
    runs = plan(weight, width, torch.tensor([0, 4, 8], dtype=torch.int32))
    assert runs.flash is flash
    assert runs.items == ([(0, 4, 2)] if kind == "cpu" else [])
    assert (runs.buckets is None) is (flash or kind == "cpu")


def test_the_kernel_of_a_gpu_is_said_once(monkeypatch, caplog):
    capability = [(9, 0)]
    gpu(monkeypatch, lambda _: capability[0])
    monkeypatch.setattr(attention, "make_buckets", lambda _: None)
    monkeypatch.setattr(attention, "_said", set())
    bounds = torch.tensor([0, 4], dtype=torch.int32)
    with caplog.at_level(logging.INFO):
        for dtype in (torch.bfloat16, torch.float32, torch.bfloat16, torch.float32):
            plan(SimpleNamespace(device=torch.device("cuda"), dtype=dtype), 32, bounds)
        plan(SimpleNamespace(device=torch.device("cuda"), dtype=torch.float16), 20, bounds)
        capability[0] = (7, 5)
        plan(SimpleNamespace(device=torch.device("cuda"), dtype=torch.float16), 32, bounds)
        plan(SimpleNamespace(device=torch.device("cpu"), dtype=torch.float32), 32, bounds)
        gpu(monkeypatch, lambda _: (9, 0), flash=False)
        plan(SimpleNamespace(device=torch.device("cuda"), dtype=torch.float16), 32, bounds)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 5
    assert "flash kernel: no padding" in said[0]
    assert "half precision, not float32; --trainer.precision bf16-mixed" in said[1]
    assert "a multiple of 8 wide and at most 256, these are 20" in said[2]
    assert "compute capability 8.0, this GPU has 7.5" in said[3]
    assert "this build of torch lacks it" in said[4]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(any))
@settings(max_examples=30)
def test_padding_in_buckets_equals_attention_without(lengths):
    qkv, cu_seqlens = make_qkv(lengths)
    qkv.requires_grad_()
    buckets = make_buckets(cu_seqlens)
    ours = attend(qkv, cu_seqlens, max(lengths), runs=Runs([], buckets=buckets))
    wanted = attend(qkv, cu_seqlens, max(lengths))
    assert (ours - wanted).abs().max() < 1e-5
    target = torch.linspace(-1, 1, ours.numel()).view_as(ours)
    gradients = [torch.autograd.grad((each * target).sum(), qkv)[0] for each in (ours, wanted)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-5
    waste = sum(bucket.reads.numel() for bucket in buckets.items) / sum(lengths)
    assert waste < 1 / 0.85


def test_nothing_leaks_between_the_sequences_of_a_bucket():
    lengths = [30, 28, 5, 29]
    qkv, cu_seqlens = make_qkv(lengths)
    runs = Runs([], buckets=make_buckets(cu_seqlens))
    assert len(runs.buckets.items) == 2
    clean = attend(qkv, cu_seqlens, 30, runs=runs)
    for number, start in enumerate(cu_seqlens[:-1].tolist()):
        own = slice(start, start + lengths[number])
        poisoned = qkv.clone()
        poisoned[own] = torch.nan
        dirty = attend(poisoned, cu_seqlens, 30, runs=runs)
        assert dirty[own].isnan().all()
        dirty[own] = clean[own]
        assert torch.equal(dirty, clean)


def test_the_flash_kernel_gets_seven_positional_arguments(monkeypatch):
    lengths = [3, 5]
    qkv, cu_seqlens = make_qkv(lengths)

    def kernel(*arguments):
        query, key, value, cu_query, cu_key, max_query, max_key = arguments
        assert cu_query is cu_key is cu_seqlens
        assert max_query == max_key == 5
        return F.scaled_dot_product_attention(
            query.transpose(0, 1), key.transpose(0, 1), value.transpose(0, 1)
        ).transpose(0, 1)

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    assert attend(qkv, cu_seqlens, 5, runs=Runs([], flash=True)).shape == (8, 2, 8)


def test_lost_attention_dropout_is_said_once(monkeypatch, caplog):
    gpu(monkeypatch, lambda _: (9, 0))
    monkeypatch.setattr(attention, "_warned", False)
    weight = SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            plan(weight, 32, torch.tensor([0, 4], dtype=torch.int32), dropout_p=0.1)
    (record,) = caplog.records
    assert "attention_dropout=0.1 has no effect in half precision" in record.getMessage()
    assert "Set attention_dropout to 0" in record.getMessage()


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # the compiler looks at it, not we
def test_blocks_compile_once_for_all_packs():
    counter = pytest.importorskip("torch._dynamo.testing").CompileCounter()
    encoder, eager = make_encoder(), make_encoder()
    for block in encoder.blocks:
        block.compile(backend=counter)
    counts = []
    for lengths in ([5, 6, 7], [4, 4, 9, 9], [3, 11], [8, 8, 8, 2], [2, 3, 4, 5, 6, 7]):
        tokens, cu_seqlens, longest, _ = make_pack(lengths, encoder.vocabulary)
        embeddings = encoder(tokens, cu_seqlens, longest)
        assert (embeddings - eager(tokens, cu_seqlens, longest)).abs().max() < 1e-6
        counts.append(counter.frame_count)
    assert counts[1] == counts[-1]  # compiled for any size at the second pack, and never again


def test_the_flash_path_compiles_without_a_break():
    block = make_encoder().blocks[0].to(torch.bfloat16).to("meta")
    compiled = torch.compile(block, backend="eager", fullgraph=True)
    for lengths in ([5, 6], [7, 8, 9]):
        cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).to("meta", torch.int32)
        embeddings = torch.empty(sum(lengths), 32, dtype=torch.bfloat16, device="meta")
        shape = compiled(embeddings, cu_seqlens, max(lengths), Runs([], flash=True)).shape
        assert shape == embeddings.shape


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_blocks_of_the_flash_path_compile_into_three_graphs_at_most(monkeypatch):
    dynamo = pytest.importorskip("torch._dynamo")
    counter = pytest.importorskip("torch._dynamo.testing").CompileCounter()
    dynamo.reset()
    monkeypatch.setattr("rnafm.modules.encoder.plan", lambda *_, **__: Runs([], flash=True))
    encoder = make_encoder(num_layers=3, max_length=1022).to(torch.bfloat16).to("meta")
    names = list(encoder.state_dict())
    encoder.pad_to = 4096
    for block in encoder.blocks:
        block.compile(backend=counter)
    shapes = set()
    for lengths in ([500, 700], [30] * 20, [1024, 1024, 1024], [100], [900, 80], [4096 // 8] * 8):
        cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).to("meta", torch.int32)
        tokens = torch.empty(sum(lengths), dtype=torch.uint8, device="meta")
        embeddings = encoder(tokens, cu_seqlens, max(lengths))
        shapes.add(tuple(embeddings.shape))
        embeddings.float().sum().backward()
    assert len(shapes) == 6  # nobody sees what was filled up
    assert counter.frame_count <= 3
    assert list(encoder.state_dict()) == names
