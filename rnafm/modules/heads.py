"""Predictors that read embeddings."""

from __future__ import annotations

import math
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pooling = Literal["mean", "cls", "attention"]
_POOLINGS = ("mean", "cls", "attention")


class MaskedLMHead(nn.Module):
    """Logits over the vocabulary, with the decoder tied to the token embeddings.

    Dense layer, exact GELU, LayerNorm, then the embedding matrix and a bias of its own. The matrix
    is an argument of :meth:`forward`, so it stays a parameter of the encoder only.

    Args:
        embed_dim: Width of the embeddings, D.
        vocab_size: Number of tokens, V.
        eps: Added to the variance in the LayerNorm.
    """

    def __init__(self, embed_dim: int, vocab_size: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.dense = nn.Linear(embed_dim, embed_dim)
        self.norm = nn.LayerNorm(embed_dim, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)

    def forward(self, embeddings: Tensor, embed_weight: Tensor) -> Tensor:
        """Logits of the given positions.

        Args:
            embeddings: Output of the encoder at M positions, (M, D).
            embed_weight: Token embeddings of the same encoder, ``encoder.embed_tokens.weight``,
                (V, D).

        Returns:
            Logits, (M, V).
        """
        return F.linear(self.norm(F.gelu(self.dense(embeddings))), embed_weight, self.bias)


class TokenHead(nn.Module):
    """Logits of every token by itself: a linear layer, perhaps after a dense one with exact GELU.

    Without a hidden layer it is the token head of MultiMolecule's RNA-FM.

    Args:
        embed_dim: Width of the embeddings, D.
        num_outputs: Number of logits of a token, C.
        hidden_dim: Width of the dense layer; None for a linear head.
        dropout: Dropout before each of the layers, in training.
    """

    def __init__(
        self, embed_dim: int, num_outputs: int, hidden_dim: int | None = None, dropout: float = 0.0
    ) -> None:
        super().__init__()
        _check_dropout(dropout)
        self.dropout = dropout
        self.dense = None if hidden_dim is None else nn.Linear(embed_dim, hidden_dim)
        self.out = nn.Linear(hidden_dim or embed_dim, num_outputs)
        for layer in (self.dense, self.out):
            if layer is not None:
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Logits, (..., C), of embeddings, (..., D): special tokens get some, too."""
        hidden = F.dropout(embeddings, self.dropout, self.training)
        if self.dense is not None:
            hidden = F.dropout(F.gelu(self.dense(hidden)), self.dropout, self.training)
        return cast("Tensor", self.out(hidden))


class SequenceHead(nn.Module):
    """Logits of every sequence, from one vector for its nucleotides or from ``cls``.

    ``mean`` and ``attention`` leave the special tokens out; a sequence without nucleotides gets a
    vector of zeros from them. ``attention`` weighs the nucleotides by a softmax over their
    products with one learned query, divided by the square root of D; the query starts at 0, where
    that is the mean.

    Args:
        embed_dim: Width of the embeddings, D.
        num_outputs: Number of logits of a sequence, C.
        pool: ``mean``, ``cls`` or ``attention``.
        hidden_dim: Width of a dense layer with exact GELU; None for a linear head.
        dropout: Dropout before each of the layers, in training.
    """

    def __init__(
        self,
        embed_dim: int,
        num_outputs: int,
        pool: Pooling = "mean",
        hidden_dim: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if pool not in _POOLINGS:
            raise ValueError(f"pool is {', '.join(map(repr, _POOLINGS))}, not {pool!r}")
        self.pooling = pool
        self.query = nn.Parameter(torch.zeros(embed_dim)) if pool == "attention" else None
        self.predictor = TokenHead(embed_dim, num_outputs, hidden_dim, dropout)

    def forward(self, embeddings: Tensor, cu_seqlens: Tensor) -> Tensor:
        """Logits of all sequences.

        Args:
            embeddings: Output of the encoder, (N, D).
            cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).

        Returns:
            Logits, (B, C).
        """
        return self.classify(self.pool(embeddings, cu_seqlens))

    def classify(self, pooled: Tensor) -> Tensor:
        """Logits, (B, C), of what :meth:`pool` gave, (B, D)."""
        return cast("Tensor", self.predictor(pooled))

    def pool(self, embeddings: Tensor, cu_seqlens: Tensor) -> Tensor:
        """One vector for each sequence, (B, D); arguments as for :meth:`forward`.

        Sums are in float32 at least. Where the encoder is frozen, vectors of ``mean`` and ``cls``
        never change, and may be kept.
        """
        if self.pooling == "cls":
            return embeddings[cu_seqlens[:-1].long()]
        numbers, inside = _nucleotides(embeddings, cu_seqlens)
        values = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        num_sequences = cu_seqlens.numel() - 1
        if self.query is None:
            weights = inside.to(values.dtype)
        else:
            # No matrix product: autocast would make it one of half precision.
            scores = (values * self.query).sum(-1) / math.sqrt(values.shape[-1])
            weights = _exponentials(scores.masked_fill(~inside, -torch.inf), numbers, num_sequences)
        totals = weights.new_zeros(num_sequences).index_add(0, numbers, weights)
        # What is left out is put to 0 rather than multiplied by it: 0 x NaN is NaN.
        parts = torch.where(inside[:, None], values * weights[:, None], 0)
        sums = values.new_zeros(num_sequences, values.shape[-1]).index_add(0, numbers, parts)
        return (sums / totals.masked_fill(totals == 0, 1)[:, None]).to(embeddings.dtype)


def _nucleotides(embeddings: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """Of each token the number of its sequence, and whether it is neither ``cls`` nor ``eos``."""
    lengths = cu_seqlens.diff()
    numbers = torch.repeat_interleave(
        torch.arange(len(lengths), device=embeddings.device), lengths, output_size=len(embeddings)
    )
    inside = torch.ones(len(embeddings), dtype=torch.bool, device=embeddings.device)
    inside[cu_seqlens[:-1].long()] = False
    inside[cu_seqlens[1:].long() - 1] = False
    return numbers, inside


def _exponentials(scores: Tensor, numbers: Tensor, num_sequences: int) -> Tensor:
    """Numerators of a softmax over each sequence; 0 where the score is -inf."""
    largest = scores.new_full((num_sequences,), -torch.inf)
    largest = largest.scatter_reduce(0, numbers, scores.detach(), "amax")
    largest = largest.masked_fill(largest == -torch.inf, 0)  # no nucleotides
    return (scores - largest[numbers]).exp()


def _check_dropout(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must lie in [0, 1), not {dropout}")
