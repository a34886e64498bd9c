"""A checkpoint gives back the task that was saved."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from batches import TINY, random_batch
from trained import make, make_pretrained, same_state, save

from rnafm.checkpoints import Checkpoint, save_checkpoint
from rnafm.cli import main
from rnafm.modules import Encoder, LinearContactHead
from rnafm.modules.folding import Decoder
from rnafm.tasks import Binary, Multiclass, Multilabel, Regression
from rnafm.tasks.adaptation import Adaptation
from rnafm.tasks.loading import load_task

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("level", "objective", "options"),
    [
        ("sequence", lambda: Regression(names=["a", "b"], criterion="huber"), {"pool": "cls"}),
        (
            "sequence",
            lambda: Multiclass(names=["x", "y"], class_weights="balanced"),
            {"pool": "attention"},
        ),
        ("sequence", lambda: Multilabel(num_outputs=3, pos_weight="balanced"), {"hidden_dim": 7}),
        (
            "token",
            lambda: Binary(names=["no", "yes"], pos_weight=3.0),
            {"hidden_dim": 5, "dropout": 0.2},
        ),
        ("token", lambda: Regression(standardise=False), {"adaptation": Adaptation(mode="probe")}),
        ("pairs", lambda: None, {"head": LinearContactHead, "decoders": ["nested", "matching"]}),
        (
            "pairs",
            lambda: Binary(pos_weight=2.0),
            {"decoder": Decoder("matching", 0.2, max_span=30)},
        ),
    ],
)
def test_everything_comes_back(tmp_path, level, objective, options):
    objective = objective()
    if isinstance(objective, Regression) and objective.standardise:
        objective.fit(torch.tensor([[1.0, 20.0], [3.0, 60.0]]))
    elif isinstance(objective, Multiclass | Multilabel):
        many = torch.tensor([0, 0, 0, 1]) if level == "sequence" else None
        flags = torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 1, 0]])
        objective.fit(flags if isinstance(objective, Multilabel) else many)
    task = make(level, tmp_path / "x.ckpt", objective, **options)
    found = load_task(tmp_path / "x.ckpt")
    assert type(found) is type(task) and not found.training
    assert same_state(task, found)
    assert found.objective.to_dict() == task.objective.to_dict()
    assert found.adaptation == task.adaptation and found.encoder.config == TINY
    batch = random_batch([7, 12, 5])
    with torch.inference_mode():
        assert torch.equal(task(batch), found(batch))
    if level == "pairs":
        assert type(found.head) is type(task.head) and found.candidates == task.candidates


def test_the_decoder_that_was_chosen_comes_back(tmp_path):
    task = make("pairs", tmp_path / "x.ckpt", head=LinearContactHead)
    task.decoder = Decoder("nested", 0.05)
    save(task, tmp_path / "x.ckpt")
    assert load_task(tmp_path / "x.ckpt").decoder == Decoder("nested", 0.05)


def test_low_rank_additions_come_back(tmp_path):
    pytest.importorskip("peft")
    options = {"adaptation": Adaptation(mode="lora", lora_rank=3)}
    task = make("sequence", tmp_path / "x.ckpt", Regression(), **options)
    found = load_task(tmp_path / "x.ckpt")
    assert same_state(task, found) and found.adaptation.lora_rank == 3
    assert "encoder.blocks.0.qkv.lora_B.default.weight" in found.state_dict()


def test_the_tag_of_the_command_line_is_left_out(tmp_path):
    make("token", tmp_path / "x.ckpt", Regression(), hidden_dim=6)
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    content["hyper_parameters"] |= {"_class_path": "x.Y", "_instantiator": "lightning.z"}
    torch.save(content, tmp_path / "y.ckpt")
    assert same_state(load_task(tmp_path / "x.ckpt"), load_task(tmp_path / "y.ckpt"))


def test_only_imported_classes_are_taken(tmp_path, monkeypatch):
    example = re.search(r"```python\n(.*?)```", (ROOT / "docs/own_task.md").read_text(), re.DOTALL)
    module = types.ModuleType("their_task")
    monkeypatch.setitem(sys.modules, "their_task", module)
    exec(compile(example[1], "their_task.py", "exec"), module.__dict__)  # noqa: S102
    torch.manual_seed(0)
    options = {"objective": Regression(num_outputs=2), "encoder": TINY, "width": 3}
    task = save(module.EndPrediction(**options), tmp_path / "x.ckpt")
    found = load_task(tmp_path / "x.ckpt")
    assert found.width == 3 and same_state(task, found)
    monkeypatch.delitem(sys.modules, "their_task")
    with pytest.raises(
        ValueError,
        match=r"x\.ckpt was made by their_task\.EndPrediction, which is "
        r"not imported; name its module with --task-module",
    ):
        load_task(tmp_path / "x.ckpt")

    # as docs/own_task.md has it, from the command line
    (tmp_path / "their_task.py").write_text(example[1])
    (tmp_path / "x.fa").write_text(">a\nACGUACGU\n>b\nGGGC\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = "predict --checkpoint x.ckpt --data x.fa --out x.csv --task-module"
    main([*command.split(), "their_task"])
    head, *rows = (tmp_path / "x.csv").read_text().splitlines()
    assert head == "id,length,output_0,output_1" and rows[1].startswith("b,4,")
    for name in ("their_tusk", "their_task.py"):
        with pytest.raises(SystemExit, match=rf"task_module \({name}\): there is no module"):
            main([*command.split(), name])
    (tmp_path / "broken.py").write_text("import nothing_like_that\n")
    with pytest.raises(ModuleNotFoundError, match="nothing_like_that"):
        main([*command.split(), "broken"])


def test_checkpoints_without_a_task(tmp_path):
    make_pretrained(tmp_path / "x.ckpt")
    with pytest.raises(
        ValueError,
        match=r"x\.ckpt holds a pretraining task .*MaskedLM\): it can "
        r"embed and fill masks; fine-tune it first: rnafm fit .*x\.ckpt",
    ):
        load_task(tmp_path / "x.ckpt")
    save_checkpoint(
        Checkpoint(Encoder(TINY, make_pretrained(tmp_path / "x.ckpt").encoder.vocabulary)),
        tmp_path / "x.safetensors",
    )
    with pytest.raises(ValueError, match=r"x\.safetensors holds no fine-tuned task.*rnafm fit"):
        load_task(tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        load_task(tmp_path / "nothing.ckpt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("rnafm.tasks.gone.Task", "which is not imported"),
        ("rnafm.tasks.adaptation.Adaptation", r"holds no task \(.*Adaptation\)"),
        ("rnafm.tasks.sequence.SequencePrediction", r"does not fit .*hidden_dim.*use the code"),
    ],
)
def test_checkpoints_of_other_code(tmp_path, name, message):
    make("sequence", tmp_path / "x.ckpt", Regression())
    content = torch.load(tmp_path / "x.ckpt", weights_only=True)
    content["task"] = name
    content["hyper_parameters"]["hidden_dims"] = content["hyper_parameters"].pop("hidden_dim")
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match=message):
        load_task(tmp_path / "x.ckpt")
