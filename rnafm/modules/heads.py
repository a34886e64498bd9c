"""Predictors that read embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
