"""Our own layouts: one ``.safetensors`` file, and what Lightning's ``.ckpt`` holds."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

import torch
import xxhash

from rnafm.checkpoints.base import Checkpoint, LoadOptions, write_tensors
from rnafm.checkpoints.keys import OURS, build, state_of, to_layout
from rnafm.checkpoints.lora import merge_lora
from rnafm.checkpoints.structure import (
    OUR_PREFIX,
    OUR_STRUCTURE,
    build_structure,
    split_ours,
    structure_state,
)
from rnafm.data.vocabulary import Vocabulary
from rnafm.files import beside
from rnafm.modules import EncoderConfig

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

FORMAT_KEY = "rnafm_format"
_FORMAT = 1
_STRUCTURE_KEY = "structure_head"
DIGEST_KEY = "xxh3_128"
_KNOWN = {FORMAT_KEY, "format", "encoder", "vocabulary", "trained_ids", _STRUCTURE_KEY, "threshold"}
_HEAD_KEYS = ("head.dense.weight", "head.norm.weight", "head.bias")


def read_native(
    tensors: dict[str, Tensor], metadata: Mapping[str, str], path: Path, options: LoadOptions
) -> Checkpoint:
    """A checkpoint from tensors and metadata of a file that :func:`write_native` wrote."""
    number = metadata.get(FORMAT_KEY, str(_FORMAT))
    if number != str(_FORMAT):
        raise ValueError(
            f"{path} has format {number}, this version of rnafm reads up to {_FORMAT}; upgrade it"
        )
    _check_digest(tensors, metadata, path)
    config = _config(json.loads(metadata["encoder"]), path, options)
    vocabulary = Vocabulary.from_dict(json.loads(metadata["vocabulary"]))
    tensors, structure = split_ours(tensors)
    with_head = any(key.startswith("head.") for key in tensors)
    encoder, head = build(tensors, OURS, config, vocabulary, with_head=with_head, place=str(path))
    trained = tuple(int(i) for i in json.loads(metadata.get("trained_ids", "[]")))
    structure_head = None
    if structure:
        values = json.loads(metadata[_STRUCTURE_KEY])
        structure_head = build_structure(structure, OUR_STRUCTURE, config, values, str(path))
    threshold = float(metadata["threshold"]) if "threshold" in metadata else None
    return Checkpoint(encoder, head, [], trained, structure_head, threshold)


def write_native(checkpoint: Checkpoint, path: Path) -> list[str]:
    """Write a ``.safetensors`` file that keeps everything.

    Returns:
        Nothing to say.
    """
    metadata = {
        FORMAT_KEY: str(_FORMAT),
        "format": "pt",
        "encoder": json.dumps(asdict(checkpoint.config)),
        "vocabulary": json.dumps(checkpoint.vocabulary.to_dict()),
        "trained_ids": json.dumps(checkpoint.trained_ids),
    }
    if checkpoint.structure_head is not None:
        metadata[_STRUCTURE_KEY] = json.dumps(checkpoint.structure_head.options)
    if checkpoint.threshold is not None:
        metadata["threshold"] = repr(checkpoint.threshold)
    state = to_layout(state_of(checkpoint.encoder, checkpoint.head), OURS)
    state |= structure_state(checkpoint.structure_head, OUR_STRUCTURE, OUR_PREFIX)
    metadata[DIGEST_KEY] = _digest(state, metadata)
    write_tensors(state, path, metadata)
    return []


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Of all that a file says: one flipped bit of it gives another digest."""
    digest = xxhash.xxh3_128()
    digest.update(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str], path: Path) -> None:
    """Refuse a file that is not what was written; the first ones have no digest."""
    rest = {key: value for key, value in metadata.items() if key != DIGEST_KEY}
    found = metadata.get(DIGEST_KEY)
    # Without one, what is not known may be its name with a flipped bit.
    damaged = found != _digest(tensors, rest) if found is not None else set(rest) - _KNOWN
    if damaged:
        raise ValueError(f"{path} is damaged: its content is not what was written{beside(path)}")


def read_lightning(content: dict[str, Any], path: Path, options: LoadOptions) -> Checkpoint:
    """Encoder and head of a training run, from the content of its ``.ckpt`` file.

    Low-rank additions become part of the weights. Heads of other tasks than masked-LM stay behind,
    with a note.
    """
    values = content.get("hyper_parameters", {})
    absent = [name for name in ("encoder", "vocabulary") if name not in values]
    if absent:
        raise ValueError(
            f"{path} is a Lightning checkpoint without hyper_parameters {' and '.join(absent)}, "
            "so it was not written by an rnafm task; export its encoder's state_dict instead"
        )
    state = merge_lora(content["state_dict"])
    kept = {key: tensor for key, tensor in state.items() if key.startswith("encoder.")}
    with_head = all(key in state for key in _HEAD_KEYS)
    if with_head:
        kept.update((key, state[key]) for key in state if key.startswith("head."))
    encoder, head = build(
        kept,
        OURS,
        _config(values["encoder"], path, options),
        Vocabulary.from_dict(values["vocabulary"]),
        with_head=with_head,
        place=str(path),
    )
    left = sorted(
        {key.partition(".")[0] for key in state} - {key.partition(".")[0] for key in kept}
    )
    notes = [f"other parts of the task were left out: {', '.join(left)}"] if left else []
    return Checkpoint(encoder, head, notes, tuple(content.get("trained_ids", ())))


def _config(values: dict[str, Any], path: Path, options: LoadOptions) -> EncoderConfig:
    known = {field.name for field in fields(EncoderConfig)}
    strange = sorted(set(values) - known)
    if strange:
        raise ValueError(
            f"{path}: the encoder has options that this version of rnafm does not know: "
            f"{', '.join(strange)}; upgrade rnafm"
        )
    config = EncoderConfig(**values)
    if options.layer_norm_eps is not None:
        config = replace(config, layer_norm_eps=options.layer_norm_eps)
    return config
