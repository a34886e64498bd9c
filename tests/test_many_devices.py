"""Sharded runs, several hosts, uneven ends, and processes that fail."""
# ruff: noqa: S607  # commands of the system, wherever it has them

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks import fork, succeed
from runs import ROOT, curve, newest, weights, words, write_fasta
from test_ddp import COUNT, alone, as_shipped, assert_same

from rnafm.cli import main
from rnafm.modules.encoder import Encoder
from rnafm.tasks.loading import load_task

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    return write_fasta(tmp_path_factory.mktemp("data") / "x.fa", COUNT)


@pytest.fixture(scope="module")
def one(tmp_path_factory, fasta):
    """The run of a single process with the global batch of two."""
    return alone(tmp_path_factory.mktemp("one"), fasta, 2)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory, fasta):
    """The same run with parameters divided over two processes."""
    folder = tmp_path_factory.mktemp("sharded")
    text = succeed(folder, 2, words(folder, fasta, *as_shipped("fsdp", 2)))
    assert re.search(r"2,\d{3} of 5,\d{3} parameters on each of 2 devices", text)
    return newest(folder)


def test_a_sharded_run_is_that_of_one_process(one, sharded):
    assert_same(one, sharded)
    # Clipping sees the norm over all shards.
    norms = curve(one, "train/grad_norm"), curve(sharded, "train/grad_norm")
    assert len(norms[0]) == 20
    assert list(norms[1].values()) == pytest.approx(list(norms[0].values()), rel=1e-4)


def test_a_sharded_checkpoint_is_an_ordinary_one(one, sharded, tmp_path):
    path = sharded / "checkpoints" / "last.ckpt"
    first = torch.load(one / "checkpoints" / "last.ckpt", weights_only=True)
    second = torch.load(path, weights_only=True)
    states = [checkpoint["optimizer_states"][0] for checkpoint in (first, second)]
    assert [group["params"] for group in states[0]["param_groups"]] == [
        group["params"] for group in states[1]["param_groups"]
    ]
    for number, values in states[0]["state"].items():
        for name, value in values.items():
            torch.testing.assert_close(
                states[1]["state"][number][name], value, rtol=1e-3, atol=1e-6
            )
    encoder = Encoder.from_checkpoint(path)
    (expected,) = encoder.embed(["GGCAUUGC"], pool="mean")
    (tmp_path / "x.fa").write_text(">x\nGGCAUUGC\n")
    out = tmp_path / "x.npz"
    main(["embed", "--checkpoint", str(path), f"--fasta={tmp_path / 'x.fa'}", f"--out={out}"])
    with np.load(out) as saved:
        np.testing.assert_allclose(saved["embeddings"][0], expected.numpy(), atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [("fsdp", "ddp"), ("ddp", "fsdp")])
def test_a_run_goes_on_under_another_strategy(tmp_path, fasta, sharded, before, after):
    for kind, more in ((before, "--trainer.max_steps=8"), (after, "--ckpt_path=last")):
        succeed(tmp_path, 2, words(tmp_path, fasta, *as_shipped(kind, 2, more)))
    resumed = newest(tmp_path)
    expected, losses = weights(sharded), curve(sharded, "train/loss")
    found = curve(resumed, "train/loss")
    for name, value in weights(resumed).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)
    assert sorted(found) == list(range(8, 20))
    assert list(found.values()) == pytest.approx([losses[step] for step in found], abs=1e-4)


def test_sharded_blocks_in_bfloat16_are_those_of_ddp(tmp_path, fasta):
    runs = []
    for kind in ("ddp", "fsdp"):
        folder = tmp_path / kind
        options = as_shipped(kind, 2, "--trainer.precision=bf16-mixed")
        succeed(folder, 2, words(folder, fasta, *options))
        runs.append(newest(folder))
    first, second = (list(curve(run, "val/loss").values()) for run in runs)
    assert len(first) == 4
    assert second == pytest.approx(first, abs=1e-3)
    assert {value.dtype for value in weights(runs[1]).values()} == {torch.float32}


def test_compiled_blocks_are_sharded(tmp_path, fasta, one):
    folder = tmp_path / "compiled"
    options = as_shipped("fsdp", 2, "--model.compile=true")
    succeed(folder, 2, words(folder, fasta, *options), limit=500)  # the compiler takes minutes
    assert_same(one, newest(folder))


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("count", [37, 64, 101])
def test_uneven_ends_never_hang(tmp_path, strategy, count):
    """Packs, validation packs and sequences that do not divide by the number of processes."""
    fasta = write_fasta(tmp_path / "x.fa", count)
    options = as_shipped(strategy, 2, "--data.tokens_per_batch=300", "--data.val_fraction=0.2")
    epochs = (
        "--trainer.max_steps=-1",
        "--trainer.max_epochs=3",
        "--trainer.val_check_interval=1.0",
    )
    every = "--trainer.check_val_every_n_epoch=1"
    sanity = "--trainer.num_sanity_val_steps=1"
    succeed(tmp_path, 2, words(tmp_path, fasta, *options, *epochs, every, sanity), limit=200)
    assert len(curve(newest(tmp_path), "val/loss")) == 3


def run_and_fail(folder, fasta, rank, strategy="ddp", **options):
    """Start two processes of which one fails; exit code, messages, seconds until the end."""
    values = {"rank": rank, "folder": str(folder), **options}
    listed = ", ".join(f"{name}: {value}" for name, value in values.items())
    callback = f"--trainer.callbacks+={{class_path: failing.Fail, init_args: {{{listed}}}}}"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "rnafm",
            *words(folder, fasta, *as_shipped(strategy, 2), callback),
            # Many small parts, some of which are on their way when a backward pass fails.
            *(["--trainer.strategy.init_args.bucket_cap_mb=1e-4"] if strategy == "ddp" else []),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{TESTS}", "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    try:
        # The end of the stream: no process is left that could write into it.
        _, text = process.communicate(timeout=250)
        seconds = time.time() - float((folder / "failed").read_text())
        end = time.monotonic() + 10
        while (left := alive(process.pid)) and time.monotonic() < end:
            time.sleep(0.5)
    finally:
        for pid in alive(process.pid):
            os.kill(pid, 9)
    assert not left, text
    return process.returncode, text, seconds


def alive(session):
    """Processes of a session that have not ended."""
    found = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-s", str(session)],
        check=False,
        capture_output=True,
        text=True,
    )
    pairs = (line.split() for line in found.stdout.splitlines())
    return [int(pid) for pid, state in pairs if not state.startswith("Z")]


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("hook", ["setup", "batch", "backward", "validation"])
def test_an_exception_on_one_process_ends_all(tmp_path, fasta, rank, hook):
    code, text, seconds = run_and_fail(tmp_path, fasta, rank, hook=hook)
    assert code != 0
    assert f"Process {rank} of 2 has failed: RuntimeError: the disk of process {rank} is" in text
    assert seconds < 30
    if hook != "setup":  # what was trained is saved by the first process, though it is alone now
        (last,) = tmp_path.rglob("last.ckpt")
        assert torch.load(last, weights_only=True)["global_step"] == 5


def test_an_exception_in_a_sharded_run_ends_all(tmp_path, fasta):
    code, text, seconds = run_and_fail(tmp_path, fasta, 1, strategy="fsdp")
    assert code != 0 and seconds < 30
    assert "Process 1 of 2 has failed: RuntimeError: the disk of process 1 is gone" in text


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_process_ends_all(tmp_path, fasta, rank):
    code, text, seconds = run_and_fail(tmp_path, fasta, rank, how="kill")
    assert code != 0 and seconds < 30
    assert "has failed: RuntimeError" in text or "has ended, and so does this one" in text


def hosts():
    """Why two hosts cannot be made of network namespaces here; nothing if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no command ip"
    result = subprocess.run(["ip", "netns", "add", "rnafm-probe"], check=False, capture_output=True)
    subprocess.run(["ip", "netns", "del", "rnafm-probe"], check=False, capture_output=True)
    return "" if result.returncode == 0 else "network namespaces are not allowed here"


@pytest.fixture
def network():
    """Two network namespaces that see each other only; their names."""
    if reason := hosts():
        pytest.skip(reason)
    names = [f"rnafm{os.getpid()}{side}" for side in "ab"]
    ends = [f"v{os.getpid()}{side}" for side in "ab"]

    def ip(*arguments):
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    for name in names:
        ip("netns", "add", name)
    try:
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for number, (name, end) in enumerate(zip(names, ends, strict=True), 1):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield names, ends
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def test_two_hosts_started_by_torchrun(tmp_path, fasta, one, network):
    names, ends = network
    options = as_shipped("torchrun", 1, "--trainer.num_nodes=2")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nnodes=2",
        "--nproc-per-node=1",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=10.77.0.1:29500",
        "--rdzv-id=test",
        "-m",
        "rnafm",
        *words(tmp_path, fasta, *options),
    ]
    processes = []
    for number, (name, end) in enumerate(zip(names, ends, strict=True), 1):
        own = {
            "GLOO_SOCKET_IFNAME": end,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
        }
        # Names are not resolved in here, so the host of the rendezvous has to be told that it is.
        place = [f"--local-addr=10.77.0.{number}", f"--rdzv-conf=is_host={int(number == 1)}"]
        inside = ["ip", "netns", "exec", name, *command[:3], *place, *command[3:]]
        processes.append(
            subprocess.Popen(
                inside,
                env=os.environ | own,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        texts = [process.communicate(timeout=170)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(texts)[-4000:]
    assert_same(one, newest(tmp_path))


def test_shards_of_a_fine_tuning_task(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    options = [
        "fit",
        "--config=configs/finetune/sequence.yaml",
        "--config=configs/trainer/fsdp.yaml",
        "--trainer.accelerator=cpu",
        "--trainer.precision=32-true",
        "--trainer.devices=2",
        "--trainer.max_epochs=1",
        "--trainer.limit_train_batches=3",
        "--trainer.log_every_n_steps=1",
        "--trainer.limit_val_batches=2",
        "--data.tokens_per_batch=4096",
        "--model.encoder={num_layers: 1, embed_dim: 16, num_heads: 2, ffn_dim: 16}",
        f"--trainer.logger.init_args.save_dir={tmp_path}",
    ]
    succeed(tmp_path, 2, options)
    (best,) = tmp_path.rglob("best.ckpt")
    assert load_task(best).objective.names
    ends = fork(tmp_path, 2, [*options, "--model.adaptation.ema=0.9"])
    assert [end.code for end in ends] == [1, 1]
    assert "in shards cannot be averaged: set model.adaptation.ema to 0" in ends[0].text
