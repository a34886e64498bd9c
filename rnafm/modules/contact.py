"""Embeddings or attention maps -> one logit for every pair of nucleotides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from typing import TYPE_CHECKING, Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rnafm.modules.windows import cut_windows, stitch_maps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rnafm.modules.encoder import EncoderConfig


class ContactHead(nn.Module, ABC):
    """Base of all heads that say which nucleotides pair.

    Subclasses take the configuration of the encoder first, and pass all other arguments on to this
    constructor, so that ``type(head)(config, **head.options)`` makes the same head again.

    Args:
        options: Arguments of the subclass's constructor after ``config``, plain values.

    Attributes:
        options: As given.
        reads_embeddings: Whether :meth:`forward` looks at ``embeddings``. Where it does not, any
            tensor will do, and the encoder need not be run for it.
    """

    reads_embeddings: ClassVar[bool] = True

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    @abstractmethod
    def forward(
        self,
        encoder: nn.Module,
        tokens: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        embeddings: Tensor,
    ) -> list[Tensor]:
        """Logits of all pairs.

        Args:
            encoder: What made the embeddings.
            tokens: Ids of all sequences, each with its ``cls`` and ``eos``, (N,).
            cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).
            max_seqlen: Number of tokens of the longest sequence, or a number above it.
            embeddings: Output of the encoder, (N, D).

        Returns:
            For each sequence its symmetric map, special tokens left out; float32, (L, L). No map
            depends on the other sequences. The diagonal means nothing.
        """


class EmbeddingContactHead(ContactHead):
    """Base of heads that read nothing but embeddings.

    Maps go through the layers one by one, in training also several of exactly equal size
    together: there is no padding that convolutions or norms could see, and a prediction is the
    same to the last bit in any batch as far as its embeddings are. Sequences of fewer than two
    nucleotides have no pairs: their logits are 0.

    Attributes:
        maps_at_once: Whether maps of equal size are computed together in training. That is faster
            for short sequences, but rounds differently.
    """

    maps_at_once = True

    @abstractmethod
    def reduce(self, embeddings: Tensor) -> Tensor:
        """Features of each nucleotide, (S, L, C), from its embedding, (S, L, D)."""

    @abstractmethod
    def maps(self, features: Tensor) -> Tensor:
        """Symmetric logits, (S, L, L), of S sequences of one length from their features."""

    def forward(
        self,
        encoder: nn.Module,  # noqa: ARG002
        tokens: Tensor,  # noqa: ARG002
        cu_seqlens: Tensor,
        max_seqlen: int,  # noqa: ARG002
        embeddings: Tensor,
    ) -> list[Tensor]:
        """Logits of all pairs, see :meth:`ContactHead.forward`."""
        sizes = cu_seqlens.diff().tolist()
        parts = [part[1:-1] for part in torch.split(embeddings, sizes)]
        logits = [part.new_zeros(len(part), len(part), dtype=torch.float32) for part in parts]
        for group in self._groups([len(part) for part in parts]):
            features = self.reduce(torch.stack([parts[number] for number in group]))
            for number, values in zip(group, self.maps(features).float(), strict=True):
                logits[number] = values
        return logits

    def _groups(self, lengths: list[int]) -> Iterator[list[int]]:
        """Numbers of the sequences that are computed together."""
        groups: dict[int, list[int]] = defaultdict(list)
        for number, length in enumerate(lengths):
            if length > 1:
                groups[length].append(number)
        for group in groups.values():
            together = self.maps_at_once and self.training
            yield from [group] if together else ([number] for number in group)


class LinearContactHead(EmbeddingContactHead):
    """One linear layer over the elementwise product of two embeddings, made symmetric.

    The contact head of MultiMolecule's RNA-FM.

    Args:
        config: Shape of the encoder.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.decoder = nn.Linear(config.embed_dim, 1)
        nn.init.normal_(self.decoder.weight, std=0.02)
        nn.init.zeros_(self.decoder.bias)

    def reduce(self, embeddings: Tensor) -> Tensor:
        """The embeddings as they are."""
        return embeddings

    def maps(self, features: Tensor) -> Tensor:
        """Symmetric logits, see :meth:`EmbeddingContactHead.maps`."""
        # As a product of matrices, products of all pairs, (L, L, D), are never in memory.
        maps = (features * self.decoder.weight) @ features.transpose(1, 2) + self.decoder.bias
        return (maps + maps.transpose(1, 2)) / 2


class ResidualContactHead(EmbeddingContactHead):
    """Residual blocks over pairs of reduced embeddings: the head of sinc-lab's rna-llm-folding.

    A linear layer reduces each embedding; a pair has the features of its first and of its second
    nucleotide; bottleneck blocks of three convolutions (1, k, 1), each followed by InstanceNorm
    over the map and ReLU, are added to what goes in; a last convolution gives one logit. The upper
    triangle is mirrored. 111,201 parameters for RNA-FM, 90,849 for one-hot vectors (Zablocki et
    al., Brief Bioinform 2025, bbaf137).

    Args:
        config: Shape of the encoder.
        channels: Features of a nucleotide; maps have twice as many.
        num_blocks: Number of residual blocks.
        kernel_size: Of the middle convolution of a block and of the last one; odd.
        checkpointing: Take maps one by one, and compute each again in the backward pass instead
            of keeping what is in it: less memory, more time.
    """

    def __init__(
        self,
        config: EncoderConfig,
        channels: int = 32,
        num_blocks: int = 2,
        kernel_size: int = 3,
        *,
        checkpointing: bool = False,
    ) -> None:
        super().__init__(
            channels=channels,
            num_blocks=num_blocks,
            kernel_size=kernel_size,
            checkpointing=checkpointing,
        )
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, not {kernel_size}: maps keep their size")
        self.checkpointing = checkpointing
        self.maps_at_once = not checkpointing
        self.reduction = nn.Linear(config.embed_dim, channels)
        self.blocks = nn.ModuleList(
            _Bottleneck(2 * channels, kernel_size) for _ in range(num_blocks)
        )
        self.out = nn.Conv2d(2 * channels, 1, kernel_size, padding=kernel_size // 2)

    def reduce(self, embeddings: Tensor) -> Tensor:
        """Features of each nucleotide, (S, L, channels)."""
        return cast("Tensor", self.reduction(embeddings))

    def maps(self, features: Tensor) -> Tensor:
        """Symmetric logits, see :meth:`EmbeddingContactHead.maps`."""
        if self.checkpointing and torch.is_grad_enabled():
            return cast("Tensor", checkpoint(self._maps, features, use_reentrant=False))
        return self._maps(features)

    def _maps(self, features: Tensor) -> Tensor:
        first = features.transpose(1, 2)[..., None].expand(-1, -1, -1, features.shape[1])
        hidden = torch.cat([first, first.transpose(2, 3)], dim=1)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return mirror(self.out(hidden).squeeze(1))


class AttentionContactHead(ContactHead):
    """Logistic regression on the attention maps of all layers: the contact head of ESM.

    Each map, special tokens left out, is added to its transpose and corrected for the average
    product of its row and column sums (APC: Dunn et al., Bioinformatics 2008; Rao et al., ICLR
    2021). Without gradients, one layer's maps are in memory at a time.

    Sequences longer than the encoder takes are read in windows: logits are means over the windows
    that a pair is in, and the bias alone where there is none.

    Args:
        config: Shape of the encoder.
        overlap: Nucleotides that neighbouring windows share at least; None for a quarter of what
            the encoder takes.
    """

    reads_embeddings = False

    def __init__(self, config: EncoderConfig, overlap: int | None = None) -> None:
        super().__init__(overlap=overlap)
        self.num_heads = config.num_heads
        self.max_length = config.max_length
        self.overlap = overlap
        self.regression = nn.Linear(config.num_layers * config.num_heads, 1)

    def forward(
        self,
        encoder: nn.Module,
        tokens: Tensor,
        cu_seqlens: Tensor,
        max_seqlen: int,
        embeddings: Tensor,  # noqa: ARG002
    ) -> list[Tensor]:
        """Logits of all pairs, see :meth:`ContactHead.forward`; ``embeddings`` is not looked at.

        Raises:
            ValueError: If the encoder has no attention.
        """
        if not hasattr(encoder, "attention_maps"):
            raise ValueError(
                f"encoder ({type(encoder).__name__}): it has no attention maps to read contacts "
                "from; use a head that reads embeddings"
            )
        if max_seqlen <= self.max_length + 2:
            return self._logits(encoder, tokens, cu_seqlens, max_seqlen)
        windows = cut_windows(tokens, cu_seqlens, self.max_length, self.overlap)
        maps = self._logits(encoder, windows.tokens, windows.cu_seqlens, windows.max_seqlen)
        return stitch_maps(windows, maps, self.regression.bias.float())

    def _logits(
        self, encoder: Any, tokens: Tensor, cu_seqlens: Tensor, max_seqlen: int
    ) -> list[Tensor]:
        weights = self.regression.weight.float().view(-1, self.num_heads)
        sizes = (cu_seqlens.diff() - 2).tolist()
        logits = [self.regression.bias.float().expand(size, size) for size in sizes]
        layers = encoder.attention_maps(tokens, cu_seqlens, max_seqlen)
        for weight, maps in zip(weights, layers, strict=True):
            for number, values in enumerate(maps):
                features = _corrected(values[:, 1:-1, 1:-1].float())
                logits[number] = logits[number] + (features * weight[:, None, None]).sum(0)
        return logits


def mirror(maps: Tensor) -> Tensor:
    """Maps, (..., L, L), with the lower triangle replaced by the transposed upper one."""
    return maps.triu() + maps.triu(1).transpose(-2, -1)


def _corrected(maps: Tensor) -> Tensor:
    """Symmetric sums of maps less the average product of their rows and columns, (H, L, L)."""
    maps = maps + maps.transpose(1, 2)
    sums = maps.sum(1, keepdim=True)
    # All weight may be on special tokens: then every sum is 0, and so is what is taken off.
    totals = sums.sum(2, keepdim=True).clamp_min(torch.finfo(sums.dtype).tiny)
    return maps - sums * sums.transpose(1, 2) / totals


class _Bottleneck(nn.Module):
    """Convolutions 1, k, 1 with InstanceNorm and ReLU after each; the sum is the caller's."""

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(channels, channels, size, padding=size // 2, bias=False)
            for size in (1, kernel_size, 1)
        )

    def forward(self, maps: Tensor) -> Tensor:
        for convolution in self.convolutions:
            maps = F.relu(F.instance_norm(convolution(maps)))
        return maps
