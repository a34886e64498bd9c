"""``rnafm fill-mask``: what a model expects at hidden places."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  # the command line reads the signature
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnafm.checkpoints import Checkpoint


def fill_mask(
    sequences: list[str],
    checkpoint: Path,
    *,
    top: int = 4,
    all_tokens: bool = False,
    json: bool = False,
) -> None:
    """Predict the tokens at <mask> in sequences, with probabilities.

    Args:
        sequences: Sequences with <mask> where a token is asked for, such as "GGUC<mask>CUC".
        checkpoint: Weights in any layout, or a training run's .ckpt.
        top: How many tokens are shown for each mask.
        all_tokens: Rank special tokens, and those that the checkpoint has no trained weights for,
            as well. Conversions leave random weights for the latter, so they often win.
        json: Print JSON instead of a table.
    """
    from rnafm.checkpoints import load_checkpoint

    if top < 1:
        raise ValueError(f"top ({top}) must be at least 1")
    source = load_checkpoint(checkpoint)
    for note in source.notes:
        print(f"{checkpoint}: {note}", file=sys.stderr)
    if source.head is None:
        raise ValueError(
            f"{checkpoint} has no masked-LM head, so it cannot fill masks; "
            "use a checkpoint of pretraining"
        )
    for sequence in sequences:
        if source.vocabulary.mask not in sequence:
            raise ValueError(
                f"{sequence!r} has no {source.vocabulary.mask}; write it where a token is asked for"
            )
    results = [_fill(source, sequence, top, all_tokens=all_tokens) for sequence in sequences]
    if json:
        import json as writer

        print(writer.dumps(results, indent=2))
    else:
        _show(results)


def _fill(source: Checkpoint, sequence: str, top: int, *, all_tokens: bool) -> dict[str, Any]:
    import torch

    vocabulary, encoder = source.vocabulary, source.encoder.eval()
    tokens = torch.from_numpy(vocabulary.encode(sequence, name=repr(sequence))).long()
    hidden = (tokens == vocabulary.mask_id).nonzero().flatten()
    with torch.no_grad():
        bounds = torch.tensor([0, len(tokens)], dtype=torch.int32)
        embeddings = encoder(tokens, bounds, len(tokens))
        assert source.head is not None  # noqa: S101  # checked by the caller
        logits = source.head(embeddings[hidden], encoder.embed_tokens.weight)
    if not all_tokens:
        known = set(source.trained_ids) - set(vocabulary.special_ids)
        unknown = [i for i in range(len(vocabulary)) if i not in known]
        logits[:, unknown] = -torch.inf
    best = logits.softmax(dim=-1).topk(min(top, len(vocabulary)))
    filled = tokens.clone()
    filled[hidden] = best.indices[:, 0]
    masks = [
        {
            "position": int(place),  # <cls> is token 0, so this counts tokens from 1
            "tokens": [
                {"token": vocabulary.tokens[i], "probability": round(p, 6)}
                for i, p in zip(ids, probabilities, strict=True)
                if p > 0
            ],
        }
        for place, ids, probabilities in zip(
            hidden, best.indices.tolist(), best.values.tolist(), strict=True
        )
    ]
    return {"sequence": sequence, "filled": vocabulary.decode(filled[1:-1]), "masks": masks}


def _show(results: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True)
    for result in results:
        table = Table(title=result["sequence"], title_justify="left", title_style="bold")
        table.add_column("position", justify="right")
        table.add_column("token, probability")
        for mask in result["masks"]:
            words = [f"{each['token']} {each['probability']:.3f}" for each in mask["tokens"]]
            table.add_row(str(mask["position"]), "   ".join(words))
        console.print(table)
        console.print(f"most likely: {result['filled']}", markup=False, highlight=False)
