"""The published secondary-structure head of RNA-FM: a ResNet32 over pairs of embeddings."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rnafm.modules.contact import EmbeddingContactHead, mirror

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from rnafm.modules.encoder import EncoderConfig

_DILATIONS = (1, 2, 4)  # of the second convolutions, again and again


class ResNetContactHead(EmbeddingContactHead):
    """The secondary-structure head of RNA-FM, weight for weight.

    A linear layer, a 1 x 1 convolution over the features of both nucleotides of a pair, residual
    blocks of BatchNorm, ReLU, 3 x 3 convolution, dropout, ReLU and dilated 3 x 3 convolution, a
    last 3 x 3 convolution; the upper triangle is mirrored. 2,462,465 parameters for RNA-FM.

    Maps are computed one by one, as where it was trained: BatchNorm takes its statistics in
    training from one map at a time, whatever else is in the batch.

    Args:
        config: Shape of the encoder.
        num_layers: Number of residual blocks.
        reduction_dim: Features of a nucleotide.
        channels: Channels of a map.
        dropout: Dropout inside the blocks, in training.
        checkpointing: Compute each block again in the backward pass instead of keeping what is in
            it: less memory, more time.
    """

    maps_at_once = False

    def __init__(
        self,
        config: EncoderConfig,
        num_layers: int = 32,
        reduction_dim: int = 128,
        channels: int = 64,
        dropout: float = 0.3,
        *,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(
            num_layers=num_layers,
            reduction_dim=reduction_dim,
            channels=channels,
            dropout=dropout,
            checkpointing=checkpointing,
        )
        self.checkpointing = checkpointing
        self.reduction = nn.Linear(config.embed_dim, reduction_dim)
        self.projection = nn.Conv2d(2 * reduction_dim, channels, 1)
        self.blocks = nn.ModuleList(
            _Block(channels, _DILATIONS[i % len(_DILATIONS)], dropout) for i in range(num_layers)
        )
        self.prediction = nn.Conv2d(channels, 1, 3, padding=1)
        self.apply(_initialise)

    def reduce(self, embeddings: Tensor) -> Tensor:
        """Features of each nucleotide, (S, L, reduction_dim)."""
        return cast("Tensor", self.reduction(embeddings))

    def maps(self, features: Tensor) -> Tensor:
        """Symmetric logits, see :meth:`EmbeddingContactHead.maps`."""
        # The 1 x 1 convolution of [h_i; h_j] is a sum of two linear layers: pairs, (2C, L, L), are
        # never in memory, where they would take four times the rest of a block.
        first, second = self.projection.weight.flatten(1).chunk(2, dim=1)
        rows = F.linear(features, first, self.projection.bias).transpose(1, 2)
        columns = F.linear(features, second).transpose(1, 2)
        hidden = rows[..., :, None] + columns[..., None, :]
        again = self.checkpointing and torch.is_grad_enabled()
        for block in cast("list[_Block]", self.blocks):
            if again:
                hidden = checkpoint(block, hidden, use_reentrant=False, context_fn=block.contexts)
            else:
                hidden = block(hidden)
        return mirror(self.prediction(hidden).squeeze(1))


class _Block(nn.Module):
    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(
            channels, channels, 3, padding=dilation, dilation=dilation, bias=False
        )

    def forward(self, maps: Tensor) -> Tensor:
        hidden = self.conv1(F.relu(self.norm(maps)))
        return maps + cast("Tensor", self.conv2(F.relu(self.dropout(hidden))))

    def contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """Around the first computation, and around the one in the backward pass."""
        return nullcontext(), self._without_statistics()

    @contextmanager
    def _without_statistics(self) -> Iterator[None]:
        """The running statistics have seen this map: the second computation leaves them alone."""
        count = self.norm.num_batches_tracked
        momentum, self.norm.momentum = self.norm.momentum, 0.0
        self.norm.num_batches_tracked = None
        try:
            yield
        finally:
            self.norm.momentum, self.norm.num_batches_tracked = momentum, count


def _initialise(module: nn.Module) -> None:
    """As the authors' options say: fan-in Kaiming for convolutions, N(0, 0.001) for the rest."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.001)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
