"""Embedding rows from one vocabulary to another, token by token."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from rnafm.checkpoints.keys import OURS, build, state_of

if TYPE_CHECKING:
    from rnafm.checkpoints.base import Checkpoint
    from rnafm.data.vocabulary import Vocabulary

_SEED = 1016  # the seed and the spread with which MultiMolecule fills rows that nobody trained
_SPREAD = 0.02
_TOKENS = "encoder.embed_tokens.weight"
_BIAS = "head.bias"


def with_vocabulary(checkpoint: Checkpoint, vocabulary: Vocabulary) -> Checkpoint:
    """The same model with its token embeddings in the order of another vocabulary.

    Rows go by token string. ``<null>`` stands for ``<null_1>`` to ``<null_4>``, of which the last
    is kept. Tokens that only the new vocabulary has are filled as MultiMolecule fills them: ``X``
    with the mean of A, C, G and U, all others with fixed random numbers and a bias of 0.

    Args:
        checkpoint: Any; it stays as it is.
        vocabulary: With as many letters in a token as the checkpoint's.

    Returns:
        A new checkpoint; its notes name the tokens lost and the tokens never trained.

    Raises:
        ValueError: If one vocabulary has nucleotides and the other codons.
    """
    old = checkpoint.vocabulary
    if vocabulary == old:
        return checkpoint
    if vocabulary.letters_per_token != old.letters_per_token:
        raise ValueError(
            f"a model with tokens of {old.letters_per_token} letters cannot take the vocabulary "
            f"{vocabulary.name!r} with tokens of {vocabulary.letters_per_token}; "
            "choose one of the same kind"
        )
    sources = [_source(token, old) for token in vocabulary.tokens]
    state = state_of(checkpoint.encoder, checkpoint.head)
    state[_TOKENS] = _fill(state[_TOKENS], sources, vocabulary, old, random=True)
    if _BIAS in state:
        state[_BIAS] = _fill(state[_BIAS], sources, vocabulary, old, random=False)
    encoder, head = build(
        state,
        OURS,
        checkpoint.config,
        vocabulary,
        with_head=checkpoint.head is not None,
        place="the checkpoint with its new vocabulary",
    )
    trained_before = set(checkpoint.trained_ids)
    trained = tuple(i for i, source in enumerate(sources) if source in trained_before)
    notes = checkpoint.notes + _notes(sources, vocabulary, old)
    return replace(checkpoint, encoder=encoder, head=head, notes=notes, trained_ids=trained)


def _source(token: str, old: Vocabulary) -> int | None:
    """Which row of the old table a token takes."""
    if token in old.ids:
        return old.ids[token]
    if token == "<null>":  # noqa: S105
        return old.ids.get("<null_4>")
    return old.ids.get("<null>") if token.startswith("<null_") else None


def _fill(
    rows: Tensor, sources: list[int | None], new: Vocabulary, old: Vocabulary, *, random: bool
) -> Tensor:
    shape = (len(sources), *rows.shape[1:])
    result = torch.zeros(shape)
    if random:
        result = torch.normal(0.0, _SPREAD, shape, generator=torch.Generator().manual_seed(_SEED))
    for i, source in enumerate(sources):
        if source is not None:
            result[i] = rows[source]
        elif new.tokens[i] == "X" and old.standard_ids:
            result[i] = rows[list(old.standard_ids)].mean(0)
    return result


def _notes(sources: list[int | None], new: Vocabulary, old: Vocabulary) -> list[str]:
    notes = []
    lost = [token for i, token in enumerate(old.tokens) if i not in sources]
    if any(token.startswith("<null_") for token in lost):
        notes.append("<null> has the row of <null_4>; those of <null_1> to <null_3> are lost")
        lost = [token for token in lost if not token.startswith("<null_")]
    if "<null>" in old.ids and "<null_1>" in new.ids:
        notes.append("the rows of <null_1> to <null_4> are those of <null>")
        lost = [token for token in lost if token != "<null>"]  # noqa: S105
    if lost:
        notes.append(f"rows left out, the vocabulary {new.name!r} has no such tokens: {_say(lost)}")
    fresh = [token for token, source in zip(new.tokens, sources, strict=True) if source is None]
    if fresh:
        notes.append(f"untrained rows, made up for the vocabulary {new.name!r}: {_say(fresh)}")
    return notes


def _say(tokens: list[str]) -> str:
    if len(tokens) <= 8:  # noqa: PLR2004
        return " ".join(tokens)
    return f"{' '.join(tokens[:8])} ... ({len(tokens)} in all)"
