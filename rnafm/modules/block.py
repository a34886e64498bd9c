"""One layer of the encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnafm.modules.attention import Run, Runs, attend, attend_with_maps

if TYPE_CHECKING:
    from rnafm.modules.encoder import EncoderConfig


class Block(nn.Module):
    """One transformer block, LayerNorm first: attention, then a feed-forward layer, both added.

    Args:
        config: Shape of the encoder.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        dim, eps = config.embed_dim, config.layer_norm_eps
        self.num_heads = config.num_heads
        self.dropout = config.dropout
        self.attention_dropout = config.attention_dropout
        self.attention_norm = nn.LayerNorm(dim, eps=eps)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.ffn_norm = nn.LayerNorm(dim, eps=eps)
        self.fc1 = nn.Linear(dim, config.ffn_dim)
        self.fc2 = nn.Linear(config.ffn_dim, dim)

    def forward(
        self,
        embeddings: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        runs: Runs | None = None,
    ) -> Tensor:
        """Embeddings after the block, (N, D); arguments as for :func:`attend`."""
        dropout_p = self.attention_dropout if self.training else 0.0
        qkv = self._project(embeddings)
        attended = attend(qkv, cu_seqlens, max_seqlen, dropout_p=dropout_p, runs=runs)
        return self._finish(embeddings, attended)

    def forward_with_maps(self, embeddings: Tensor, runs: list[Run]) -> tuple[Tensor, list[Tensor]]:
        """The same by explicit softmax, and the attention weights of each sequence, (H, L, L)."""
        attended, maps = attend_with_maps(self._project(embeddings), runs)
        return self._finish(embeddings, attended), maps

    def _project(self, embeddings: Tensor) -> Tensor:
        qkv: Tensor = self.qkv(self.attention_norm(embeddings))
        return qkv.view(len(qkv), 3, self.num_heads, -1)

    def _finish(self, embeddings: Tensor, attended: Tensor) -> Tensor:
        embeddings = embeddings + self._drop(self.out(attended.flatten(1)))
        hidden = self.fc1(self.ffn_norm(embeddings))
        if torch.is_grad_enabled():
            hidden = F.gelu(hidden)
        else:  # in place: on a CPU, fresh memory of that size costs more than the function
            torch.ops.aten.gelu_(hidden)
        return embeddings + self._drop(self.fc2(hidden))

    def _drop(self, values: Tensor) -> Tensor:
        return F.dropout(values, self.dropout, self.training)
