"""What of an encoder is trained, and how fast."""

import importlib

import pytest
import torch
from batches import RNA, TINY, random_batch

from rnafm.modules import Encoder
from rnafm.tasks import Multiclass, SequencePrediction
from rnafm.tasks.adaptation import Adaptation


def make(**options):
    torch.manual_seed(0)
    return SequencePrediction(
        objective=Multiclass(names=["a", "b"]), encoder=TINY, adaptation=Adaptation(**options)
    )


def test_full_trains_everything():
    assert all(parameter.requires_grad for parameter in make().parameters())


@pytest.mark.parametrize("mode", ["frozen", "probe"])
def test_frozen_trains_the_head_only_and_has_no_dropout(mode):
    task = make(mode=mode)
    trained = [name for name, each in task.named_parameters() if each.requires_grad]
    assert trained and all(name.startswith("head.") for name in trained)
    task.train()
    assert task.head.training and not task.encoder.training


def test_a_probe_has_a_linear_head():
    with pytest.raises(ValueError, match=r"linear head: leave hidden_dim \(8\) out"):
        SequencePrediction(
            objective=Multiclass(names=["a", "b"]),
            encoder=TINY,
            hidden_dim=8,
            adaptation=Adaptation(mode="probe"),
        )


def test_layer_decay_and_head_rate():
    task = make(layer_decay=0.5, head_lr=10.0)
    scales = {
        "head.predictor.out.weight": 10.0,
        "encoder.final_norm.weight": 1.0,
        "encoder.blocks.1.qkv.weight": 1.0,
        "encoder.blocks.0.qkv.weight": 0.5,
        "encoder.embed_tokens.weight": 0.25,
        "encoder.embed_positions.weight": 0.25,
    }
    for name, scale in scales.items():
        assert task.lr_scale(name) == scale
    assert scales.keys() <= dict(task.named_parameters()).keys()


def test_blocks_are_unfrozen_from_the_last_one_down():
    adaptation = Adaptation(unfreeze_every=10)
    order = ["head.x", "encoder.blocks.1.x", "encoder.blocks.0.x", "encoder.embed_tokens.x"]
    for steps, count in ((0, 1), (9, 1), (10, 2), (20, 3), (30, 4), (99, 4)):
        trained = [name for name in order if adaptation.trains(name, 2, steps)]
        assert trained == order[:count]


def test_low_rank_additions_begin_at_nothing_and_are_all_that_is_trained():
    batch = random_batch([9, 12])
    plain, task = make().eval(), make(mode="lora", lora_rank=4).eval()
    task.head.load_state_dict(plain.head.state_dict())
    torch.testing.assert_close(task(batch), plain(batch))
    trained = [name for name, each in task.named_parameters() if each.requires_grad]
    assert all("lora_" in name or name.startswith("head.") for name in trained)
    assert sum("lora_" in name for name in trained) == TINY.num_layers * 4 * 2
    first = dict(task.named_parameters())["encoder.blocks.0.qkv.lora_A.default.weight"]
    assert first.shape == (4, TINY.embed_dim)


def test_lora_without_peft_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def missing(name, *args):
        if name == "peft":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ValueError, match=r"needs peft.*pip install 'rnafm\[lora\]'"):
        Adaptation(mode="lora").apply(Encoder(TINY, RNA))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer_decay": 0}, r"layer_decay \(0\) must lie in \(0, 1\]"),
        ({"head_lr": -1}, r"head_lr \(-1\) must be above 0"),
        ({"ema": 1.5}, r"ema \(1.5\) must lie in \[0, 1\)"),
        ({"patience": -1}, r"patience \(-1\) must be 0 or more"),
        ({"mode": "frozen", "layer_decay": 0.9}, "are for mode full"),
        ({"mode": "lora", "unfreeze_every": 5}, "are for mode full"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Adaptation(**options)


def test_callbacks_are_those_asked_for():
    kinds = [type(each).__name__ for each in Adaptation(ema=0.9, patience=3).callbacks("x", "max")]
    assert kinds == ["WeightAveraging", "EarlyStopping"]
    assert Adaptation().callbacks("x", "max") == []
