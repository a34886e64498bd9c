"""Sequences as text -> embeddings, in packs sorted by length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rnafm.data.vocabulary import OnUnknown
    from rnafm.modules.encoder import Encoder

Pool = Literal["mean", "cls"]


def embed_sequences(
    encoder: Encoder,
    sequences: Sequence[str],
    *,
    pool: Pool | None,
    layer: int,
    tokens_per_batch: int | None,
    on_unknown: OnUnknown,
    names: Sequence[str] | None = None,
) -> Tensor | list[Tensor]:
    """Embeddings of sequences; :meth:`rnafm.modules.Encoder.embed` says the rest."""
    if isinstance(sequences, str):
        raise TypeError("embed takes a list of sequences; put the one sequence in brackets: [...]")
    states = encoder.config.num_layers + 1
    if not -states <= layer < states:
        raise ValueError(f"there is no layer {layer}: the encoder has 0 to {states - 1}, or -1 ...")
    if pool not in ("mean", "cls", None):
        raise ValueError(f"pool is 'mean', 'cls' or None, not {pool!r}")
    if names is None:
        names = [f"sequence {number}" for number in range(1, len(sequences) + 1)]
    tokens = [
        torch.from_numpy(encoder.vocabulary.encode(sequence, on_unknown=on_unknown, name=name))
        for sequence, name in zip(sequences, names, strict=True)
    ]
    _check_lengths(tokens, names, encoder.config.max_length, pool)
    budget = tokens_per_batch or tokens_at_once(encoder.embed_tokens.weight.device)
    # Made outside inference mode: what callers get back may take part in training.
    weight = encoder.embed_tokens.weight
    shapes = [(len(ids) - 2 if pool is None else 1, weight.shape[1]) for ids in tokens]
    results = [torch.empty(shape, dtype=weight.dtype) for shape in shapes]
    training = [module for module in encoder.modules() if module.training]
    encoder.eval()
    try:
        with torch.inference_mode():
            for pack in packs_by_cost([len(ids) for ids in tokens], budget):
                _embed_pack(encoder, pack, tokens, results, pool, layer % states)
    finally:
        for module in training:
            module.training = True
    if pool is None:
        return results
    return torch.cat(results) if results else weight.new_empty(0, weight.shape[1], device="cpu")


def tokens_at_once(device: torch.device) -> int:
    """How many tokens a device computes best without gradients."""
    return 1024 if device.type == "cpu" else 65_536


def _check_lengths(
    tokens: list[Tensor], names: Sequence[str], max_length: int, pool: Pool | None
) -> None:
    for ids, name in zip(tokens, names, strict=True):
        length = len(ids) - 2
        if length > max_length:
            raise ValueError(
                f"{name} has {length} tokens, the encoder takes {max_length}; "
                "crop it, or embed it in windows and average them"
            )
        if length == 0 and pool == "mean":
            raise ValueError(f"{name} is empty, so it has no mean; leave it out, or use pool='cls'")


def packs_by_cost(costs: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Numbers of the sequences of each pack, the largest first: equal lengths lie side by side.

    Args:
        costs: What each sequence takes of the budget.
        budget: What a pack may cost; a sequence that costs more has a pack of its own.
    """
    pack: list[int] = []
    total = 0
    for number in sorted(range(len(costs)), key=lambda number: -costs[number]):
        if pack and total + costs[number] > budget:
            yield pack
            pack, total = [], 0
        pack.append(number)
        total += costs[number]
    if pack:
        yield pack


def _embed_pack(
    encoder: Encoder,
    pack: list[int],
    tokens: list[Tensor],
    results: list[Tensor],
    pool: Pool | None,
    layer: int,
) -> None:
    device = encoder.embed_tokens.weight.device
    lengths = [len(tokens[number]) for number in pack]
    packed = torch.cat([tokens[number] for number in pack]).to(device)
    bounds = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
    if layer == encoder.config.num_layers:
        embeddings = encoder(packed, bounds, max(lengths))
    else:
        embeddings = encoder.hidden_states(packed, bounds, max(lengths))[layer]
    parts = embeddings.split(lengths)
    if pool is not None:  # one copy from the device instead of one for each sequence
        vectors = [part[1:-1].mean(0) if pool == "mean" else part[0] for part in parts]
        parts = torch.stack(vectors).cpu().unbind(0)
    else:
        parts = tuple(part[1:-1] for part in torch.split(embeddings.cpu(), lengths))
    for number, part in zip(pack, parts, strict=True):
        results[number].copy_(part)
