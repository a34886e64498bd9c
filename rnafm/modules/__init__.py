"""Tensors -> tensors: torch only."""

from rnafm.modules.attention import attend
from rnafm.modules.block import Block
from rnafm.modules.encoder import Encoder, EncoderConfig
from rnafm.modules.heads import MaskedLMHead

__all__ = ["Block", "Encoder", "EncoderConfig", "MaskedLMHead", "attend"]
