"""Attention of packed sequences by padding: for GPUs and precisions without a packed kernel."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from torch import Tensor

_PADDING = 0.15  # share of a bucket's longest sequence that its others may lack
_MOST = 1 << 16  # tokens of a bucket, with its padding: bounds the memory of copies


@dataclass(frozen=True, eq=False)
class Bucket:
    """Sequences of about the same length.

    Attributes:
        reads: Where the tokens of each are in the pack; padding reads the sequence once more, so
            that nothing of others is near, and no token is read by all. int64, (B, L).
        mask: Which are real; bool, (B, 1, 1, L).
    """

    reads: Tensor
    mask: Tensor


@dataclass(frozen=True, eq=False)
class Buckets:
    """A pack by the lengths of its sequences.

    Attributes:
        items: At least one.
        inverse: Where each token of the pack is among those of all buckets; int64, (N,).
    """

    items: tuple[Bucket, ...]
    inverse: Tensor


def make_buckets(cu_seqlens: Tensor) -> Buckets:
    """Sequences of a pack by length; on a GPU this waits for the device.

    Args:
        cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).
    """
    bounds = cu_seqlens.tolist()
    sequences = [(end - start, start) for start, end in pairwise(bounds) if end > start]
    groups: list[list[tuple[int, int]]] = []
    for length, start in sorted(sequences, reverse=True):
        longest = groups[-1][0][0] if groups else 0
        room = bool(groups) and (len(groups[-1]) + 1) * longest <= _MOST
        if not room or length < longest * (1 - _PADDING):
            groups.append([])
        groups[-1].append((length, start))
    buckets = tuple(_bucket(group, cu_seqlens.device) for group in groups)
    real = torch.cat([bucket.mask.flatten() for bucket in buckets])
    reads = torch.cat([bucket.reads.flatten() for bucket in buckets])
    places = torch.where(real, reads, bounds[-1])  # padding goes behind the end
    numbers = torch.arange(len(places), device=places.device)
    return Buckets(buckets, places.new_empty(bounds[-1] + 1).index_copy(0, places, numbers)[:-1])


def _bucket(group: list[tuple[int, int]], device: torch.device) -> Bucket:
    lengths, starts = torch.tensor(group).to(device).unbind(1)
    steps = torch.arange(group[0][0], device=device)
    mask = steps < lengths[:, None]
    return Bucket(starts[:, None] + steps % lengths[:, None], mask[:, None, None])


def attend_buckets(qkv: Tensor, buckets: Buckets, dropout_p: float) -> Tensor:
    """Softmax attention of every token to all tokens of its own sequence.

    Args:
        qkv: Queries, keys and values, (N, 3, H, head_dim).
        buckets: From :func:`make_buckets`.
        dropout_p: Probability of dropping an attention weight.

    Returns:
        Weighted values, (N, H, head_dim).
    """
    parts = []
    for bucket in buckets.items:
        query, key, value = qkv[bucket.reads].permute(2, 0, 3, 1, 4)
        part = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bucket.mask, dropout_p=dropout_p
        )
        parts.append(part.transpose(1, 2).flatten(0, 1))
    return torch.cat(parts)[buckets.inverse]
