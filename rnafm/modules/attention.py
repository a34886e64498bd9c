"""Attention of packed sequences: picks the kernel, and alone knows about its devices and dtypes.

Three ways compute the same thing. Half precision on CUDA takes the variable-length flash kernel.
On a CPU there is one ``scaled_dot_product_attention`` call per run of consecutive sequences of
equal length: no padding there either, and fast where packs are sorted by length. A GPU without the
flash kernel, or in full precision, takes sequences of about the same length together, padded.
"""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from rnafm.modules.attention_padded import Buckets, attend_buckets, make_buckets

logger = logging.getLogger(__name__)

Run = tuple[int, int, int]
"""First token, number of tokens of each sequence, number of sequences."""


@dataclass(frozen=True, eq=False)
class Runs:
    """How the attention of one pack is computed; from :func:`plan`.

    Compiled blocks hand it on as it is. A bare list would not do: ``torch.compile`` would look
    into it and compile anew for every pack.

    Attributes:
        items: Equal-length runs; empty where something else takes the pack.
        flash: Whether the flash kernel takes the pack.
        buckets: Sequences that are padded to a common length.
    """

    items: list[Run]
    flash: bool = False
    buckets: Buckets | None = None


_FLASH_CAPABILITY = (8, 0)  # Ampere: the first generation that the flash kernel is built for
_FLASH_MAX_HEAD_DIM = 256
_MULTIPLE = 128
_warned = _hidden = False
_said: set[str] = set()


def attend(
    qkv: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    *,
    dropout_p: float = 0.0,
    runs: Runs | None = None,
) -> Tensor:
    """Softmax attention of every token to all tokens of its own sequence.

    Args:
        qkv: Queries, keys and values, (N, 3, H, head_dim).
        cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).
        max_seqlen: Number of tokens of the longest sequence, or a number above it.
        dropout_p: Probability of dropping an attention weight. The flash kernel has no dropout.
        runs: What :func:`plan` gave for this pack, so that a stack of layers computes it once.

    Returns:
        Weighted values, (N, H, head_dim).

    Raises:
        ValueError: If ``cu_seqlens`` does not end at N, or ``max_seqlen`` is too small (where
            that can be seen without waiting for a GPU).
    """
    if runs is None:
        runs = _choose(qkv.device, qkv.dtype, qkv.shape[-1], cu_seqlens)
    if not runs.flash:
        return _attend_runs(qkv, runs, max_seqlen, dropout_p)
    # Only positional arguments: the keywords of this function differ between releases of torch.
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = qkv.unbind(1)
    attended = varlen_attn(query, key, value, cu_seqlens, cu_seqlens, max_seqlen, max_seqlen)
    return cast("Tensor", attended)  # a pair only where more is asked for


def attend_with_maps(qkv: Tensor, runs: list[Run]) -> tuple[Tensor, list[Tensor]]:
    """The same as :func:`attend` by explicit softmax, which shows the attention weights.

    Args:
        qkv: Queries, keys and values, (N, 3, H, head_dim).
        runs: From :func:`equal_length_runs`.

    Returns:
        Weighted values, (N, H, head_dim), and for each of the B sequences its attention weights,
        (H, L, L); row i holds what token i takes from every token, and sums to 1.
    """
    scale = 1 / math.sqrt(qkv.shape[-1])
    parts: list[Tensor] = []
    maps: list[Tensor] = []
    for query, key, value in _split_runs(qkv, runs):
        weights = torch.softmax(query @ key.transpose(-2, -1) * scale, dim=-1)
        parts.append((weights @ value).transpose(1, 2).flatten(0, 1))
        maps.extend(weights.unbind(0))
    return torch.cat(parts), maps


def equal_length_runs(cu_seqlens: Tensor) -> list[Run]:
    """Runs of consecutive sequences of equal length; on a GPU this waits for the device.

    Args:
        cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).

    Examples:
        >>> equal_length_runs(torch.tensor([0, 3, 6, 11], dtype=torch.int32))
        [(0, 3, 2), (6, 5, 1)]
    """
    bounds = cu_seqlens.tolist()
    lengths = [end - start for start, end in pairwise(bounds)]
    runs, start = [], int(bounds[0])
    for length, group in groupby(lengths):
        count = len(list(group))
        if length > 0:
            runs.append((start, length, count))
        start += length * count
    return runs


def plan(weight: Tensor, head_dim: int, cu_seqlens: Tensor, *, dropout_p: float = 0.0) -> Runs:
    """What a stack of layers passes to :func:`attend` as ``runs``.

    Args:
        weight: Any weight of the layers: gives device and dtype, the latter unless autocast is on.
        head_dim: Width of a head.
        cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).
        dropout_p: Attention dropout that the layers will ask for.
    """
    global _attend_runs, _warned, _hidden  # noqa: PLW0603  # once in a process, not in a model
    if not _hidden and "torch._dynamo" in sys.modules:
        # A compiled loop would fit one pack only. Decorated here, not at its definition, because
        # the decorator imports the compiler, which takes longer than all the rest.
        _attend_runs = torch.compiler.disable(_attend_runs)  # type: ignore[no-untyped-call]
        _hidden = True
    kind = weight.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype
    runs = _choose(weight.device, dtype, head_dim, cu_seqlens)
    if runs.flash and dropout_p > 0 and not _warned:
        _warned = True
        logger.warning(
            "The flash attention kernel has no dropout: attention_dropout=%g has no effect in "
            "half precision on a GPU. Set attention_dropout to 0 to silence this.",
            dropout_p,
        )
    return runs


def slow_in_half_precision(device: str) -> bool:
    """Whether a device computes faster in 32 bits: processors without AMX emulate bfloat16."""
    has_amx = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return device == "cpu" and not (has_amx is not None and has_amx())


def rounded(max_seqlen: int) -> int:
    """The next multiple of 128, the rows that the flash kernel takes at a time.

    So few different numbers reach compiled blocks, each of which might compile them anew.
    """
    return -(-max_seqlen // _MULTIPLE) * _MULTIPLE


def _choose(device: torch.device, dtype: torch.dtype, head_dim: int, cu_seqlens: Tensor) -> Runs:
    if device.type == "cpu":
        return Runs(equal_length_runs(cu_seqlens))
    lacking = _why_no_flash(device, dtype, head_dim)
    _say(lacking)
    if lacking is None:
        return Runs([], flash=True)
    return Runs([], buckets=make_buckets(cu_seqlens))


def _why_no_flash(device: torch.device, dtype: torch.dtype, head_dim: int) -> str | None:
    """What keeps the flash kernel from taking packs; None if nothing does."""
    if device.type != "cuda":
        return f"{device.type} devices have none"
    capability = torch.cuda.get_device_capability(device)
    if capability < _FLASH_CAPABILITY:
        return f"it needs compute capability 8.0, this GPU has {capability[0]}.{capability[1]}"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this build of torch lacks it; the wheels for Linux have it"
    if head_dim % 8 or head_dim > _FLASH_MAX_HEAD_DIM:
        return f"heads must be a multiple of 8 wide and at most 256, these are {head_dim}"
    if dtype not in (torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        return f"it needs half precision, not {name}; --trainer.precision bf16-mixed has it"
    return None


def _say(lacking: str | None) -> None:
    """Tell which kernel it is, once in a process."""
    text = lacking or ""
    if text in _said:
        return
    _said.add(text)
    if lacking is None:
        logger.info("Attention takes the variable-length flash kernel: no padding anywhere")
    else:
        logger.warning("Attention pads in buckets, without the flash kernel: %s", lacking)


def _attend_runs(qkv: Tensor, runs: Runs, max_seqlen: int, dropout_p: float) -> Tensor:
    if runs.buckets is not None:
        return attend_buckets(qkv, runs.buckets, dropout_p)
    covered = sum(length * count for _, length, count in runs.items)
    longest = max((length for _, length, _ in runs.items), default=0)
    if covered != len(qkv) or longest > max_seqlen:
        raise ValueError(
            f"cu_seqlens ends at {covered} with a longest sequence of {longest} tokens, but there "
            f"are {len(qkv)} tokens and max_seqlen is {max_seqlen}; build all three from one pack"
        )
    parts = [
        F.scaled_dot_product_attention(query, key, value, dropout_p=dropout_p)
        .transpose(1, 2)
        .flatten(0, 1)
        for query, key, value in _split_runs(qkv, runs.items)
    ]
    return torch.cat(parts)


def _split_runs(qkv: Tensor, runs: list[Run]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Queries, keys and values of each run, (sequences, H, L, head_dim)."""
    # Split at once: the gradient of each slice would be as large as the whole.
    pieces = torch.split(qkv, [length * count for _, length, count in runs])
    shaped = (
        piece.view(count, length, *piece.shape[1:]).permute(2, 0, 3, 1, 4)
        for piece, (_, length, count) in zip(pieces, runs, strict=True)
    )
    return [(query, key, value) for query, key, value in shaped]
