"""Pictures of what the encoder attends to, on a few validation sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from numpy.typing import NDArray

    from rnafm.data.batch import Batch

_LONGEST = 200  # tokens of a sequence: of more the pixels would not be seen
_MAX_PANELS = 12
_COLUMNS = 4
_PANEL = 2.1  # inches
_DARK, _BRIGHT = 0.25, 32.0  # times an even share: the same colours for all steps and lengths


class Watched:
    """A few sequences of the validation split, always the same ones.

    Attributes:
        sequences: Number in the data -> tokens, at most 200, without the last special one where
            the sequence is longer.
    """

    def __init__(self) -> None:
        self.sequences: dict[int, torch.Tensor] = {}

    def choose(self, batch: Batch, count: int = 2) -> None:
        """Take sequences of a batch: of those that can be shown whole long ones, or else windows.

        Args:
            batch: Of the validation split; the first one of every validation is the same.
            count: How many at most.
        """
        sizes = batch.cu_seqlens.diff().tolist()
        whole = [i for i, size in enumerate(sizes) if size <= _LONGEST]
        order = sorted(whole, key=lambda i: (-sizes[i], i)) or sorted(range(len(sizes)))
        starts = batch.cu_seqlens.tolist()
        self.sequences = {
            int(batch.indices[i]): batch.tokens[starts[i] : starts[i + 1]][:_LONGEST].cpu()
            for i in order[:count]
        }


@torch.no_grad()
def attention_of(encoder: Any, tokens: torch.Tensor, max_panels: int = 12) -> dict[str, Any]:
    """Mean attention over the heads of some layers, and over all nucleotides.

    The encoder is in evaluation mode meanwhile, so nothing is drawn from any random generator.

    Args:
        encoder: With ``attention_maps``.
        tokens: Of one sequence with its ``cls``, (N,).
        max_panels: Layers at most, evenly spread, the last one among them.

    Returns:
        Name -> weights, float32 (L, L), without special tokens: row by row where a nucleotide
        (codon) looks.
    """
    device = next(encoder.parameters()).device
    own = tokens.to(device)
    bounds = torch.tensor([0, len(own)], dtype=torch.int32, device=device)
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        layers = encoder.attention_maps(own, bounds, len(own))
        maps = [each[0].float().mean(0).cpu() for each in layers]
    finally:
        for module, mode in modes.items():
            module.training = mode
    end = -1 if int(tokens[-1]) == encoder.vocabulary.eos_id else None
    places = np.linspace(0, len(maps) - 1, min(len(maps), max_panels))
    chosen = np.unique(places.round().astype(np.int64))
    return {f"layer {i + 1}": maps[i][1:end, 1:end].numpy() for i in chosen.tolist()}


def draw_attention(
    maps: dict[str, NDArray[np.float32]], title: str, unit: str = "nucleotide"
) -> Figure:
    """One panel for each layer: how many times an even share of attention a nucleotide gets.

    Args:
        maps: Of :func:`attention_of`; at most 12.
        title: Which sequence, at which step.
        unit: What is attended to.
    """
    from matplotlib.colors import LogNorm

    from rnafm.reports.pictures import fitted, new_figure

    if len(maps) > _MAX_PANELS:
        raise ValueError(f"maps ({len(maps)}): there is room for {_MAX_PANELS}; choose layers")
    rows = -(-len(maps) // _COLUMNS)
    columns = -(-len(maps) // rows)
    figure = new_figure(max(columns * _PANEL + 1.1, 4.4), rows * (_PANEL + 0.3) + 0.9)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    norm = LogNorm(_DARK, _BRIGHT, clip=True)
    for axes in panels.flat[len(maps) :]:
        axes.axis("off")
    image: Any = None
    for axes, (name, weights) in zip(panels.flat, maps.items(), strict=False):
        edge = len(weights) + 0.5
        image = axes.imshow(
            weights * len(weights),
            cmap="viridis",
            norm=norm,
            interpolation="nearest",
            extent=(0.5, edge, edge, 0.5),
        )
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    figure.supxlabel(f"looks at {unit}", fontsize=9)
    figure.supylabel(unit, fontsize=9)
    bar = figure.colorbar(image, ax=panels, shrink=0.8, label="times an even share of attention")
    marks = [0.25, 0.5, 1, 2, 4, 8, 16, 32]
    bar.set_ticks(marks, labels=[f"{mark:g}" for mark in marks])
    bar.minorticks_off()
    figure.suptitle(fitted(title, figure.get_figwidth()), fontsize=10)
    return figure


def write_attention(
    encoder: Any, watched: Watched, folder: Path, step: int, names: dict[int, str]
) -> dict[str, Path]:
    """Draw the attention of all watched sequences.

    Args:
        encoder: With ``attention_maps``.
        watched: The sequences.
        folder: Where the files go.
        step: Of the run, for names and titles.
        names: Of the sequences, by number.

    Returns:
        Number of the sequence -> file.
    """
    from rnafm.reports.pictures import save

    paths = {}
    unit = "nucleotide" if encoder.vocabulary.letters_per_token == 1 else "codon"
    for place, (number, tokens) in enumerate(watched.sequences.items()):
        maps = attention_of(encoder, tokens, _MAX_PANELS)
        cut = "" if int(tokens[-1]) == encoder.vocabulary.eos_id else ", its beginning"
        title = f"Attention, {names.get(number, f'sequence {number}')}{cut}, step {step:,}"
        path = folder / f"step_{step}_{place}.png"
        save(draw_attention(maps, title, unit), path)
        paths[f"sequence_{place}"] = path
    return paths
