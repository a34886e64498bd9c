"""What only a GPU can show: its kernels and memory, and that nobody waits; ``pytest -m gpu``."""

import pytest
import torch
from batches import RNA, random_batch
from padded import make_encoder, make_pack, padded_forward
from runs import curve, fit, weights, write_fasta

from rnafm.callbacks import bad_steps
from rnafm.data.masking import Masking, mask_tokens
from rnafm.modules import EncoderConfig, attention
from rnafm.planning import costs
from rnafm.tasks import MaskedLM

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


def test_what_fills_a_pack_up_leaks_nothing_in_flash():
    encoder, pack, _ = on_gpu(LENGTHS)
    with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
        unpadded = encoder(*pack)
        encoder.pad_to = 2048
        clean = encoder(*pack)
        assert relative(clean, unpadded.float()) < 5e-3

        def poison(_module, _inputs, embeddings):
            assert len(embeddings) == 2048
            embeddings = embeddings.clone()
            embeddings[sum(LENGTHS) :] = torch.nan
            return embeddings

        encoder.embed_norm.register_forward_hook(poison)
        assert torch.equal(encoder(*pack), clean)


@pytest.mark.filterwarnings("ignore")  # the compiler has opinions on precision
def test_compiled_blocks_take_any_pack():
    from torch._dynamo.utils import counters

    encoder, eager = (on_gpu(LENGTHS)[0] for _ in range(2))
    encoder.pad_to = 2048
    for block in encoder.blocks:
        block.compile()
    counters.clear()
    for lengths in ([64, 64], [100], LENGTHS, [1024, 900], [700] * 2):
        tokens, cu_seqlens, longest, _ = make_pack(lengths, encoder.vocabulary)
        outputs = []
        for each in (encoder, eager):
            each.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16):
                embeddings = each(tokens.cuda(), cu_seqlens.cuda(), longest)
            embeddings.square().mean().backward()
            outputs.append(embeddings.detach())
        assert relative(outputs[0], outputs[1].float()) < 1e-2
        for name in ("embed_tokens.weight", "blocks.0.qkv.weight", "blocks.1.fc2.weight"):
            ours, wanted = (each.get_parameter(name).grad for each in (encoder, eager))
            assert relative(ours, wanted) < 3e-2, name
    assert counters["stats"]["unique_graphs"] <= 3


@pytest.mark.parametrize("precision", ["bf16", "32"])
def test_buckets_equal_flash_and_padding(precision):
    """A GPU without the flash kernel: the same numbers."""
    encoder, (tokens, cu_seqlens, longest), padded = on_gpu(LENGTHS)
    buckets = attention.Runs([], buckets=attention.make_buckets(cu_seqlens))
    half = torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16")
    with torch.inference_mode(), half, pytest.MonkeyPatch.context() as patch:
        patch.setattr("rnafm.modules.encoder.plan", lambda *_, **__: buckets)
        found = encoder(tokens, cu_seqlens, longest)
    with torch.inference_mode():
        wanted = padded_forward(encoder, padded)[padded != encoder.vocabulary.pad_id]
    assert relative(found, wanted) < (1e-2 if precision == "bf16" else 1e-4)


def training_step(task, optimizer, batch, guard=False):
    """What a step of a run does between two batches."""
    with torch.autocast("cuda", torch.bfloat16):
        logits, labels = task(batch)
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    norm = task.gradient_norm()
    if guard:
        bad_steps.tell(optimizer, norm)
    torch.nn.utils.clip_grads_with_norm_(task.parameters(), 1.0, norm)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def make_task(**changes):
    options = {"num_layers": 2, "embed_dim": 64, "num_heads": 2, "ffn_dim": 128, **changes}
    task = MaskedLM(encoder=EncoderConfig(**options, dropout=0.0, attention_dropout=0.0)).cuda()
    return task, torch.optim.AdamW(task.parameters(), lr=1e-3, fused=True)


def make_batch(lengths, key=0):
    batch = random_batch(lengths, key=key)
    tensors = (batch.tokens, batch.cu_seqlens, batch.indices)
    names = ("tokens", "cu_seqlens", "indices")
    return batch._replace(
        **{name: value.cuda() for name, value in zip(names, tensors, strict=True)}
    )


def test_a_training_step_never_waits_for_the_device():
    task, optimizer = make_task()
    batch = make_batch([50, 300, 120])
    training_step(task, optimizer, batch, guard=True)  # tables are copied, once
    torch.cuda.set_sync_debug_mode("error")
    try:
        training_step(task, optimizer, batch, guard=True)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore")
def test_a_run_waits_for_the_device_only_where_it_logs(tmp_path, monkeypatch):
    start = MaskedLM.on_train_batch_start

    def watch(self, batch, batch_idx):
        torch.cuda.set_sync_debug_mode("error" if self.global_step in (4, 5, 6) else "default")
        start(self, batch, batch_idx)

    monkeypatch.setattr(MaskedLM, "on_train_batch_start", watch)
    options = (
        "--trainer.accelerator=gpu",
        "--trainer.devices=1",
        "--trainer.precision=bf16-mixed",
        "--model.encoder={num_layers: 2, embed_dim: 64, num_heads: 2, ffn_dim: 128}",
        "--trainer.callbacks+=rnafm.callbacks.Throughput",
        "--trainer.log_every_n_steps=4",
        "--trainer.val_check_interval=8",
        "--trainer.max_steps=8",
    )
    try:
        run = fit(tmp_path, write_fasta(tmp_path / "x.fa", count=600), *options)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(curve(run, "train/loss")) == 2


def test_the_device_leaves_a_bad_step_out():
    task, optimizer = make_task()
    batch = make_batch([50, 300, 120])
    training_step(task, optimizer, batch, guard=True)
    before = [parameter.clone() for parameter in task.parameters()]
    handle = task.head.register_forward_hook(lambda *_: _[-1] * torch.nan)
    assert training_step(task, optimizer, batch, guard=True).isnan()
    assert all(map(torch.equal, before, task.parameters()))
    assert {float(state["step"]) for state in optimizer.state.values()} == {1.0}
    handle.remove()
    assert training_step(task, optimizer, batch, guard=True).isfinite()
    assert not any(map(torch.equal, before, task.parameters()))


def test_masks_are_those_of_the_cpu():
    batch = random_batch([50, 300, 120, 1], key=7)
    for masking in (Masking(), Masking(span=3)):
        ours = mask_tokens(make_batch([50, 300, 120, 1], key=7), RNA, masking)
        wanted = mask_tokens(batch, RNA, masking)
        for one, other in zip(ours, wanted, strict=True):
            assert torch.equal(one.cpu(), other)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_memory_is_what_is_counted(checkpointing):
    task, optimizer = make_task(num_layers=8, embed_dim=512, num_heads=16, ffn_dim=2048)
    task.encoder.activation_checkpointing = checkpointing
    batch = make_batch([510] * 64)
    training_step(task, optimizer, batch)
    torch.cuda.reset_peak_memory_stats()
    training_step(task, optimizer, batch)
    number = sum(parameter.numel() for parameter in task.parameters())
    config = task.encoder.config
    kept = costs.activations(config, 64 * 512, mixed=True, checkpointing=checkpointing)
    counted = costs.memory(
        number,
        number,
        8,
        kept,
        block=costs.block_parameters(config),
        num_layers=config.num_layers,
        checkpointing=checkpointing,
    )
    expected = counted.total - counted.reserved
    assert torch.cuda.max_memory_allocated() == pytest.approx(expected, rel=0.1)


@pytest.mark.filterwarnings("ignore")
def test_a_run_on_a_gpu_is_continued_exactly(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa", count=300)
    options = (
        "--trainer.accelerator=gpu",
        "--trainer.devices=1",
        "--trainer.precision=bf16-mixed",
        "--model.encoder={num_layers: 2, embed_dim: 64, num_heads: 2, ffn_dim: 128}",
        "--trainer.deterministic=warn",
    )
    whole = fit(tmp_path / "whole", fasta, *options, "--trainer.max_steps=8")
    fit(tmp_path, fasta, *options, "--trainer.max_steps=5")
    resumed = fit(tmp_path, fasta, *options, "--trainer.max_steps=8", "--ckpt_path=last")
    losses = curve(whole, "train/loss")
    for step, value in curve(resumed, "train/loss").items():
        assert value == pytest.approx(losses[step], rel=1e-3), step
    for name, value in weights(resumed).items():
        assert relative(value, weights(whole)[name].float()) < 1e-3, name


def test_embeddings_come_back_to_the_cpu():
    encoder, _, _ = on_gpu([4])
    embeddings = encoder.embed(["ACGU", "GG"])
    assert embeddings.device.type == "cpu"
    assert (embeddings - encoder.cpu().embed(["ACGU", "GG"])).abs().max() < 1e-4
