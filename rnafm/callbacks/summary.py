"""What a model is made of, before it is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import ModelSummary
from rich import get_console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable

    import lightning.pytorch as pl
    from torch import nn


class ModelTable(ModelSummary):
    """Print the parts of a model with their parameters, and how many of these are trained.

    Lightning's own table also has work and sizes, which it reads off an example of a padded batch:
    of packed sequences it can only say 0. The work of a step is what :class:`Throughput` reports.
    """

    def __init__(self) -> None:
        super().__init__(max_depth=1)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print it once, not on every device."""
        if not trainer.is_global_zero:
            return
        table = Table(header_style="bold", show_footer=True)
        whole = _count(pl_module.parameters())
        table.add_column("Part", footer="all")
        table.add_column("Type")
        table.add_column("Parameters", justify="right", footer=f"{whole[0]:,}")
        table.add_column("Trained", justify="right", footer=_share(whole))
        for name, module in pl_module.named_children():
            if (counts := _count(module.parameters()))[0]:
                table.add_row(name, type(module).__name__, f"{counts[0]:,}", _share(counts))
        get_console().print(table)


def _count(parameters: Iterable[nn.Parameter]) -> tuple[int, int]:
    """How many numbers parameters hold, and how many of them are trained."""
    sizes = [(each.numel(), each.requires_grad) for each in parameters]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def _share(counts: tuple[int, int]) -> str:
    whole, trained = counts
    return "all" if trained == whole else f"{trained:,}" if trained else "none"
