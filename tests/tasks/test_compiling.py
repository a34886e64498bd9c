"""When blocks are compiled, and what for."""

import logging
from types import SimpleNamespace

import pytest
import torch
from batches import TINY
from padded import make_encoder, make_pack
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from rnafm.tasks import MaskedLM, compiling
from rnafm.tasks.agreement import slow
from rnafm.tasks.compiling import compile_blocks

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit")  # torch's compiler is imported


def make(compile, device="cuda"):  # noqa: A002
    task = MaskedLM(encoder=TINY, compile=compile, optimizer=AdamW)
    task.trainer = SimpleNamespace(
        datamodule=None,
        accumulate_grad_batches=1,
        precision="bf16-mixed",
        val_check_interval=1,
        limit_train_batches=1.0,
        strategy=SimpleNamespace(root_device=torch.device(device)),
    )
    return task


def compiled(task):
    return [block._compiled_call_impl is not None for block in task.encoder.blocks]


@pytest.mark.parametrize(
    ("wanted", "device", "stage", "yes"),
    [
        ("auto", "cuda", "fit", True),
        ("auto", "cpu", "fit", False),
        ("auto", "cuda", "test", False),
        (True, "cpu", "fit", True),
        (False, "cuda", "fit", False),
    ],
)
def test_where_blocks_are_compiled(monkeypatch, wanted, device, stage, yes):
    monkeypatch.setattr(compiling, "missing_compiler", lambda: None)
    task = make(wanted, device)
    names = list(task.state_dict())
    task.setup(stage)
    assert set(compiled(task)) == {yes}
    assert list(task.state_dict()) == names


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_blocks_stay_whole_under_ddp(monkeypatch):
    dynamo = pytest.importorskip("torch._dynamo")
    counter = pytest.importorskip("torch._dynamo.testing").CompileCounter
    monkeypatch.setattr(dynamo.config, "optimize_ddp", True)
    counts = []
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        for wrapped in (False, True):
            dynamo.reset()
            encoder = make_encoder(num_layers=1, embed_dim=128, ffn_dim=1024)
            compile_blocks(encoder, "cpu", None)
            encoder.blocks[0].compile(backend=(count := counter()))
            module = DistributedDataParallel(encoder, bucket_cap_mb=1) if wrapped else encoder
            module(*make_pack([5, 5], encoder.vocabulary)[:3]).sum().backward()
            counts.append(count.frame_count)
    finally:
        distributed.destroy_process_group()
    assert counts[0] == counts[1] > 0


def test_packs_are_filled_up_to_the_budget_of_tokens_while_training():
    task = make(True, "cpu")
    task.trainer.datamodule = SimpleNamespace(tokens_per_batch=512, budget=512)
    task.setup("fit")
    assert task.encoder.pad_to == 512
    task.teardown("fit")
    assert task.encoder.pad_to is None
    task.trainer.datamodule.budget = 4096  # counts pairs, not tokens
    task.setup("fit")
    assert task.encoder.pad_to is None


@pytest.mark.parametrize(("has_amx", "device"), [(True, "cpu"), (False, "cpu"), (False, "cuda")])
def test_half_precision_that_is_slower_is_said(monkeypatch, caplog, has_amx, device):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_amx)
    with caplog.at_level(logging.WARNING):
        make(compile=False, device=device).setup("fit")
    said = "bf16-mixed is slower than 32-true on this processor" in caplog.text
    assert said == (device == "cpu" and not has_amx)


@pytest.mark.parametrize(
    ("supported", "precision", "said"),
    [(True, "bf16-mixed", False), (False, "bf16-mixed", True), (False, "16-mixed", False)],
)
def test_a_gpu_that_emulates_bfloat16_is_told_of(monkeypatch, supported, precision, said):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    assert ("set it to 16-mixed" in (slow("cuda", precision) or "")) == said


@pytest.mark.parametrize(
    ("module", "which", "message"),
    [
        (None, "/usr/bin/gcc", "triton is not installed"),
        ("there", None, "there is no C compiler"),
        ("there", "/usr/bin/gcc", "there is no /nowhere/Python.h"),
    ],
)
def test_without_a_compiler_blocks_stay_as_they_are(monkeypatch, caplog, module, which, message):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: module)
    monkeypatch.setattr("shutil.which", lambda _: which)
    monkeypatch.setattr("sysconfig.get_path", lambda _: "/nowhere")
    task = make("auto")
    with caplog.at_level(logging.WARNING):
        task.setup("fit")
    assert not any(compiled(task)) and message in caplog.text
    assert "--model.compile false" in caplog.text
