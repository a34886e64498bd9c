"""The published secondary-structure head: read from and written to every layout."""

import json
import re

import pytest
import torch
from batches import random_batch
from reference import REFERENCE, weights, write_multimolecule
from safetensors.torch import load_file, save_file

from rnafm.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules import Encoder, EncoderConfig, ResNetContactHead

PREFIX = "downstream_modules.pc-resnet_1_sym_first:r-ss."
THEIRS = {  # MultiMolecule's names -> the official ones
    "reduction": "pre_reduction",
    "projection": "proj.first.0",
    "convnet.layers": "proj.resnet",
    "prediction": "proj.final",
}
HEAD = {"num_labels": 1, "num_layers": 4, "num_channels": 8, "hidden_size": 8, "bias": False}


def head_tensors():
    """The golden head under MultiMolecule's names, without prefix."""
    tensors = load_file(REFERENCE / "hf_heads.weights.safetensors")
    return {
        key.removeprefix("ss_resnet/ss_head."): value
        for key, value in tensors.items()
        if key.startswith("ss_resnet/ss_head.")
    }


def official_name(name):
    for old, new in THEIRS.items():
        name = re.sub(rf"^{re.escape(old)}\.", f"{new}.", name)
    return name


def write_official_structure(path, prefix=PREFIX, leave=(), **extra):
    state = {f"backbone.{key}": value for key, value in weights("official_rnafm").items()}
    for name, tensor in head_tensors().items():
        state[prefix + official_name(name)] = tensor
    for key in leave:
        del state[prefix + key]
    torch.save(state | extra, path)
    return path


def write_multimolecule_structure(directory, rename=lambda name: name, leave=(), **changes):
    write_multimolecule("rnafm", directory, **{"head": HEAD | {"dropout": 0.3}} | changes)
    state = load_file(directory / "model.safetensors")
    for key in [key for key in state if key.startswith("ss_head.")]:
        del state[key]  # the contact regression, which this model does not have
    for name, tensor in head_tensors().items():
        if name not in leave:
            state[f"ss_head.{rename(name)}"] = tensor
    save_file(state, directory / "model.safetensors", {"format": "pt"})
    return directory


def check_head(head):
    wanted = head_tensors()
    found = head.state_dict()
    assert len(found) == len(wanted)
    assert torch.equal(found["blocks.2.conv2.weight"], wanted["convnet.layers.2.conv2.weight"])
    assert torch.equal(
        found["blocks.1.norm.running_var"], wanted["convnet.layers.1.bn1.running_var"]
    )
    assert torch.equal(found["reduction.weight"], wanted["reduction.weight"].float())
    assert found["blocks.0.norm.num_batches_tracked"].dtype == torch.int64
    assert all(p.requires_grad and p.dtype == torch.float32 for p in head.parameters())
    assert head.options["num_layers"] == 4 and head.options["channels"] == 8


def same_head(one, other):
    states = one.structure_head.state_dict(), other.structure_head.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert one.structure_head.options == other.structure_head.options


@pytest.mark.parametrize("suffix", [":r-ss", ":other", ""])
def test_official_head_whatever_is_after_the_colon(tmp_path, suffix):
    prefix = f"downstream_modules.pc-resnet_1_sym_first{suffix}."
    path = write_official_structure(tmp_path / "RNA-FM-ResNet_bpRNA.pth", prefix)
    found = load_checkpoint(path)
    check_head(found.structure_head)
    assert found.structure_head.options["dropout"] == 0.3 and found.structure_head.training
    assert found.head is not None and found.config.num_heads == 4
    assert not any("another head" in note for note in found.notes)


@pytest.mark.parametrize(
    ("stem", "threshold"),
    [("PDB-All", 0.33993712), ("bpRNA", 0.47729617), ("PDB-TR1", 0.07595872), ("mine", None)],
)
def test_published_thresholds_by_file_name(tmp_path, stem, threshold):
    found = load_checkpoint(write_official_structure(tmp_path / f"RNA-FM-ResNet_{stem}.pth"))
    assert found.threshold == threshold
    told = "comes without a decision threshold" if threshold is None else f"{threshold:g}"
    assert told in found.notes[-1]


@pytest.mark.parametrize("old", [False, True])
def test_multimolecule_head_of_all_ages(tmp_path, old):
    def rename(name):
        return name.replace("convnet.layers.", "convnet.") if old else name

    found = load_checkpoint(write_multimolecule_structure(tmp_path / "a", rename))
    check_head(found.structure_head)
    assert found.structure_head.options["dropout"] == 0.3 and found.threshold is None
    assert not any("ss_head" in note for note in found.notes)


def test_multimolecule_dropout_is_what_its_configuration_means(tmp_path):
    for number, (changes, wanted) in enumerate(
        [({"head": None}, 0.3), ({"head": HEAD}, 0.0), ({"head": {"dropout": 0.2}}, 0.2)]
    ):
        found = load_checkpoint(write_multimolecule_structure(tmp_path / str(number), **changes))
        assert found.structure_head.options["dropout"] == wanted


def test_contact_regression_and_other_heads_are_still_left_out(tmp_path):
    found = load_checkpoint(write_multimolecule("rnafm", tmp_path / "a"))
    assert found.structure_head is None and "ss_head was left out (2 tensors)" in found.notes
    path = write_official_structure(tmp_path / "a.pth", "downstream_modules.pc-resnet_1:r-dist.")
    found = load_checkpoint(path)
    assert found.structure_head is None and found.threshold is None
    assert any("tensors of another head (downstream_modules.*)" in note for note in found.notes)


def test_heads_that_are_not_whole(tmp_path):
    path = write_official_structure(
        tmp_path / "a.pth",
        leave=["proj.resnet.1.bn1.running_var"],
        **{f"{PREFIX}proj.gate.weight": torch.zeros(2)},
    )
    named = (
        r"a\.pth \(secondary-structure head\) does not hold .*"
        r"missing: proj\.resnet\.1\.bn1\.running_var; unexpected: proj\.gate\.weight\. Download"
    )
    with pytest.raises(ValueError, match=named):
        load_checkpoint(path)
    directory = write_multimolecule_structure(tmp_path / "b", leave=["projection.weight"])
    with pytest.raises(ValueError, match=r"missing: projection\.weight"):
        load_checkpoint(directory)
    state = load_file(directory / "model.safetensors")
    state["ss_head.projection.weight"] = torch.zeros(8, 12, 1, 1)
    save_file(state, directory / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"wrong shape: projection\.weight \(8, 12, 1, 1\) instead"
    ):
        load_checkpoint(directory)


def test_our_file_keeps_head_options_and_threshold(tmp_path):
    first = load_checkpoint(write_official_structure(tmp_path / "RNA-FM-ResNet_PDB-TR1.pth"))
    assert save_checkpoint(first, tmp_path / "b.safetensors") == []
    second = load_checkpoint(tmp_path / "b.safetensors")
    same_head(first, second)
    assert second.threshold == 0.07595872 and second.head is not None
    words = Vocabulary.named("rna")
    save_checkpoint(second, tmp_path / "c.safetensors", vocabulary=words)
    third = load_checkpoint(tmp_path / "c.safetensors")
    same_head(first, third)
    assert third.threshold == 0.07595872 and third.vocabulary == words


def test_through_the_official_layout_and_back(tmp_path):
    path = write_official_structure(tmp_path / "RNA-FM-ResNet_bpRNA.pth")
    first = load_checkpoint(path)
    again = tmp_path / "copy_of_RNA-FM-ResNet_bpRNA.pth"
    notes = save_checkpoint(first, again, "official")
    assert not any("threshold" in note for note in notes)  # the name says it
    wanted, found = (torch.load(each, weights_only=True) for each in (path, again))
    contacts = {key for key in wanted if "contact_head" in key}
    assert found.keys() == wanted.keys() - contacts
    assert all(torch.equal(found[key], wanted[key].to(found[key].dtype)) for key in found)
    notes = save_checkpoint(first, tmp_path / "RNA-FM.pth", "official")
    assert "the decision threshold 0.477296 is lost: note it down" in notes


def test_through_multimolecule_and_back(tmp_path):
    directory = write_multimolecule_structure(tmp_path / "a")
    first = load_checkpoint(directory)
    save_checkpoint(first, tmp_path / "b", "multimolecule")
    wanted, found = (load_file(tmp_path / each / "model.safetensors") for each in "ab")
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key].to(found[key].dtype)) for key in found)
    values = json.loads((tmp_path / "b/config.json").read_text())
    assert values["head"] == HEAD | {"dropout": 0.3}
    assert values["architectures"] == ["RnaFmForSecondaryStructurePrediction"]
    bare = Checkpoint(first.encoder, structure_head=first.structure_head, threshold=0.5)
    notes = save_checkpoint(bare, tmp_path / "c", "multimolecule")
    second = load_checkpoint(tmp_path / "c")
    same_head(first, second)
    assert second.head is None and any("threshold 0.5 is lost" in note for note in notes)


def test_official_and_multimolecule_heads_predict_the_same(tmp_path):
    first = load_checkpoint(write_official_structure(tmp_path / "a.pth"))
    save_checkpoint(first, tmp_path / "b", "multimolecule", vocabulary=Vocabulary.named("rna"))
    second = load_checkpoint(tmp_path / "b")
    maps = []
    for each in (first, second):
        encoder, head = each.encoder.eval(), each.structure_head.eval()
        batch = random_batch([9, 5], each.vocabulary)
        inputs = batch.tokens, batch.cu_seqlens, batch.max_seqlen
        with torch.inference_mode():
            maps.append(head(encoder, *inputs, encoder(*inputs)))
    for one, other in zip(*maps, strict=True):
        assert one.std() > 1e-3 and (one - other).abs().max() < 1e-5


def test_a_full_size_head_is_known_by_its_tensors(tmp_path):
    config = EncoderConfig(num_layers=1, num_heads=20, ffn_dim=8, max_length=8)
    encoder = Encoder(config, Vocabulary.named("rna"))
    first = Checkpoint(encoder, structure_head=ResNetContactHead(config))
    save_checkpoint(first, tmp_path / "a", "multimolecule")
    head = load_checkpoint(tmp_path / "a").structure_head
    assert head.options == first.structure_head.options
    assert sum(parameter.numel() for parameter in head.parameters()) == 2_462_465
