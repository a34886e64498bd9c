"""The published secondary-structure head in the layouts that it comes in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnafm.checkpoints.keys import KeyTable, check_names, source_names
from rnafm.modules import EncoderConfig, ResNetContactHead

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

OFFICIAL_STRUCTURE: KeyTable = {
    "reduction": ("pre_reduction",),
    "projection": ("proj.first.0",),
    "blocks.*.norm": ("proj.resnet.*.bn1",),
    "blocks.*.conv1": ("proj.resnet.*.conv1",),
    "blocks.*.conv2": ("proj.resnet.*.conv2",),
    "prediction": ("proj.final",),
}
MULTIMOLECULE_STRUCTURE: KeyTable = {
    "reduction": ("reduction",),
    "projection": ("projection",),
    "blocks.*.norm": ("convnet.layers.*.bn1",),
    "blocks.*.conv1": ("convnet.layers.*.conv1",),
    "blocks.*.conv2": ("convnet.layers.*.conv2",),
    "prediction": ("prediction",),
}
OUR_STRUCTURE: KeyTable = {module: (module,) for module in OFFICIAL_STRUCTURE}

OFFICIAL_PREFIX = "downstream_modules.pc-resnet_1_sym_first:r-ss."
MULTIMOLECULE_PREFIX = "ss_head."
OUR_PREFIX = "structure_head."

_OFFICIAL_KEY = re.compile(r"downstream_modules\.pc-resnet_1_sym_first(?::[^.]*)?\.(.+)")
_THRESHOLDS = {"PDB-All": 0.33993712, "bpRNA": 0.47729617, "PDB-TR1": 0.07595872}
"""On probabilities; from the prediction options of the authors' repository, by file name."""


def split_official(tensors: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is not, and what is, in the structure head of an official file; the latter bare."""
    bare = {
        key: match[1] for key in tensors if (match := _OFFICIAL_KEY.fullmatch(str(key))) is not None
    }
    if "pre_reduction.weight" not in bare.values():  # the head of some other task
        bare = {}
    rest = {key: value for key, value in tensors.items() if key not in bare}
    return rest, {bare[key]: tensors[key] for key in bare}


def split_multimolecule(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same for MultiMolecule, whose contact regression has the name ``ss_head``, too."""
    bare = {key: _current(key) for key in tensors if key.startswith(MULTIMOLECULE_PREFIX)}
    if "reduction.weight" not in bare.values():
        bare = {}
    rest = {key: value for key, value in tensors.items() if key not in bare}
    return rest, {bare[key]: tensors[key] for key in bare}


def split_ours(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The same for files of our own."""
    rest = {key: value for key, value in tensors.items() if not key.startswith(OUR_PREFIX)}
    found = {
        key.removeprefix(OUR_PREFIX): value for key, value in tensors.items() if key not in rest
    }
    return rest, found


def structure_options(found: Mapping[str, Tensor], table: KeyTable) -> dict[str, int]:
    """Arguments of the head that its tensors show."""
    block = re.escape(table["blocks.*.conv1"][0]).replace(r"\*", r"(\d+)")
    numbers = [int(match[1]) for key in found if (match := re.match(block, key))]
    options = {"num_layers": max(numbers, default=-1) + 1}
    for name, module in (("reduction_dim", "reduction"), ("channels", "projection")):
        weight = found.get(f"{table[module][0]}.weight")
        if weight is not None:  # what is missing is named when all names are compared
            options[name] = len(weight)
    return options


def build_structure(
    found: Mapping[str, Tensor],
    table: KeyTable,
    config: EncoderConfig,
    options: Mapping[str, Any],
    place: str,
) -> ResNetContactHead:
    """The head from tensors under the names of a layout, as float32.

    Args:
        found: The tensors of the head, without prefix.
        table: Names of the layout.
        config: Shape of the encoder.
        options: Arguments of the head.
        place: What an error calls the file.

    Raises:
        ValueError: If a tensor is missing, left over, or has another shape than it should.
    """
    if not 0 <= options.get("num_layers", 0) <= len(found):
        raise ValueError(
            f"{place} says that the structure head has {options['num_layers']} layers, and holds "
            f"{len(found)} tensors of it; download it again"
        )
    with torch.device("meta"):
        head = ResNetContactHead(config, **options)
    template = head.state_dict()
    names = {key: source_names(key, table)[0] for key in template}
    expected = {names[key]: tuple(tensor.shape) for key, tensor in template.items()}
    check_names(found, expected, f"{place} (secondary-structure head)")
    state = {key: found[names[key]].to(template[key].dtype) for key in template}
    head.load_state_dict(state, assign=True)
    return head


def structure_state(
    head: ResNetContactHead | None, table: KeyTable, prefix: str
) -> dict[str, Tensor]:
    """The tensors of a head under the names of a layout, in memory of their own."""
    if head is None:
        return {}
    return {
        prefix + source_names(key, table)[0]: tensor.detach().cpu().clone()
        for key, tensor in head.state_dict().items()
    }


def structure_values(head: ResNetContactHead | None) -> dict[str, Any]:
    """What MultiMolecule's configuration says of a model with such a head; nothing without one."""
    if head is None:
        return {}
    options = head.options
    return {
        "architectures": ["RnaFmForSecondaryStructurePrediction"],
        "head": {
            "num_labels": 1,
            "num_layers": options["num_layers"],
            "num_channels": options["channels"],
            "hidden_size": options["reduction_dim"],
            "bias": False,
            "dropout": options["dropout"],
        },
    }


def published_threshold(path: Path) -> float | None:
    """The threshold that the authors chose for a file, known by its name."""
    return next((value for name, value in _THRESHOLDS.items() if name in path.stem), None)


def threshold_note(threshold: float | None) -> str:
    """What a reader of a published head is told."""
    if threshold is None:
        names = ", ".join(_THRESHOLDS)
        return (
            "the secondary-structure head comes without a decision threshold: the published ones "
            f"are known by the file names with {names}"
        )
    return f"the authors call nucleotides paired above a probability of {threshold:g}"


def _current(key: str) -> str:
    """The name of today, without prefix: up to 0.0.9 the blocks were not called layers."""
    bare = key.removeprefix(MULTIMOLECULE_PREFIX)
    return re.sub(r"^convnet\.(?=\d)", "convnet.layers.", bare)
