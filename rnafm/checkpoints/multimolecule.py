"""The layout of MultiMolecule: a directory with ``config.json``, ``vocab.txt`` and weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnafm.checkpoints.base import Checkpoint, LoadOptions, write_tensors
from rnafm.checkpoints.keys import MULTIMOLECULE, build, state_of, to_layout
from rnafm.checkpoints.rows import with_vocabulary
from rnafm.checkpoints.structure import (
    MULTIMOLECULE_PREFIX,
    MULTIMOLECULE_STRUCTURE,
    build_structure,
    split_multimolecule,
    structure_options,
    structure_state,
    structure_values,
    threshold_note,
)
from rnafm.data.vocabulary import BUILT_IN, Vocabulary
from rnafm.files import atomic
from rnafm.modules import EncoderConfig

if TYPE_CHECKING:
    from pathlib import Path

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
_VOCABULARY = "vocab.txt"
_WRONG_EPS = 1e-12  # in configurations up to MultiMolecule 0.1; the models were trained with 1e-5
_REQUIRED = {
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "token_dropout": False,
    "is_decoder": False,
}
_OLD_PREFIXES = (  # of versions up to 0.0.8, and of a bare RnaFmModel
    ("rnafm.", "model."),
    ("pretrain.predictions.", "lm_head."),
    ("pretrain.contact_head.", "ss_head."),
    ("embeddings.", "model.embeddings."),
    ("encoder.", "model.encoder."),
    ("pooler.", "model.pooler."),
)
_CODONS = 3


def read_multimolecule(
    tensors: dict[str, Tensor], directory: Path, options: LoadOptions
) -> Checkpoint:
    """A checkpoint from the weights of a directory, with its configuration and vocabulary."""
    values = _read_config(directory)
    tensors, structure = split_multimolecule(tensors)
    found, notes = _current_names(tensors)
    eps = float(values.get("layer_norm_eps", EncoderConfig.layer_norm_eps))
    if options.layer_norm_eps is not None:
        eps = options.layer_norm_eps
    elif eps == _WRONG_EPS:
        eps = EncoderConfig.layer_norm_eps
        notes.append(
            f"{CONFIG} says layer_norm_eps 1e-12, but RNA-FM was trained with 1e-05, which is "
            "used; to keep theirs, give layer_norm_eps=1e-12"
        )
    has_norm = "model.embeddings.layer_norm.weight" in found
    try:
        config = EncoderConfig(
            num_layers=values["num_hidden_layers"],
            embed_dim=values["hidden_size"],
            num_heads=values["num_attention_heads"],
            ffn_dim=values["intermediate_size"],
            max_length=values["max_position_embeddings"] - 4,
            embed_norm=values.get("embed_norm", values.get("emb_layer_norm_before", has_norm)),
            dropout=values.get("hidden_dropout", EncoderConfig.dropout),
            attention_dropout=values.get("attention_dropout", EncoderConfig.attention_dropout),
            layer_norm_eps=eps,
        )
    except KeyError as error:
        raise ValueError(f"{directory / CONFIG} has no {error}; download it again") from None
    vocabulary = _read_vocabulary(directory, values, found, notes)
    encoder, head = build(
        found,
        MULTIMOLECULE,
        config,
        vocabulary,
        with_head=any(name.startswith("lm_head.") for name in found),
        place=str(directory),
    )
    official = BUILT_IN[
        "official-codon" if vocabulary.letters_per_token == _CODONS else "official-rna"
    ]
    trained = tuple(i for i, token in enumerate(vocabulary.tokens) if token in official.ids)
    if not structure:
        return Checkpoint(encoder, head, notes, trained)
    shape: dict[str, Any] = structure_options(structure, MULTIMOLECULE_STRUCTURE)
    if values.get("head"):  # their default without it is ours, 0.3
        shape["dropout"] = values["head"].get("dropout", 0.0)
    structure_head = build_structure(
        structure, MULTIMOLECULE_STRUCTURE, config, shape, str(directory)
    )
    notes.append(threshold_note(None))
    return Checkpoint(encoder, head, notes, trained, structure_head)


def write_multimolecule(checkpoint: Checkpoint, directory: Path) -> list[str]:
    """Write a directory that ``multimolecule`` loads with ``from_pretrained``.

    Returns:
        What could not be kept.
    """
    name = checkpoint.vocabulary.name
    changed = checkpoint
    if name.startswith("official-"):
        changed = with_vocabulary(checkpoint, BUILT_IN[name.removeprefix("official-")])
    state = to_layout(state_of(changed.encoder, changed.head), MULTIMOLECULE)
    structure = structure_state(
        checkpoint.structure_head, MULTIMOLECULE_STRUCTURE, MULTIMOLECULE_PREFIX
    )
    if changed.head is None and not structure:  # a bare RnaFmModel
        state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    values = _config_values(changed) | structure_values(checkpoint.structure_head)
    vocabulary = changed.vocabulary
    directory.mkdir(parents=True, exist_ok=True)
    codons = vocabulary.letters_per_token == _CODONS
    tokenizer = {
        "tokenizer_class": "RnaTokenizer",
        "codon": codons,
        "model_max_length": changed.config.max_length + 2,
    }
    texts = {
        CONFIG: json.dumps(values, indent=2) + "\n",
        _VOCABULARY: "\n".join(vocabulary.tokens) + "\n",
        "tokenizer_config.json": json.dumps(tokenizer, indent=2) + "\n",
    }
    for file, text in texts.items():
        with atomic(directory / file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_tensors(state | structure, directory / WEIGHTS, {"format": "pt"})
    notes = [note for note in changed.notes if note not in checkpoint.notes]
    if checkpoint.threshold is not None:
        notes.append(f"the decision threshold {checkpoint.threshold:g} is lost: note it down")
    notes.append("there is no pooler (never trained): multimolecule starts one at random if asked")
    return notes


def _config_values(checkpoint: Checkpoint) -> dict[str, Any]:
    config, vocabulary = checkpoint.config, checkpoint.vocabulary
    values: dict[str, Any] = {
        "model_type": "rnafm",
        "architectures": ["RnaFmForMaskedLM" if checkpoint.head is not None else "RnaFmModel"],
        "dtype": "float32",
        "vocab_size": len(vocabulary),
        "codon": vocabulary.letters_per_token == _CODONS,
        "hidden_size": config.embed_dim,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "intermediate_size": config.ffn_dim,
        "hidden_dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "max_position_embeddings": config.max_length + 4,
        "initializer_range": 0.02,
        "layer_norm_eps": config.layer_norm_eps,
        "embed_norm": config.embed_norm,
        "tie_word_embeddings": True,
        **_REQUIRED,
    }
    roles = {"pad": "pad", "bos": "cls", "eos": "eos", "unk": "unk", "mask": "mask"}
    for theirs, ours in roles.items():
        values[f"{theirs}_token_id"] = getattr(vocabulary, f"{ours}_id")
    values["null_token_id"] = vocabulary.ids.get("<null>")
    if checkpoint.head is not None:
        values["lm_head"] = {
            "dropout": 0.0,
            "transform": "nonlinear",
            "transform_act": "gelu",
            "bias": True,
            "act": None,
            "layer_norm_eps": config.layer_norm_eps,
        }
    return values


def _read_config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; a MultiMolecule checkpoint is a directory with {CONFIG}, "
            f"{_VOCABULARY} and {WEIGHTS}: download all of it"
        )
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON ({error}); download it again") from error
    for name, value in _REQUIRED.items():
        if values.get(name, value) != value:
            raise ValueError(
                f"{path} says {name} {values[name]!r}, and only {value!r} is offered here; "
                "use multimolecule for this model"
            )
    return values


def _current_names(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Weights under today's names, without what the encoder and its head have no place for."""
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        name = key
        for old, new in _OLD_PREFIXES:
            if key.startswith(old):
                name = new + key[len(old) :]
                break
        if name == key or name not in tensors:  # old files hold some tensors twice
            found[name] = tensor
    notes = []
    decoder = found.pop("lm_head.decoder.weight", None)
    tokens = found.get("model.embeddings.word_embeddings.weight")
    if decoder is not None and tokens is not None and not torch.equal(decoder, tokens):
        notes.append(
            "the decoder of lm_head is not tied to the embeddings: the embeddings are used"
        )
    bias = found.pop("lm_head.decoder.bias", None)
    if bias is not None:
        found.setdefault("lm_head.bias", bias)
    found.pop("model.embeddings.position_ids", None)
    parts = {name.partition("_head.")[0] + "_head" for name in found if "_head." in name}
    for part in [*sorted(parts - {"lm_head"}), "model.pooler"]:
        names = [name for name in found if name.startswith(f"{part}.")]
        for name in names:
            del found[name]
        if names:
            notes.append(f"{part} was left out ({len(names)} tensors)")
    return found, notes


def _read_vocabulary(
    directory: Path, values: dict[str, Any], found: dict[str, Tensor], notes: list[str]
) -> Vocabulary:
    """From ``vocab.txt``; by size where there is none, or where it does not fit the weights."""
    path = directory / _VOCABULARY
    tokens = tuple(path.read_text(encoding="utf-8").split()) if path.is_file() else ()
    table = found.get("model.embeddings.word_embeddings.weight")
    size = values.get("vocab_size") if table is None else len(table)
    if tokens and len(tokens) == size:
        codons = any(len(token) == _CODONS and token.isalpha() for token in tokens)
        return Vocabulary(tokens, letters_per_token=_CODONS if codons else 1)
    for name in ("rna", "rna-28", "codon"):
        if len(BUILT_IN[name]) == size:
            reason = f"{path} has {len(tokens)} tokens" if tokens else f"there is no {_VOCABULARY}"
            notes.append(f"{reason}: taken by its size of {size}, the vocabulary is {name!r}")
            return BUILT_IN[name]
    raise ValueError(
        f"{path} has {len(tokens)} tokens, but the weights have {size} embeddings, and no "
        f"vocabulary of that size is known; put the {_VOCABULARY} of these weights there"
    )
