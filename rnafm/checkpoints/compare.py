"""Two checkpoints side by side: do they say the same?"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from rnafm.checkpoints.base import Checkpoint

_SEQUENCES, _LENGTH = 4, 64  # of the batch on which they are compared


def largest_difference(first: Checkpoint, second: Checkpoint) -> float:
    """Largest difference of the logits of a fixed random batch, over the tokens that both have.

    Embeddings take the place of logits where either has no masked-LM head. Both encoders are left
    in evaluation mode.
    """
    shared = [token for token in first.vocabulary.tokens if token in second.vocabulary.ids]
    generator = torch.Generator().manual_seed(0)
    length = min(_LENGTH, first.config.max_length)
    words = [first.vocabulary.tokens[i] for i in first.vocabulary.standard_ids]
    picks = torch.randint(len(words), (_SEQUENCES, length), generator=generator)
    lines = [[words[i] for i in row] for row in picks.tolist()]
    # Every token that both have, too: a swapped row of a rare one would not show otherwise.
    lines += [shared[i : i + length] for i in range(0, len(shared), length)]
    heads = first.head is not None and second.head is not None
    ours, theirs = (_outputs(each, lines, shared, heads=heads) for each in (first, second))
    return float((ours - theirs).abs().max())


def properties(checkpoint: Checkpoint) -> dict[str, str]:
    """What a table shows of a checkpoint."""
    config, vocabulary = checkpoint.config, checkpoint.vocabulary
    modules = [module for module in (checkpoint.encoder, checkpoint.head) if module is not None]
    count = sum(parameter.numel() for module in modules for parameter in module.parameters())
    shape = ("num_layers", "embed_dim", "num_heads", "ffn_dim", "max_length", "layer_norm_eps")
    return {name: f"{getattr(config, name):,}" for name in shape} | {
        "vocabulary": f"{vocabulary.name} ({len(vocabulary)})",
        "trained tokens": str(len(checkpoint.trained_ids)),
        "masked-LM head": "no" if checkpoint.head is None else "yes",
        "parameters": f"{count:,}",
    }


def _outputs(
    checkpoint: Checkpoint, lines: list[list[str]], shared: list[str], *, heads: bool
) -> Tensor:
    encoder, words = checkpoint.encoder.eval(), checkpoint.vocabulary
    ids = [[words.cls_id, *(words.ids[token] for token in line), words.eos_id] for line in lines]
    tokens = torch.tensor([token for line in ids for token in line])
    cu_seqlens = torch.tensor([0, *map(len, ids)]).cumsum(0).to(torch.int32)
    with torch.inference_mode():
        embeddings: Tensor = encoder(tokens, cu_seqlens, max(map(len, ids)))
        if not heads or checkpoint.head is None:
            return embeddings
        # In double precision: matrices of two sizes of vocabulary round differently.
        head = copy.deepcopy(checkpoint.head).double()
        logits: Tensor = head(embeddings.double(), encoder.embed_tokens.weight.double())
    return logits[:, [words.ids[token] for token in shared]]
