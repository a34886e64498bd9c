import json
import math
import re

import numpy as np
import pytest
import torch
from runs import ROOT, SAMPLE, write_fasta

from rnafm.cli import main
from rnafm.data.rnacentral import RNAcentralDataModule
from rnafm.data.sampling import Sampling
from rnafm.planning import costs
from rnafm.planning.recipe import build_task, read_settings
from rnafm.tasks import MaskedLM

CONFIGS = ROOT / "configs"
BIG = CONFIGS / "pretrain" / "rnacentral.yaml"
TINY = CONFIGS / "pretrain" / "tiny.yaml"


def plan(capsys, *words, code=0):
    """The plan as it is printed for programs."""
    capsys.readouterr()
    if code:
        with pytest.raises(SystemExit) as exit_info:
            main(["plan", "--json", *map(str, words)])
        assert exit_info.value.code == code
    else:
        main(["plan", "--json", *map(str, words)])
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def fasta(tmp_path):
    return write_fasta(tmp_path / "x.fa", 900)


def small(fasta, *more):
    return (
        f"--config={TINY}",
        f"--data.fasta=[{fasta}]",
        "--data.max_length=60",
        "--data.tokens_per_batch=1500",
        *more,
    )


def test_a_recipe_for_eight_gpus_is_planned_without_one(capsys, fasta):
    found = plan(capsys, f"--config={BIG}", "--data.fasta", f"[{fasta}]")
    assert found["errors"] == []
    assert found["tables"]["model"]["parameters"] == 99_521_946
    steps, memory = found["tables"]["steps"], found["tables"]["memory of a device"]
    assert steps["devices"] == 8 and steps["steps of the run"] == 300_000
    assert steps["tokens of the run"] == 300_000 * steps["tokens of a step"]
    parts = ("parameters", "gradients", "moments", "copies", "activations", "reserved")
    assert memory["all"] == sum(memory[name] for name in parts)
    assert memory["moments"] == 8 * found["tables"]["model"]["trained parameters"]
    assert memory["all with activation checkpointing"] < memory["all"] / 2
    hours = found["tables"]["hours"]
    rate = hours["h100: tokens per second"]
    assert hours["h100: hours of the run"] == pytest.approx(
        steps["tokens of the run"] / rate / 3600, rel=1e-3
    )
    assert hours["a100: hours of the run"] > 2 * hours["h200: hours of the run"]
    assert found["tables"]["checkpoints"]["kept at most"] == 2
    assert any("will be built first, since it is not there" in note for note in found["notes"])


def test_all_errors_are_listed_at_once(capsys, tmp_path):
    main_words = (
        f"--config={BIG}",
        "--data.fasta=[none.fa]",
        "--data.max_length=2000",
        "--data.vocabulary=codon",
        "--data.tokens_per_step=100000",
        "--ckpt_path=nowhere.ckpt",
        "--trainer.precision=bf16-mixed",
        "--device=v100",
    )
    errors = "\n".join(plan(capsys, *main_words, code=1)["errors"])
    for text in (
        "none.fa: there is no such file",
        r"data.max_length (2000) is above the encoder's max_length (1022)",
        "the encoder reads the vocabulary 'rna' (26 tokens), the data are in 'codon'",
        "tokens_per_step (100,000) is less than one batch",
        "nowhere.ckpt: there is no such checkpoint",
        "a V100 32 GB has no bfloat16",
    ):
        assert text in errors
    broken = tmp_path / "x.ckpt"
    broken.write_bytes(b"nothing")
    words = (f"--config={TINY}", f"--model.checkpoint={broken}", "--data.tokens_per_batch=100")
    errors = plan(capsys, *words, code=1)["errors"]
    assert len(errors) == 1 and errors[0].startswith(f"{broken}")


def test_errors_are_shown_to_people(capsys, tmp_path):
    with pytest.raises(SystemExit) as exit_info:
        main(["plan", f"--config={TINY}", f"--data.fasta=[{tmp_path / 'none.fa'}]"])
    assert exit_info.value.code == 1
    shown = capsys.readouterr()
    assert "error: " in shown.err and "1 error(s); the run would fail" in shown.err
    assert "parameters of the encoder" in shown.out
    with pytest.raises(SystemExit) as exit_info:
        main(["plan", f"--config={TINY}", "--trainer.max_stepz=3"])
    assert exit_info.value.code == 1
    assert "max_stepz" in capsys.readouterr().err


def test_what_does_not_go_together(capsys, fasta):
    words = small(fasta, f"--config={CONFIGS / 'trainer' / 'fsdp.yaml'}", "--trainer.devices=2")
    changes = ("--trainer.precision=16-mixed", "--trainer.val_check_interval=7")
    epoch = "--trainer.check_val_every_n_epoch=1"
    double = "--trainer.accumulate_grad_batches=2"
    errors = plan(capsys, *words, *changes, epoch, double, code=1)["errors"]
    assert any("16-mixed does not go with FSDP2" in each for each in errors)
    assert any("val_check_interval (7) counts batches and must be a multiple" in e for e in errors)
    assert any("clipped in 16-mixed with a fused optimizer" in each for each in errors)
    too_small = plan(capsys, *words, "--data.tokens_per_batch=50", code=1)["errors"]
    assert any("tokens_per_batch (50) is below the longest sequence" in e for e in too_small)


def test_an_epoch_is_what_it_will_be(capsys, fasta):
    options = {"tokens_per_batch": 1500, "max_length": 60, "val_fraction": 0.05}
    data = RNAcentralDataModule([fasta], **options)
    estimated = plan(capsys, *small(fasta))["tables"]
    data.prepare_data()
    data.setup("fit")
    counted = plan(capsys, *small(fasta))["tables"]
    loader = data.train_dataloader()
    batches = list(loader)
    lengths = torch.cat([batch.cu_seqlens.diff() for batch in batches]).long()
    cells = counted["data"]
    assert cells["counted"] == "exactly"
    assert cells["sequences of an epoch"] == len(lengths)
    assert cells["tokens of an epoch"] == int(lengths.sum())
    assert cells["tokens that a token attends to"] == int((lengths**2).sum()) / int(lengths.sum())
    assert counted["steps"]["steps of an epoch"] == len(batches)
    assert cells["share of batches that is filled"] == int(lengths.sum()) / (1500 * len(batches))
    assert 0.2 < cells["share of sequences that are cropped"] < 0.6
    for name in ("sequences of an epoch", "tokens of an epoch"):
        assert estimated["data"][name] == pytest.approx(cells[name], rel=0.02)
    for name in ("steps of an epoch", "FLOPs of a token"):
        assert estimated["steps"][name] == pytest.approx(counted["steps"][name], rel=0.1)


def test_an_epoch_of_draws_is_counted_by_its_draws(capsys, tmp_path):
    generator = np.random.default_rng(0)
    with (tmp_path / "x.fa").open("w") as file:
        for i in range(400):
            kind, length = ("long", 90) if i % 2 else ("short", 15)
            letters = "".join(generator.choice(list("ACGU"), length))
            file.write(f">s{i} type={kind}\n{letters}\n")
    options = {"tokens_per_batch": 1500, "max_length": 100, "val_fraction": 0.05}
    sampling = Sampling(by="type", weights={"long": 0.1})
    data = RNAcentralDataModule([tmp_path / "x.fa"], sampling=sampling, **options)
    data.prepare_data()
    data.setup("fit")
    words = ("--data.sampling.by=type", "--data.sampling.weights={long: 0.1}")
    words = (*small(tmp_path / "x.fa"), "--data.max_length=100", *words)
    cells = plan(capsys, *words)["tables"]["data"]
    lengths = [batch.cu_seqlens.diff() for batch in data.train_dataloader() if not batch.filler]
    lengths = torch.cat(lengths).long()
    assert cells["sequences of an epoch"] == len(lengths)
    assert cells["tokens of an epoch"] == pytest.approx(int(lengths.sum()), rel=0.01)


def test_devices_and_a_step_in_tokens(capsys, fasta, tmp_path):
    RNAcentralDataModule([fasta], val_fraction=0.05).prepare_data()
    words = small(fasta, "--data.tokens_per_step=12000")
    two = plan(capsys, *words, "--devices", "2")["tables"]["steps"]
    four = plan(capsys, *words, "--devices=4", "--device", "a100")["tables"]
    assert (two["devices"], two["batches of a step and device"]) == (2, 4)
    assert four["steps"]["batches of a step and device"] == 2
    assert four["steps"]["steps of an epoch"] == two["steps of an epoch"]
    assert set(four["hours"]) >= {"a100: hours of the run", "share of the peak assumed (MFU)"}
    metrics = tmp_path / "metrics.csv"
    metrics.write_text("step,throughput/tokens_per_second\n0,\n1,10\n2,2000\n3,2000\n4,2000\n")
    timed = plan(capsys, *words, f"--measured={metrics}")["tables"]
    hours = timed["hours"]["measured: hours of the run"]
    assert hours == pytest.approx(timed["steps"]["tokens of the run"] / 2000 / 3600, rel=1e-3)


@pytest.mark.slow
def test_shards_take_less(capsys, fasta):
    words = (f"--config={BIG}", f"--data.fasta=[{fasta}]", "--trainer.devices=8")
    fsdp = f"--config={CONFIGS / 'trainer' / 'fsdp.yaml'}"
    memory = plan(capsys, *words, fsdp, "--trainer.devices=8")["tables"]["memory of a device"]
    assert memory["parameters"] == math.ceil(4 * 99_521_946 / 8)
    assert memory["all without activation checkpointing"] > memory["all"]
    note = "\n".join(
        plan(
            capsys,
            *words,
            "--data.tokens_per_batch=1000000",
            "--data.tokens_per_step=null",
            "--device=h100",
        )["notes"]
    )
    assert "a batch will hardly fit" in note and "activation_checkpointing: true" in note


@pytest.mark.slow
def test_fine_tuning_is_planned_from_its_table(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = plan(capsys, "--config=configs/finetune/sequence.yaml")
    assert found["errors"] == []
    cells = found["tables"]["data"]
    assert cells["counted"] == "exactly" and cells["sequences of an epoch"] > 300
    steps = found["tables"]["steps"]
    assert steps["steps of the run"] == 10 * steps["steps of an epoch"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model.encoder.num_heads=7"], "embed_dim 96 is not a multiple of num_heads 7"),
        (["--data.val_fraction=3"], r"val_fraction \(3.0\) must lie between 0 and 1"),
        (["--model.checkpoint=none.safetensors"], "no checkpoint at none.safetensors"),
    ],
)
def test_reasons_are_those_of_a_run(capsys, options, message):
    (error,) = plan(capsys, f"--config={TINY}", *options, code=1)["errors"]
    assert re.match(message, error)


@pytest.mark.slow
def test_tasks_that_need_real_tensors(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    found = plan(capsys, "--config=configs/finetune/contact.yaml")
    assert found["errors"] == [] and found["tables"]["model"]["task"] == "ContactPrediction"


def test_a_billion_parameters_take_no_memory():
    shape = "{num_layers: 48, embed_dim: 1280, num_heads: 20, ffn_dim: 5120, max_length: 1022}"
    words = [f"--config={TINY}", f"--data.fasta=[{SAMPLE}]", f"--model.encoder={shape}"]
    task = build_task(read_settings(words))
    assert all(parameter.is_meta for parameter in task.parameters())
    assert sum(parameter.numel() for parameter in task.encoder.blocks.parameters()) == (
        48 * costs.block_parameters(task.encoder.config)
    )
    assert sum(parameter.numel() for parameter in task.parameters()) > 0.9e9


def test_a_checkpoint_is_as_large_as_planned(capsys, fasta, tmp_path):
    shape = "{num_layers: 2, embed_dim: 128, num_heads: 4, ffn_dim: 512, max_length: 128}"
    words = small(fasta, f"--model.encoder={shape}")
    size = plan(capsys, *words)["tables"]["checkpoints"]["bytes of one"]
    settings = read_settings([*words])
    encoder = settings["model"]["init_args"]["encoder"]
    task = MaskedLM(encoder=encoder)
    optimizer = torch.optim.AdamW(task.parameters())
    for parameter in task.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    path = tmp_path / "x.ckpt"
    torch.save({"state_dict": task.state_dict(), "optimizer": optimizer.state_dict()}, path)
    assert path.stat().st_size == pytest.approx(size, rel=0.03)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--device=abacus", r"there is no device 'abacus' \(there are: a100"),
        ("--devices=0", r"devices \(0\) must be at least 1"),
        ("--mfu=2", r"mfu \(2.0\) must lie between 0 and 1"),
    ],
)
def test_what_nobody_has_is_refused(option, message):
    with pytest.raises(SystemExit, match=message):
        main(["plan", f"--config={TINY}", option])
