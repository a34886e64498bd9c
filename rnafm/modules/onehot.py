"""A stand-in for the encoder that knows nothing: the control of every benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rnafm.modules.encoder import EncoderConfig

if TYPE_CHECKING:
    from rnafm.data.vocabulary import Vocabulary

_NO_LIMIT = 2**31 - 3  # so that max_length + 2 is still an int32


class OneHotEncoder(nn.Module):
    """One-hot vectors under the call signature of :class:`~rnafm.modules.Encoder`.

    One column for each standard token: A, C, G, U (64 codons where the vocabulary has codons). All
    other tokens, special and ambiguous ones, are 0. There are no parameters, and no limit to
    the length of a sequence.

    Args:
        vocabulary: Tokens that it reads.

    Attributes:
        config: Only ``embed_dim`` and ``max_length`` mean anything here.
        vocabulary: As given.
    """

    table: Tensor

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__()
        dim = len(vocabulary.standard_ids)
        self.config = EncoderConfig(
            num_layers=1,
            embed_dim=dim,
            num_heads=1,
            ffn_dim=1,
            max_length=_NO_LIMIT,
            embed_norm=False,
            dropout=0.0,
            attention_dropout=0.0,
        )
        self.vocabulary = vocabulary
        table = torch.zeros(len(vocabulary), dim)
        table[list(vocabulary.standard_ids)] = torch.eye(dim)
        self.register_buffer("table", table, persistent=False)

    def forward(self, tokens: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:  # noqa: ARG002
        """Vectors of all tokens, (N, D); arguments as for the encoder, of which it needs one."""
        return self.table[tokens.long()]
