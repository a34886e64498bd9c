"""What is logged about speed is what was done, whatever the run does besides."""

import contextlib
import csv
import io
import logging
import re
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batches import TINY, random_batch
from hand_clock import FETCH, Time
from lightning.pytorch.profilers import PassThroughProfiler
from runs import curve, fit, fit_outside, write_fasta
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from rnafm.callbacks import Throughput, work
from rnafm.callbacks.clock import Clock
from rnafm.callbacks.work import Work, find_peak, squared_lengths
from rnafm.data.loader import PackDataset
from rnafm.data.masking import mask_tokens
from rnafm.planning.costs import forward_flops, training_flops
from rnafm.planning.devices import DEVICES, find_device, processor_flops
from rnafm.tasks import MaskedLM
from rnafm.tasks.adaptation import add_lora

PEAK = 2e9


class Run:
    """A trainer that takes its time: each batch is waited for and computed as long as is said.

    Args:
        budget: Tokens of a batch.
        world_size: Devices, of which all others had ``others`` tokens at each logging.
    """

    def __init__(self, monkeypatch, budget=100, world_size=1, others=0, log_every=2):
        monkeypatch.setattr(work, "processor_flops", lambda _: PEAK)
        self.time = Time()
        self.meter = Throughput()
        self.meter._clock = Clock(self.meter._wait, self.time)
        self.task = MaskedLM(encoder=TINY)
        self.logged = {}
        self.task.log = self._log
        self.trainer = SimpleNamespace(
            global_step=0,
            world_size=world_size,
            log_every_n_steps=log_every,
            profiler=PassThroughProfiler(),
            precision="32-true",
            is_global_zero=True,
            strategy=SimpleNamespace(reduce=lambda tokens, **_: tokens + others),
            datamodule=SimpleNamespace(tokens_per_batch=budget, num_workers=0),
        )
        self.meter.on_train_start(self.trainer, self.task)

    def train(self, *lengths, wait=0.0, compute=1.0, steps=1, filler=False):
        """A batch; ``steps=0`` accumulates its gradients."""
        batch = random_batch([length - 2 for length in lengths])._replace(filler=filler)
        profiler = self.trainer.profiler
        with profiler.profile(FETCH):
            self.time.spend(wait)
        self.meter.on_train_batch_start(self.trainer, self.task, batch, 0)
        with profiler.profile("run_training_batch"):
            self.time.spend(compute)
        self.trainer.global_step += steps
        self.meter.on_train_batch_end(self.trainer, self.task, None, batch, 0)

    def _log(self, name, value, *, prog_bar=False):
        # What is shown is read behind every batch: on a GPU a mere number would be put there first.
        assert not prog_bar or (isinstance(value, torch.Tensor) and value.device.type == "cpu")
        self.logged.setdefault(name, []).append(float(value))

    def last(self, name):
        return self.logged[f"throughput/{name}"][-1]


def test_tokens_steps_packs_and_waiting(monkeypatch):
    run = Run(monkeypatch, budget=100)
    run.train(40, 50, wait=1, compute=3)
    assert not run.logged
    run.train(30, 30, 30, wait=2, compute=4)
    assert run.last("tokens_per_second") == 180 / 10 and run.last("tokens") == 180
    assert run.last("step_seconds") == 5 and run.last("data_wait") == 0.3
    assert run.last("packing") == 0.9 and run.last("saving") == 0
    assert 0 < run.last("peak_memory_gib") < 100
    masked = round(0.15 * 180)
    flops = training_flops(TINY, 180, 40**2 + 50**2 + 3 * 30**2, masked, 26)
    assert run.last("mfu") == pytest.approx(flops / 10 / PEAK)
    run.train(100)
    run.train(100)
    assert run.last("tokens_per_second") == 100 and run.last("tokens") == 380


def test_batches_whose_gradients_are_accumulated_are_one_step(monkeypatch):
    run = Run(monkeypatch, log_every=1)
    for steps in (0, 0, 1):
        run.train(50, compute=2, steps=steps)
    assert run.last("step_seconds") == 6 and run.last("tokens_per_second") == 25
    run.train(50, steps=0)  # the first batch of the next step has the number of the last one
    assert len(run.logged["throughput/tokens"]) == 1


def test_fillers_take_time_and_room_but_are_no_work(monkeypatch):
    run = Run(monkeypatch, budget=50)
    run.train(50)
    run.train(50, filler=True)
    assert run.last("tokens") == 50 and run.last("tokens_per_second") == 25
    assert run.last("packing") == 0.5


def test_tokens_are_those_of_all_devices_and_mfu_is_that_of_one(monkeypatch):
    alone = Run(monkeypatch)
    together = Run(monkeypatch, world_size=3, others=70)  # one had 50 and one the rest of an epoch
    for run in (alone, together):
        run.train(30)
        assert run.meter.state_dict() == {"total_tokens": 30 * run.trainer.world_size}
        run.train(20)
    assert together.last("tokens") == 120 and together.last("tokens_per_second") == 60
    assert together.last("mfu") == alone.last("mfu")
    assert together.meter.state_dict() == {"total_tokens": 120}


def test_without_a_peak_or_operations_there_is_no_mfu(monkeypatch):
    run = Run(monkeypatch)
    run.task.level = "pairs"
    run.meter.on_train_start(run.trainer, run.task)
    run.train(50)
    run.train(50)
    assert "throughput/mfu" not in run.logged and run.last("tokens_per_second") == 50


def test_validation_and_checkpoints_are_not_training(monkeypatch):
    run = Run(monkeypatch)
    run.train(50)
    run.meter.on_validation_start(run.trainer, run.task)
    run.time.spend(20)
    with run.trainer.profiler.profile("save_checkpoint"):
        run.time.spend(2)
    run.train(50)
    assert run.last("tokens_per_second") == 50 and run.last("data_wait") == 0
    assert run.last("saving") == 0.5


def test_a_budget_that_is_not_in_tokens_has_no_packing(monkeypatch):
    run = Run(monkeypatch)
    run.trainer.datamodule.budget = 10_000  # pairs
    run.train(50)
    run.train(50)
    assert "throughput/packing" not in run.logged and "throughput/mfu" in run.logged


def test_the_device_is_waited_for_only_where_it_has_to_be(monkeypatch):
    run = Run(monkeypatch, log_every=5)
    waited = []
    run.meter._wait = lambda: waited.append(run.trainer.global_step)
    run.meter._clock._before_saving = run.meter._wait
    for step in range(12):
        run.train(50)
        if step == 6:
            run.meter.on_validation_start(run.trainer, run.task)
            with run.trainer.profiler.profile("save_checkpoint"):
                pass
    assert waited == [5, 7, 7, 10]


def test_a_sentence_at_the_end(monkeypatch, caplog):
    with caplog.at_level(logging.INFO, "rnafm"):
        run = Run(monkeypatch)
        for _ in range(19):
            run.train(50)
        run.meter.on_train_end(run.trainer, run.task)
        assert not caplog.messages  # too short to say anything
        run = Run(monkeypatch)
        run.train(50, compute=500)  # warms up
        for _ in range(20):
            run.train(50, wait=30)
        run.meter.on_exception(run.trainer, run.task, KeyboardInterrupt())
        run.meter.on_train_end(run.trainer, run.task)  # once is enough
    (text,) = caplog.messages
    assert text == (
        "What limited this run: the loader. 54% of the time was waiting for data; prepare batches "
        "ahead with --data.num_workers 1."
    )
    assert not run.meter._clock.running and "start" not in vars(run.trainer.profiler)


def test_the_speed_that_is_told_is_that_of_a_warm_run(monkeypatch, caplog):
    run = Run(monkeypatch)
    run.train(50, compute=500)
    for _ in range(22):
        run.train(50)
    with caplog.at_level(logging.INFO, "rnafm"):
        run.meter.on_train_end(run.trainer, run.task)
    assert ": 50 tokens/s" in caplog.text and "of its peak (MFU)" in caplog.text


class TestWork:
    """Operations, against those that torch counts."""

    LENGTHS = (62, 62, 62)

    def count(self, task):
        """Operations of a training step, and those of the head."""
        task.train()
        batch = random_batch(self.LENGTHS, task.encoder.vocabulary)
        task.trainer = SimpleNamespace(global_step=0)
        counter = FlopCounterMode(display=False)
        with counter, sdpa_kernel(SDPBackend.MATH):
            loss = task.training_step(batch)
            loss.backward()
        rows = len(mask_tokens(batch, task.encoder.vocabulary, task.masking).positions)
        head = 3 * forward_flops(task.encoder.config, 0, 0, rows, len(task.encoder.vocabulary))
        return counter.get_total_flops(), head

    def formula(self, task):
        """The same by the formula, but for the head."""
        size = sum(self.LENGTHS) + 2 * len(self.LENGTHS)
        squares = sum((length + 2) ** 2 for length in self.LENGTHS)
        whole = Work.of(task)
        return Work(whole.config, 0, 0.0, whole.flowing, whole.trained).flops(size, squares)

    def task(self):
        return MaskedLM(encoder={**vars(TINY), "num_layers": 4, "embed_dim": 64, "ffn_dim": 256})

    def test_of_a_whole_step(self):
        task = self.task()
        total, head = self.count(task)
        assert self.formula(task) + head == total
        # What is logged takes the share of tokens that is hidden for the rows of the head.
        assert Work.of(task).flops(192, 3 * 64**2) == pytest.approx(total, rel=0.02)

    def test_of_an_encoder_that_is_trained_in_part(self):
        task = self.task()
        task.encoder.embed_tokens.requires_grad_(requires_grad=False)
        task.encoder.embed_positions.requires_grad_(requires_grad=False)
        task.encoder.embed_norm.requires_grad_(requires_grad=False)
        task.encoder.blocks[:2].requires_grad_(requires_grad=False)
        assert (Work.of(task).flowing, Work.of(task).trained) == (0.5, 0.5)
        total, head = self.count(task)
        # Inputs of the lowest block that is trained need no gradients; the embedding of the head
        # none either.
        assert self.formula(task) + head == pytest.approx(total, rel=0.05)

    @pytest.mark.slow  # for the import
    def test_of_low_rank_additions(self):
        pytest.importorskip("peft")
        task = self.task()
        add_lora(task.encoder, rank=1)
        assert (Work.of(task).flowing, Work.of(task).trained) == (1, 0)
        total, head = self.count(task)
        assert self.formula(task) + head == pytest.approx(total, rel=0.1)

    def test_of_a_frozen_encoder(self):
        task = self.task()
        task.encoder.requires_grad_(requires_grad=False)
        forward = forward_flops(task.encoder.config, 100, 1000)
        assert self.formula(task) > 0 and Work.of(task).flowing == Work.of(task).trained == 0
        assert Work(task.encoder.config, flowing=0, trained=0).flops(100, 1000) == forward
        task.reads = "tokens"  # from the disk, where they are kept
        assert Work.of(task).flops(100, 1000) == 0

    def test_of_a_head_that_works_on_pairs(self):
        task = self.task()
        task.level = "pairs"
        assert Work.of(task).flops(100, 1000) == 0

    def test_squares_are_those_of_windows(self):
        bounds = torch.tensor([0, 10, 110, 130], dtype=torch.int32)
        assert squared_lengths(bounds, 1000) == 10**2 + 100**2 + 20**2
        assert squared_lengths(bounds, 50) == 10**2 + 100 * 50 + 20**2


class TestPeaks:
    """What a device could do."""

    @pytest.mark.parametrize(
        ("name", "key"),
        [
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("NVIDIA H100 PCIe", "h100-pcie"),
            ("NVIDIA H100 NVL", "h100-nvl"),
            ("NVIDIA GH200 480GB", "h100"),
            ("NVIDIA H200", "h200"),
            ("NVIDIA H200 NVL", "h200-nvl"),
            ("NVIDIA B200", "b200"),
            ("NVIDIA GB200", "gb200"),
            ("NVIDIA A100-SXM4-80GB", "a100"),
            ("NVIDIA A100 80GB PCIe", "a100"),
            ("A100-SXM4-40GB", "a100-40"),
            ("NVIDIA A100-PCIE-40GB", "a100-40"),
            ("NVIDIA L40S", "l40s"),
            ("NVIDIA L4", "l4"),
            ("NVIDIA RTX A6000", "a6000"),
            ("NVIDIA RTX 6000 Ada Generation", "rtx6000-ada"),
            ("NVIDIA GeForce RTX 3090", "rtx3090"),
            ("NVIDIA GeForce RTX 4090", "rtx4090"),
            ("NVIDIA GeForce RTX 5090", "rtx5090"),
            ("Tesla V100-SXM2-16GB", "v100"),
            ("Tesla T4", "t4"),
        ],
    )
    def test_devices_by_name(self, name, key):
        assert find_device(name) is DEVICES[key]

    @pytest.mark.parametrize(
        "name",
        [
            "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
            "NVIDIA GeForce RTX 4090 Laptop GPU",
            "NVIDIA GeForce RTX 4090 D",
            "NVIDIA A10G",
            "Quadro RTX 6000",
            "AMD Instinct MI300X",
        ],
    )
    def test_others_are_not_taken_for_them(self, name):
        assert find_device(name) is None

    def test_peaks_are_without_sparsity_and_halve_for_32_bits(self):
        for key, device in DEVICES.items():
            if device.bfloat16:
                assert device.single == pytest.approx(device.flops / 2, rel=0.03), key
                assert device.flops / device.bandwidth < 450, key  # with sparsity it would be above

    def test_a_processor_is_measured_once(self):
        found = find_peak(torch.device("cpu"), "32-true")
        assert found == processor_flops(torch.get_num_threads()) > 1e8
        assert find_peak(torch.device("cpu"), "bf16-mixed") == found

    def test_precision_decides_on_the_peak_of_a_gpu(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA L4")
        device = torch.device("cuda")
        assert find_peak(device, "bf16-mixed") == 121e12
        assert find_peak(device, "32-true") == 60e12

    def test_an_unknown_gpu_is_said_once(self, monkeypatch, caplog):
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Unheard of 1")
        with caplog.at_level(logging.INFO, "rnafm"):
            assert find_peak(torch.device("cuda"), "bf16-mixed") is None
            assert find_peak(torch.device("cuda"), "bf16-mixed") is None
        (text,) = caplog.messages
        assert "Unheard of 1" in text and "no MFU" in text


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A run with a slow loader and a profiler, and what it says."""
    folder = tmp_path_factory.mktemp("run")
    make, text = PackDataset.make, io.StringIO()

    def slow(*arguments):
        time.sleep(0.05)
        return make(*arguments)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(text):
        patch.setattr(PackDataset, "make", slow)
        done = fit(
            folder,
            write_fasta(folder / "x.fa"),
            "--trainer.max_steps=20",
            "--trainer.log_every_n_steps=5",
            "--trainer.val_check_interval=10",
            "--trainer.limit_val_batches=1",
            f"--trainer.profiler={{class_path: SimpleProfiler, init_args: {{dirpath: {folder}, "
            "filename: sections}}",
        )
    return done, text.getvalue()


@pytest.fixture(scope="module")
def run(told):
    return told[0]


def test_a_run_logs_all_of_it(run):
    with (run / "metrics.csv").open() as file:
        names = set(next(csv.reader(file)))
    wanted = "tokens tokens_per_second mfu data_wait saving packing step_seconds peak_memory_gib"
    assert {f"throughput/{name}" for name in wanted.split()} <= names
    tokens = curve(run, "throughput/tokens")
    assert list(tokens) == [4, 9, 14, 19]
    first, second, *_ = tokens.values()
    # Packs of up to 1,500 tokens, filled but for less than one sequence.
    assert 5 * 1438 < first <= 5 * 1500 and 5 * 1438 < second - first <= 5 * 1500
    packing = curve(run, "throughput/packing")
    assert packing[9] == pytest.approx((second - first) / 7500)
    rates, seconds = (curve(run, f"throughput/{n}") for n in ("tokens_per_second", "step_seconds"))
    assert rates[9] * seconds[9] == pytest.approx((second - first) / 5, rel=1e-4)
    # Lightning's names of sections are those that the clock listens to.
    assert all(0 < wait < 1 for wait in curve(run, "throughput/data_wait").values())
    saving = curve(run, "throughput/saving")
    assert saving[14] > 0 == saving[4]  # the second one is after the validation of step 10
    assert all(mfu > 0 for mfu in curve(run, "throughput/mfu").values())
    checkpoint = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["callbacks"]["Throughput"]["total_tokens"] == tokens[19]


def test_a_profiler_sees_the_sections_of_a_run(run):
    (report,) = run.parents[1].glob("*sections*.txt")
    text = report.read_text()
    for section in (
        "[_TrainingEpochLoop].train_dataloader_next",
        "run_training_batch",
        "save_checkpoint",
        "[LightningModule]MaskedLM.optimizer_step",
        "[Callback]Throughput.on_train_batch_end",
        "[Callback]RunProgress.on_train_batch_start",
    ):
        assert section in text


def test_a_slow_loader_is_found_out(told):
    run, text = told
    waits = curve(run, "throughput/data_wait")
    seconds = curve(run, "throughput/step_seconds")
    assert all(waits[step] * seconds[step] >= 0.05 for step in waits)
    # What takes longest on a busy machine is not to be foreseen.
    assert len(re.findall(r"^What limited this run: .* \d+% of the time", text, re.MULTILINE)) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The PyTorch Profiler default schedule")  # few batches
@pytest.mark.filterwarnings("ignore:Warning. Profiler clears events")  # torch's, at its every cycle
@pytest.mark.parametrize("profiler", ["advanced", "pytorch"])
def test_other_profilers(profiler, tmp_path):
    run = fit(
        tmp_path,
        write_fasta(tmp_path / "x.fa"),
        "--trainer.max_steps=10",
        f"--trainer.profiler={profiler}",
    )
    assert len(curve(run, "throughput/tokens_per_second")) == 10
    assert profiler == "advanced" or list(run.glob("*.trace.json*"))


@pytest.mark.slow
def test_two_processes_log_the_tokens_of_both(tmp_path):
    fasta = write_fasta(tmp_path / "x.fa")  # an epoch is 6 steps, of which the last are not full
    options = ("--trainer.max_steps=14", "--model.encoder.dropout=0")
    halves = ("--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=10")
    one = fit(tmp_path / "one", fasta, *options, *halves)
    many = ("--trainer.devices=2", "--trainer.strategy=ddp")
    two = fit_outside(tmp_path / "two", fasta, *options, *many)
    tokens = curve(one, "throughput/tokens")
    assert curve(two, "throughput/tokens") == tokens
    sizes = np.diff(list(tokens.values()))
    assert sizes.min() < 0.9 * sizes.max()  # there were ends of epochs
