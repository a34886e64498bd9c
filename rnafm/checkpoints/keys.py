"""Names of the parameters in each layout, and modules built from tensors under such names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnafm.modules import Encoder, EncoderConfig, MaskedLMHead

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rnafm.data.vocabulary import Vocabulary

KeyTable = dict[str, tuple[str, ...]]
"""Our module -> theirs, three where we fuse query, key and value; ``*`` is a number."""

OFFICIAL: KeyTable = {
    "encoder.embed_tokens": ("embed_tokens",),
    "encoder.embed_positions": ("embed_positions",),
    "encoder.embed_norm": ("emb_layer_norm_before",),
    "encoder.blocks.*.attention_norm": ("layers.*.self_attn_layer_norm",),
    "encoder.blocks.*.qkv": tuple(f"layers.*.self_attn.{name}_proj" for name in "qkv"),
    "encoder.blocks.*.out": ("layers.*.self_attn.out_proj",),
    "encoder.blocks.*.ffn_norm": ("layers.*.final_layer_norm",),
    "encoder.blocks.*.fc1": ("layers.*.fc1",),
    "encoder.blocks.*.fc2": ("layers.*.fc2",),
    "encoder.final_norm": ("emb_layer_norm_after",),
    "head": ("lm_head",),
    "head.dense": ("lm_head.dense",),
    "head.norm": ("lm_head.layer_norm",),
}

_LAYER = "model.encoder.layer.*"
MULTIMOLECULE: KeyTable = {
    "encoder.embed_tokens": ("model.embeddings.word_embeddings",),
    "encoder.embed_positions": ("model.embeddings.position_embeddings",),
    "encoder.embed_norm": ("model.embeddings.layer_norm",),
    "encoder.blocks.*.attention_norm": (f"{_LAYER}.attention.layer_norm",),
    "encoder.blocks.*.qkv": tuple(
        f"{_LAYER}.attention.self.{name}" for name in ("query", "key", "value")
    ),
    "encoder.blocks.*.out": (f"{_LAYER}.attention.output.dense",),
    "encoder.blocks.*.ffn_norm": (f"{_LAYER}.layer_norm",),
    "encoder.blocks.*.fc1": (f"{_LAYER}.intermediate.dense",),
    "encoder.blocks.*.fc2": (f"{_LAYER}.output.dense",),
    "encoder.final_norm": ("model.encoder.layer_norm",),
    "head": ("lm_head",),
    "head.dense": ("lm_head.transform.dense",),
    "head.norm": ("lm_head.transform.layer_norm",),
}

OURS: KeyTable = {module: (module,) for module in OFFICIAL}

_SHOWN = 6  # names of each kind in a message


def to_layout(state: Mapping[str, Tensor], table: KeyTable) -> dict[str, Tensor]:
    """Tensors under our names -> tensors under theirs, in memory of their own."""
    result: dict[str, Tensor] = {}
    for key, tensor in state.items():
        names = source_names(key, table)
        parts = tensor.detach().cpu().chunk(len(names))
        result.update(
            (name, part.clone(memory_format=torch.contiguous_format))
            for name, part in zip(names, parts, strict=True)
        )
    return result


def source_names(key: str, table: KeyTable) -> tuple[str, ...]:
    """Their names for one of our parameters.

    Examples:
        >>> source_names("encoder.blocks.3.fc1.bias", OFFICIAL)
        ('layers.3.fc1.bias',)
    """
    module, _, leaf = key.rpartition(".")
    number = re.search(r"\.(\d+)\.", key)
    templates = table[re.sub(r"\.\d+\.", ".*.", module)]
    return tuple(f"{name.replace('*', number[1] if number else '')}.{leaf}" for name in templates)


def state_of(encoder: Encoder, head: MaskedLMHead | None) -> dict[str, Tensor]:
    """All parameters of encoder and head under our names."""
    state = {f"encoder.{key}": tensor for key, tensor in encoder.state_dict().items()}
    if head is not None:
        state.update((f"head.{key}", tensor) for key, tensor in head.state_dict().items())
    return state


def build(
    found: Mapping[str, Tensor],
    table: KeyTable,
    config: EncoderConfig,
    vocabulary: Vocabulary,
    *,
    with_head: bool,
    place: str,
) -> tuple[Encoder, MaskedLMHead | None]:
    """Encoder and head from tensors under the names of a layout, as float32.

    Args:
        found: The tensors of a file, and no others than the table knows.
        table: Names of the layout.
        config: Shape of the encoder.
        vocabulary: Its tokens.
        with_head: Whether a masked-LM head is among the tensors.
        place: What an error calls the file.

    Raises:
        ValueError: If a tensor is missing, left over, or has another shape than it should; one
            message names all of them.
    """
    if not 0 < config.num_layers <= len(found):  # no time is spent on what cannot be there
        raise ValueError(
            f"{place} says that the encoder has {config.num_layers} layers, and holds "
            f"{len(found)} tensors; check that configuration and weights belong together"
        )
    with torch.device("meta"):  # shapes only: no memory, no random numbers
        encoder = Encoder(config, vocabulary)
        head = (
            MaskedLMHead(config.embed_dim, len(vocabulary), config.layer_norm_eps)
            if with_head
            else None
        )
    template = state_of(encoder, head)
    names = {key: source_names(key, table) for key in template}
    expected = {
        name: (len(template[key]) // len(parts), *template[key].shape[1:])
        for key, parts in names.items()
        for name in parts
    }
    check_names(found, expected, place)
    state = {
        key: torch.cat([found[name].to(torch.float32) for name in parts])
        for key, parts in names.items()
    }
    for prefix, module in (("encoder.", encoder), ("head.", head)):
        if module is not None:
            own = {key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)}
            module.load_state_dict(own, assign=True)
    return encoder, head


def check_names(
    found: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], place: str
) -> None:
    """Refuse tensors whose names or shapes differ from those expected, naming all that do."""
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    misshaped = [
        f"{name} {tuple(found[name].shape)} instead of {shape}"
        for name, shape in expected.items()
        if name in found and tuple(found[name].shape) != shape
    ]
    if not missing and not unexpected and not misshaped:
        return
    kinds = (("missing", missing), ("unexpected", unexpected), ("wrong shape", misshaped))
    listed = "; ".join(f"{kind}: {shorten(names)}" for kind, names in kinds if names)
    raise ValueError(
        f"{place} does not hold the weights that its configuration asks for. {listed}. "
        "Download it again if it may be cut off, check that configuration and weights belong "
        "together, or name its layout instead of leaving it to be guessed"
    )


def shorten(names: Iterable[str]) -> str:
    """Some of the names, and how many there are beyond them."""
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
