"""Tensors -> tensors: torch only."""

from rnafm.modules.attention import attend
from rnafm.modules.block import Block
from rnafm.modules.contact import (
    AttentionContactHead,
    ContactHead,
    EmbeddingContactHead,
    LinearContactHead,
    ResidualContactHead,
)
from rnafm.modules.encoder import Encoder, EncoderConfig
from rnafm.modules.heads import MaskedLMHead, SequenceHead, TokenHead
from rnafm.modules.onehot import OneHotEncoder
from rnafm.modules.resnet import ResNetContactHead
from rnafm.modules.windows import cut_windows, embed_long, stitch_maps

__all__ = [
    "AttentionContactHead",
    "Block",
    "ContactHead",
    "EmbeddingContactHead",
    "Encoder",
    "EncoderConfig",
    "LinearContactHead",
    "MaskedLMHead",
    "OneHotEncoder",
    "ResNetContactHead",
    "ResidualContactHead",
    "SequenceHead",
    "TokenHead",
    "attend",
    "cut_windows",
    "embed_long",
    "stitch_maps",
]
