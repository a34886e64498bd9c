"""The RNA-FM encoder: token ids of packed sequences -> one embedding per token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rnafm.modules.attention import equal_length_runs, plan, rounded
from rnafm.modules.block import Block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from os import PathLike
    from typing import Self

    from rnafm.data.vocabulary import OnUnknown, Vocabulary
    from rnafm.modules.embed import Pool

_FIRST_POSITION = 2  # rows 0 and 1 belonged to padding; kept, so that weights convert without loss


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of an encoder; the defaults are those of RNA-FM.

    Args:
        num_layers: Number of transformer blocks.
        embed_dim: Width of the embeddings, a multiple of ``num_heads``.
        num_heads: Number of attention heads.
        ffn_dim: Width inside the feed-forward layers.
        max_length: Longest sequence in nucleotides (or codons), without special tokens.
        embed_norm: Whether a LayerNorm follows the embeddings: RNA-FM yes, mRNA-FM no.
        dropout: Dropout after attention and after the feed-forward layer, in training.
        attention_dropout: Dropout of attention weights, in training. The flash kernel (half
            precision on a GPU) has none.
        layer_norm_eps: Added to the variance in every LayerNorm.
    """

    num_layers: int = 12
    embed_dim: int = 640
    num_heads: int = 20
    ffn_dim: int = 5120
    max_length: int = 1022
    embed_norm: bool = True
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        """Refuse shapes that no encoder has."""
        for name in ("num_layers", "embed_dim", "num_heads", "ffn_dim", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"embed_dim {self.embed_dim} is not a multiple of num_heads {self.num_heads}; "
                "every head takes an equal share of the embedding"
            )
        for name in ("dropout", "attention_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), not {getattr(self, name)}")


class Encoder(nn.Module):
    """Transformer encoder over packed sequences, weight for weight that of RNA-FM and mRNA-FM.

    Token and learned position embeddings, an optional LayerNorm, ``num_layers`` blocks, a final
    LayerNorm. Sequences are laid end to end, so no work goes into padding; ``cu_seqlens`` keeps
    them apart.

    Args:
        config: Shape of the encoder.
        vocabulary: Tokens that it reads; it decides the number of token embeddings.

    Attributes:
        config: As given.
        vocabulary: As given, so that it travels with the weights.
        activation_checkpointing: Whether training keeps the input of every block only, and
            computes the rest again for the gradients: a third more work, a fraction of the memory.
        pad_to: Tokens that every pack is filled up to inside: compiled blocks then see one shape
            only. What is added are sequences of their own, which nobody gets to see.
    """

    activation_checkpointing = False
    pad_to: int | None = None

    def __init__(self, config: EncoderConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        dim, eps = config.embed_dim, config.layer_norm_eps
        rows = config.max_length + 2 + _FIRST_POSITION
        self.embed_tokens = nn.Embedding(len(vocabulary), dim)
        self.embed_positions = nn.Embedding(rows, dim)
        self.embed_norm = nn.LayerNorm(dim, eps=eps) if config.embed_norm else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.final_norm = nn.LayerNorm(dim, eps=eps)
        self.apply(_initialise)

    @classmethod
    def from_checkpoint(cls, path: str | PathLike[str]) -> Self:
        """The encoder of a checkpoint in any layout that :mod:`rnafm.checkpoints` reads.

        As every new module it is in training mode: call ``eval()`` before using it to predict
        (:meth:`embed` does so itself).

        Args:
            path: File or directory.
        """
        from rnafm.checkpoints import load_checkpoint

        encoder = load_checkpoint(path).encoder
        if not isinstance(encoder, cls):
            raise TypeError(f"{path} holds a {type(encoder).__name__}, not a {cls.__name__}")
        return encoder

    def forward(self, tokens: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
        """Embeddings of all tokens.

        Args:
            tokens: Ids of all sequences, each with its ``cls`` and ``eos``; any integer dtype,
                (N,).
            cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).
            max_seqlen: Number of tokens of the longest sequence, or a number above it.

        Returns:
            Embeddings after the final LayerNorm, (N, D).

        Raises:
            ValueError: If ``max_seqlen`` exceeds the position table.
        """
        embeddings = tokens
        for embeddings, _ in self._layers(tokens, cu_seqlens, max_seqlen):  # noqa: B007
            pass
        return cast("Tensor", self.final_norm(embeddings))

    def hidden_states(self, tokens: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> list[Tensor]:
        """Embeddings of all tokens at every depth; arguments as for :meth:`forward`.

        Returns:
            ``num_layers + 1`` tensors, (N, D): first the input of the blocks, then the output of
            each block, but the last one after the final LayerNorm, as both published
            implementations give it.
        """
        states = [embeddings for embeddings, _ in self._layers(tokens, cu_seqlens, max_seqlen)]
        states[-1] = self.final_norm(states[-1])
        return states

    def attention_maps(
        self, tokens: Tensor, cu_seqlens: Tensor, max_seqlen: int
    ) -> Iterator[list[Tensor]]:
        """Attention weights, layer by layer; arguments as for :meth:`forward`.

        Only one layer's maps are alive at a time if each is used up before the next is asked for.
        There is no attention dropout here, in training neither.

        Yields:
            For each layer, the weights of each sequence after the softmax, (H, L, L).
        """
        for _, maps in self._layers(tokens, cu_seqlens, max_seqlen, with_maps=True):
            if maps is not None:
                yield maps

    def embed(
        self,
        sequences: Sequence[str],
        *,
        pool: Pool | None = "mean",
        layer: int = -1,
        tokens_per_batch: int | None = None,
        on_unknown: OnUnknown = "error",
        names: Sequence[str] | None = None,
    ) -> Tensor | list[Tensor]:
        """Embeddings of sequences given as text, without dropout and without gradients.

        Args:
            sequences: B sequences of nucleotides; T is read as U, and case does not matter.
            pool: ``mean`` over the nucleotides, the embedding of ``cls``, or None for one
                embedding per nucleotide (per codon where the vocabulary has codons).
            layer: Which of the :meth:`hidden_states`; -1 is the output of the encoder.
            tokens_per_batch: Tokens computed at once; one sequence is never divided. By default
                1,024 on a CPU, which finds its memory again from pack to pack, and 65,536 on a GPU.
            on_unknown: What to do about letters outside the vocabulary: stop, or read ``<unk>``.
            names: What errors call the sequences.

        Returns:
            On the CPU, in the order given: a tensor (B, D), or without pooling a list of B
            tensors (L, D), special tokens left out.

        Raises:
            ValueError: If a sequence has unknown letters, is longer than ``max_length``, or is
                empty and ``pool`` is ``mean``; or if there is no such layer.
        """
        from rnafm.modules.embed import embed_sequences

        return embed_sequences(
            self,
            sequences,
            pool=pool,
            layer=layer,
            tokens_per_batch=tokens_per_batch,
            on_unknown=on_unknown,
            names=names,
        )

    def _layers(
        self, tokens: Tensor, cu_seqlens: Tensor, max_seqlen: int, *, with_maps: bool = False
    ) -> Iterator[tuple[Tensor, list[Tensor] | None]]:
        """Input of the blocks, then the output of each, with the attention maps if asked for."""
        num_tokens = len(tokens)
        if self.pad_to is not None and num_tokens < self.pad_to and not with_maps:
            tokens, cu_seqlens = self._with_tail(tokens, cu_seqlens, max_seqlen)
        embeddings = self._embed(tokens, cu_seqlens, max_seqlen)
        yield embeddings[:num_tokens], None
        if with_maps:
            all_runs = equal_length_runs(cu_seqlens)
            for block in self.blocks:
                embeddings, maps = cast("Block", block).forward_with_maps(embeddings, all_runs)
                yield embeddings, maps
            return
        config = self.config
        runs = plan(
            self.embed_tokens.weight,
            config.embed_dim // config.num_heads,
            cu_seqlens,
            dropout_p=config.attention_dropout if self.training else 0.0,
        )
        if runs.flash:
            max_seqlen = rounded(max_seqlen)
        again = self.activation_checkpointing and self.training and torch.is_grad_enabled()
        for block in self.blocks:
            if again:
                embeddings = checkpoint(
                    block, embeddings, cu_seqlens, max_seqlen, runs, use_reentrant=False
                )
            else:
                embeddings = block(embeddings, cu_seqlens, max_seqlen, runs)
            yield embeddings[:num_tokens], None

    def _with_tail(
        self, tokens: Tensor, cu_seqlens: Tensor, max_seqlen: int
    ) -> tuple[Tensor, Tensor]:
        """Fill a pack up with padding, as sequences no longer than the longest.

        They have to be sequences: what attention leaves out it also leaves as it finds it, and
        that may be anything.
        """
        missing = cast("int", self.pad_to) - len(tokens)
        length = max(1, min(max_seqlen, self.config.max_length + 2))
        steps = torch.arange(1, -(-missing // length) + 1, device=tokens.device)
        ends = len(tokens) + (steps * length).clamp(max=missing)
        tokens = F.pad(tokens, (0, missing), value=self.vocabulary.pad_id)
        return tokens, torch.cat([cu_seqlens, ends.to(cu_seqlens.dtype)])

    def _embed(self, tokens: Tensor, cu_seqlens: Tensor, max_seqlen: int) -> Tensor:
        limit = self.config.max_length + 2
        if max_seqlen > limit:
            raise ValueError(
                f"a sequence of {max_seqlen} tokens does not fit an encoder of {limit} "
                f"({self.config.max_length} and two special ones); crop it, or cut it into windows"
            )
        starts = torch.repeat_interleave(
            cu_seqlens[:-1], cu_seqlens.diff(), output_size=tokens.numel()
        )
        offsets = torch.arange(tokens.numel(), device=tokens.device) - starts
        embeddings: Tensor = self.embed_tokens(tokens.long())
        embeddings = embeddings + self.embed_positions(offsets + _FIRST_POSITION)
        if self.embed_norm is not None:
            embeddings = self.embed_norm(embeddings)
        return embeddings


def _initialise(module: nn.Module) -> None:
    """N(0, 0.02) for weights, 0 for biases; LayerNorms start at 1 and 0 by themselves."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
