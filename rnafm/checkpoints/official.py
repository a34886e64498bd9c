"""The layout of the authors' ``fm`` package: a fairseq checkpoint, ``.pth``.

Files with the secondary-structure head are flat: ``backbone.*`` and ``downstream_modules.*``.
"""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rnafm.checkpoints.base import Checkpoint, LoadOptions
from rnafm.checkpoints.keys import OFFICIAL, build, shorten, state_of, to_layout
from rnafm.checkpoints.rows import with_vocabulary
from rnafm.checkpoints.structure import (
    OFFICIAL_PREFIX,
    OFFICIAL_STRUCTURE,
    build_structure,
    published_threshold,
    split_official,
    structure_options,
    structure_state,
    threshold_note,
)
from rnafm.data.vocabulary import Vocabulary
from rnafm.files import atomic
from rnafm.modules import EncoderConfig

if TYPE_CHECKING:
    from pathlib import Path

_KNOWN_HEADS = {640: 20, 1280: 20}  # RNA-FM and mRNA-FM, for files that do not say
_PREFIX = "encoder.encoder."  # of the released files


def read_official(content: dict[str, Any], path: Path, options: LoadOptions) -> Checkpoint:
    """A checkpoint from the content of a ``.pth`` file: ``args`` and ``model``, or weights only."""
    args = {
        name.rpartition("encoder_")[2]: value
        for name, value in vars(content.get("args") or Namespace()).items()
    }
    if args.get("token_dropout"):
        raise ValueError(
            f"{path}: trained with token_dropout, which scales embeddings at every use and is not "
            "offered here; no released RNA-FM or mRNA-FM has it"
        )
    model, structure = split_official(content.get("model", content))
    found, notes = _bare(model, path)
    contacts = found.pop("contact_head.regression.weight", None)
    if contacts is not None:
        found.pop("contact_head.regression.bias", None)
        notes.append("the contact head (contact_head.*, never trained) was left out")
    config = _config(found, args, contacts, path, options)
    vocabulary = _vocabulary(found, path)
    if "lm_head.weight" in found:
        decoder = found.pop("lm_head.weight")
        if not torch.equal(decoder, found["embed_tokens.weight"]):
            # One parameter in the fm package: what is read last, the decoder, is what stays.
            found["embed_tokens.weight"] = decoder
            notes.append("embeddings and decoder differ in the file: the decoder was used for both")
    encoder, head = build(
        found,
        OFFICIAL,
        config,
        vocabulary,
        with_head=any(name.startswith("lm_head.") for name in found),
        place=str(path),
    )
    trained = tuple(i for i, token in enumerate(vocabulary.tokens) if not token.startswith("<null"))
    if not structure:
        return Checkpoint(encoder, head, notes, trained)
    shape = structure_options(structure, OFFICIAL_STRUCTURE)
    structure_head = build_structure(structure, OFFICIAL_STRUCTURE, config, shape, str(path))
    threshold = published_threshold(path)
    notes.append(threshold_note(threshold))
    return Checkpoint(encoder, head, notes, trained, structure_head, threshold)


def write_official(checkpoint: Checkpoint, path: Path) -> list[str]:
    """Write a ``.pth`` file that the ``fm`` package reads.

    Returns:
        What could not be kept, and what the reader has to know.
    """
    codons = checkpoint.vocabulary.letters_per_token == 3  # noqa: PLR2004
    target = Vocabulary.named("official-codon" if codons else "official-rna")
    if checkpoint.head is None:
        raise ValueError(
            "the official layout needs a masked-LM head, and this checkpoint has none; "
            "write layout 'rnafm' or 'multimolecule'"
        )
    changed = with_vocabulary(checkpoint, target)
    state = to_layout(state_of(changed.encoder, changed.head), OFFICIAL)
    # A copy: if storage were shared, the fm package's loader would set the <mask> row to 0.
    state["lm_head.weight"] = state["embed_tokens.weight"].clone()
    config = changed.config
    args = Namespace(
        arch="roberta_large",
        layers=config.num_layers,
        embed_dim=config.embed_dim,
        ffn_embed_dim=config.ffn_dim,
        attention_heads=config.num_heads,
        max_positions=config.max_length + 2,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        emb_layer_norm_before=config.embed_norm,
    )
    structure = structure_state(checkpoint.structure_head, OFFICIAL_STRUCTURE, OFFICIAL_PREFIX)
    prefix = "backbone." if structure else _PREFIX
    model = {f"{prefix}{name}": tensor for name, tensor in state.items()} | structure
    # To an open file: torch would put the name of the temporary one into the archive.
    with atomic(path) as temporary, temporary.open("wb") as file:
        torch.save(model if structure else {"args": args, "model": model}, file)
    notes = [note for note in changed.notes if note not in checkpoint.notes]
    if checkpoint.threshold is not None and checkpoint.threshold != published_threshold(path):
        notes.append(f"the decision threshold {checkpoint.threshold:g} is lost: note it down")
    stem = "CDS-FM" if codons else "RNA-FM"
    if stem not in path.stem:
        notes.append(f"the fm package only loads files with {stem!r} in their name: rename it")
    notes.append("there is no contact head (never trained): the fm package warns, and goes on")
    if config.layer_norm_eps != EncoderConfig.layer_norm_eps:
        notes.append(f"layer_norm_eps {config.layer_norm_eps:g} is lost: the fm package has 1e-05")
    return notes


def _bare(model: dict[str, Any], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Weights without the prefixes that they have come with over time."""
    found: dict[str, Tensor] = {}
    other = []
    for key, tensor in model.items():
        name = key.rpartition("encoder.")[2].removeprefix("backbone.")
        if key.startswith("downstream_modules."):
            other.append(key)
        elif isinstance(tensor, Tensor) and name not in (
            "version",
            "embed_positions._float_tensor",
        ):
            found[name] = tensor
    essential = ("embed_tokens.weight", "embed_positions.weight", "layers.0.fc1.weight")
    missing = [name for name in essential if name not in found]
    if missing:
        raise ValueError(
            f"{path} is no RNA-FM checkpoint: missing: {', '.join(missing)}; "
            f"it has: {shorten(str(key) for key in model) or 'nothing'}. Pass the file that the "
            "authors published, or a state_dict under their names"
        )
    notes = [f"{len(other)} tensors of another head (downstream_modules.*) were left out"]
    return found, notes if other else []


def _config(
    found: dict[str, Tensor],
    args: dict[str, Any],
    contacts: Tensor | None,
    path: Path,
    options: LoadOptions,
) -> EncoderConfig:
    """Shapes speak for themselves; only the number of heads must be known from elsewhere."""
    numbers = [int(name.split(".")[1]) for name in found if name.startswith("layers.")]
    num_layers = int(args.get("layers", max(numbers) + 1))
    has_norm = "emb_layer_norm_before.weight" in found
    positions, embed_dim = found["embed_positions.weight"].shape
    num_heads = options.num_heads or args.get("attention_heads")
    if num_heads is None and contacts is not None:
        num_heads = contacts.shape[1] // num_layers  # one weight for each head of each layer
    if num_heads is None:
        num_heads = _KNOWN_HEADS.get(embed_dim)
    if num_heads is None:
        raise ValueError(
            f"{path} has no args, so the number of attention heads is unknown, and embed_dim "
            f"{embed_dim} is neither RNA-FM's 640 nor mRNA-FM's 1280; give num_heads"
        )
    return EncoderConfig(
        num_layers=num_layers,
        embed_dim=embed_dim,
        num_heads=int(num_heads),
        ffn_dim=len(found["layers.0.fc1.weight"]),
        max_length=positions - 4,
        embed_norm=bool(args.get("emb_layer_norm_before", has_norm)),
        dropout=float(args.get("dropout", EncoderConfig.dropout)),
        attention_dropout=float(args.get("attention_dropout", EncoderConfig.attention_dropout)),
        layer_norm_eps=options.layer_norm_eps or EncoderConfig.layer_norm_eps,
    )


def _vocabulary(found: dict[str, Tensor], path: Path) -> Vocabulary:
    rows = len(found["embed_tokens.weight"])
    names = ("official-rna", "official-codon")
    for name in names:
        if rows == len(Vocabulary.named(name)):
            return Vocabulary.named(name)
    sizes = " and ".join(f"{len(Vocabulary.named(name))} ({name})" for name in names)
    raise ValueError(
        f"{path} has embeddings for {rows} tokens, the official vocabularies have {sizes}; "
        "weights with another vocabulary belong in a layout that stores it: .safetensors"
    )
