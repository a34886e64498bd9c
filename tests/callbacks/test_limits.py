"""What limited a run, for every reason that is known."""

import re
from inspect import signature

import pytest
from lightning.pytorch import Trainer
from runs import ROOT

from rnafm.callbacks import SaveLast
from rnafm.callbacks.limits import Facts, explain
from rnafm.data.datamodule import RNADataModule
from rnafm.data.rnacentral import RNAcentralDataModule
from rnafm.modules import EncoderConfig
from rnafm.tasks import Task

BUSY = {"step": 95.0, "data": 2.0, "validation": 1.0, "saving": 1.0, "between": 1.0}


def facts(seconds=(), **changes):
    """Of a run that computes, with nothing left to try, on a GPU."""
    given = {
        "device": "cuda",
        "title": "H100 80GB HBM3",
        "seconds": BUSY | dict(seconds),
        "tokens_per_second": 512_345.6,
        "mfu": 0.334,
        "packing": 0.99,
        "tokens_per_batch": 65_536,
        "num_workers": 1,
        "precision": "bf16-mixed",
        "half": True,
        "compiled": True,
        "memory": 0.3,
    }
    return Facts(**given | changes)


def on_cpu(seconds=(), **changes):
    given = {
        "device": "cpu",
        "title": "the processor",
        "tokens_per_batch": 2048,
        "num_workers": 0,
        "precision": "32-true",
        "half": False,
        "compiled": False,
        "memory": None,
        "threads": 2,
        "cores": 2,
    }
    return facts(seconds, **given | changes)


def test_a_run_that_leaves_nothing_to_wish_for():
    assert explain(facts()) == (
        "What limited this run: computing, 96% of the time, on H100 80GB HBM3 at 33% of its peak "
        "(MFU): 512,346 tokens/s. To try: nothing in the settings stands out, so what helps is "
        "more devices."
    )


def test_without_a_known_peak_there_is_no_share_of_it():
    text = explain(facts(mfu=None))
    assert "on H100 80GB HBM3: 512,346" in text and "MFU" not in text


@pytest.mark.parametrize(
    ("seconds", "workers", "expected"),
    [
        ({"data": 153}, 0, "the loader. 61% of the time was waiting for data; .*num_workers 1.$"),
        ({"data": 153}, 1, r"--data.num_workers 2, or read .*\(--data.scratch FOLDER\)"),
        ({"data": 153}, None, "--data.num_workers 1"),
        ({"validation": 50}, 1, "validation. 34% .*--trainer.val_check_interval.*limit_val_batch"),
        ({"saving": 50}, 1, "checkpoints. 34% .*every_n_steps of the callback SaveLast"),
    ],
)
def test_what_is_not_computing(seconds, workers, expected):
    assert re.search(expected, explain(facts(seconds, num_workers=workers, scratch=True)))


def test_data_that_are_in_memory_are_not_copied():
    assert explain(facts({"data": 153})).endswith("--data.num_workers 2.")


def test_between_batches_a_gpu_computes_but_a_processor_does_not():
    seconds = {"between": 50}
    assert "computing, 97%" in explain(facts(seconds))
    text = explain(on_cpu(seconds))
    assert "callbacks and loggers. 34%" in text and "--trainer.log_every_n_steps" in text


def test_the_largest_share_counts_and_small_ones_do_not():
    assert "validation. 45%" in explain(facts({"data": 40, "validation": 110}))
    assert "computing, 88%" in explain(facts({"data": 11}))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"precision": "32-true"}, "bfloat16 with --trainer.precision bf16-mixed"),
        ({"compiled": False}, "fused blocks with --model.compile auto"),
        ({"tokens_per_batch": 8192, "memory": 0.05}, "than 8,192 tokens.* tokens_per_batch 65536"),
        ({"tokens_per_batch": 8192, "memory": 0.3}, "--data.tokens_per_batch 16384"),
        ({"checkpointing": True}, "--model.activation_checkpointing false"),
        ({"packing": 0.71}, r"65,536 tokens are 71% full \(--data.tokens_per_batch\)"),
    ],
)
def test_what_to_try_on_a_gpu(changes, expected):
    expected = expected.replace(" tokens_per_batch", " with --data.tokens_per_batch")
    assert re.search(expected.replace(".* with", ".*with"), explain(facts(**changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "32-true", "half": False},  # a V100 has no bfloat16
        {"tokens_per_batch": 8192, "memory": 0.6},  # there is no room for more
        {"checkpointing": True, "memory": 0.6},
        {"tokens_per_batch": None, "packing": None},  # a budget of pairs
    ],
)
def test_what_not_to_try(changes):
    assert "nothing in the settings stands out" in explain(facts(**changes))


def test_two_things_at_most_are_to_be_tried():
    text = explain(facts(precision="32-true", tokens_per_batch=4096, compiled=False, packing=0.5))
    assert text.count("--") == 2 and "bf16-mixed" in text and "compile" not in text


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"precision": "bf16-mixed"}, "--trainer.precision 32-true"),
        ({"tokens_per_batch": 65_536}, "rather than 65,536 tokens, with --data.tokens_per_batch"),
        ({"tokens_per_batch": 256}, "--data.tokens_per_batch 2048"),
        ({"threads": 2, "cores": 16}, "more than 2 of 16 cores with OMP_NUM_THREADS=16"),
        ({"attention_dropout": 0.1}, "--model.encoder.attention_dropout 0"),
        ({"packing": 0.8}, "2,048 tokens are 80% full"),
        ({}, "To try: a GPU."),
        ({"precision": "bf16-mixed", "half": True}, "To try: a GPU."),
    ],
)
def test_what_to_try_on_a_processor(changes, expected):
    assert expected in explain(on_cpu(**changes))


def test_options_that_are_named_exist():
    text = (ROOT / "rnafm" / "callbacks" / "limits.py").read_text()
    named = set(re.findall(r"--((?:trainer|data|model)\.[\w.]*\w)", text))
    assert len(named) >= 10
    owners = {
        "trainer": (Trainer,),
        "data": (RNADataModule, RNAcentralDataModule),
        "model": (Task,),
        "model.encoder": (EncoderConfig,),
    }
    for option in named:
        owner, _, name = option.rpartition(".")
        assert any(name in signature(each).parameters for each in owners[owner]), option
    assert "every_n_steps" in signature(SaveLast).parameters
