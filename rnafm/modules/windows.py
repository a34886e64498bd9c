"""Sequences longer than an encoder takes, read in overlapping windows and put together again."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnafm.modules.encoder import EncoderConfig

_DEFAULT_SHARE = 4  # windows overlap by a quarter of their length


@dataclass(frozen=True, eq=False)
class Windows:
    """A pack whose long sequences are cut into windows; from :func:`cut_windows`.

    Attributes:
        tokens: Ids of all windows, each with the ``cls`` and ``eos`` of its sequence, (M,).
        cu_seqlens: Where each window starts, and M at the end; int32, (W + 1,).
        max_seqlen: Number of tokens of the longest window.
        source: Of each token here, which token of the pack it is; int64, (M,).
        weights: Share of each token here in the stitched embedding of its source; those of one
            source add up to 1; float32, (M,).
        places: Of each window, the number of its sequence, its first nucleotide and how many it
            has.
        lengths: Nucleotides of each sequence of the pack.
    """

    tokens: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    source: Tensor
    weights: Tensor
    places: list[tuple[int, int, int]]
    lengths: list[int]


def window_starts(length: int, window: int, overlap: int) -> list[int]:
    """First nucleotides of as few windows as will do, evenly spaced, at least ``overlap`` shared.

    Args:
        length: Nucleotides of the sequence.
        window: Nucleotides of a window.
        overlap: Nucleotides that neighbouring windows share at least.

    Examples:
        >>> window_starts(20, window=10, overlap=2)
        [0, 5, 10]
        >>> window_starts(10, window=10, overlap=2)
        [0]
    """
    if length <= window:
        return [0]
    steps = -(-(length - window) // (window - overlap))
    return [i * (length - window) // steps for i in range(steps + 1)]


def cut_windows(
    tokens: Tensor, cu_seqlens: Tensor, max_length: int, overlap: int | None = None
) -> Windows:
    """Windows of all sequences of a pack, side by side; short sequences stay whole.

    In a window of m nucleotides the first weighs 1, the next 2, and so on up to the middle and
    down again to 1 (a tent), over the sum of the weights that the windows give to the same
    nucleotide. So what a window says fades in and out, and the ends of windows, where context is
    missing, count least.

    Args:
        tokens: Ids of all sequences, each with its ``cls`` and ``eos``, (N,).
        cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).
        max_length: Nucleotides of a window.
        overlap: Nucleotides that neighbouring windows share at least; None for a quarter of
            ``max_length``.

    Raises:
        ValueError: If windows cannot overlap by so much.
    """
    if overlap is None:
        overlap = max_length // _DEFAULT_SHARE
    if not 0 <= overlap < max_length:
        raise ValueError(
            f"overlap ({overlap}): windows of {max_length} nucleotides share 0 to {max_length - 1}"
        )
    bounds = cu_seqlens.tolist()
    lengths = [end - start - 2 for start, end in pairwise(bounds)]
    places: list[tuple[int, int, int]] = []
    sources, weights = [], []
    for number, (first, length) in enumerate(zip(bounds[:-1], lengths, strict=True)):
        size = min(length, max_length)
        inner = torch.arange(size)
        tent = torch.minimum(inner, size - 1 - inner) + 1 if length > size else inner.new_ones(size)
        ends = tent.new_ones(1)
        for start in window_starts(length, max_length, overlap):
            places.append((number, start, size))
            body = inner + (first + 1 + start)
            sources += [torch.tensor([first]), body, torch.tensor([first + length + 1])]
            weights += [ends, tent, ends]
    source, weight = torch.cat(sources), torch.cat(weights).to(torch.float32)
    totals = weight.new_zeros(bounds[-1]).index_add(0, source, weight)
    shares = (weight / totals[source]).to(tokens.device)
    source = source.to(tokens.device)
    sizes = [size + 2 for _, _, size in places]
    return Windows(
        tokens=tokens[source],
        cu_seqlens=torch.tensor([0, *sizes]).cumsum(0).to(cu_seqlens.device, torch.int32),
        max_seqlen=max(sizes),
        source=source,
        weights=shares,
        places=places,
        lengths=lengths,
    )


def embed_long(
    encoder: nn.Module,
    tokens: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    overlap: int | None = None,
) -> Tensor:
    """Embeddings of all tokens, also of sequences longer than ``encoder.config.max_length``.

    Those are read in windows (see :func:`cut_windows`), all in one pack with the short ones. Where
    windows overlap, the embedding is the weighted mean of theirs; ``cls`` and ``eos`` are the
    plain means of those of the windows. Where no sequence is long, this is the encoder itself.

    Args:
        encoder: Called with ``tokens``, ``cu_seqlens`` and ``max_seqlen``.
        tokens: Ids of all sequences, each with its ``cls`` and ``eos``, (N,).
        cu_seqlens: Where each sequence starts, and N at the end; int32, (B + 1,).
        max_seqlen: Number of tokens of the longest sequence, or a number above it.
        overlap: Nucleotides that neighbouring windows share at least; None for a quarter of
            ``max_length``.

    Returns:
        Embeddings, (N, D).

    Raises:
        ValueError: If windows cannot overlap by so much.
    """
    limit = cast("EncoderConfig", encoder.config).max_length
    if max_seqlen > limit + 2:  # only then does a GPU have to be asked
        max_seqlen = int(cu_seqlens.diff().max())
    if max_seqlen <= limit + 2:
        return cast("Tensor", encoder(tokens, cu_seqlens, max_seqlen))
    windows = cut_windows(tokens, cu_seqlens, limit, overlap)
    embeddings: Tensor = encoder(windows.tokens, windows.cu_seqlens, windows.max_seqlen)
    parts = embeddings * windows.weights[:, None]
    stitched = parts.new_zeros(len(tokens), parts.shape[1]).index_add(0, windows.source, parts)
    return stitched.to(embeddings.dtype)


def stitch_maps(windows: Windows, maps: Sequence[Tensor], fill: Tensor) -> list[Tensor]:
    """Maps of whole sequences from those of their windows.

    Args:
        windows: From :func:`cut_windows`.
        maps: One of each window, nucleotides only, (m, m).
        fill: For pairs too far apart to be in one window; a number.

    Returns:
        For each sequence its map, (L, L): means over the windows that a pair is in.
    """
    pieces: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)
    for (number, start, _), values in zip(windows.places, maps, strict=True):
        pieces[number].append((start, values))
    return [_stitch(pieces[number], length, fill) for number, length in enumerate(windows.lengths)]


def _stitch(pieces: list[tuple[int, Tensor]], length: int, fill: Tensor) -> Tensor:
    if len(pieces) == 1:
        return pieces[0][1]
    total = pieces[0][1].new_zeros(length, length)
    count = torch.zeros_like(total)
    for start, values in pieces:
        here = slice(start, start + len(values))
        total[here, here] += values
        count[here, here] += 1
    return torch.where(count > 0, total / count.clamp_min(1), fill)
