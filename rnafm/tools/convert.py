"""``rnafm convert``: weights from one layout to another, and the proof that they still agree."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # the command line reads the signature
from typing import Literal

TOLERANCE = 1e-5


def convert(
    source: Path,
    target: Path,
    layout: Literal["rnafm", "official", "multimolecule"] = "rnafm",
    *,
    vocabulary: str | None = None,
    zero_mask_row: bool = False,
    layer_norm_eps: float | None = None,
    num_heads: int | None = None,
    overwrite: bool = False,
) -> None:
    """Convert weights between our layout, the authors' and MultiMolecule's, and compare them.

    Both files are read again from the disk at the end and must give the same logits.

    Args:
        source: Weights in any layout, or a training run's .ckpt; the layout is seen by itself.
        target: Where to write: a .safetensors file (rnafm), a .pth file (official) or a directory
            (multimolecule).
        layout: Layout to write.
        vocabulary: Reorder the token embeddings for this built-in vocabulary, for example rna-28.
        zero_mask_row: Set the embedding of <mask> to 0, as the fm package may do when it loads.
        layer_norm_eps: Use this instead of what the source says (1e-12 in old MultiMolecule
            configurations is corrected to 1e-5 if this is not given).
        num_heads: Number of attention heads, for official files that do not say.
        overwrite: Whether the target may exist already.
    """
    from rich.console import Console
    from rich.table import Table

    from rnafm.checkpoints import load_checkpoint, save_checkpoint
    from rnafm.checkpoints.compare import largest_difference, properties
    from rnafm.data.vocabulary import Vocabulary

    if target.resolve() == source.resolve():
        raise ValueError(f"source and target are the same, {source}; give another target")
    if target.exists() and not overwrite:
        raise FileExistsError(f"{target} exists; give --overwrite true to replace it")
    words = None if vocabulary is None else Vocabulary.named(vocabulary)
    checkpoint = load_checkpoint(
        source, zero_mask_row=zero_mask_row, layer_norm_eps=layer_norm_eps, num_heads=num_heads
    )
    lost = save_checkpoint(checkpoint, target, layout, vocabulary=words)
    # Both from the disk: what is compared is what another program will find there.
    first = load_checkpoint(
        source, zero_mask_row=zero_mask_row, layer_norm_eps=layer_norm_eps, num_heads=num_heads
    )
    second = load_checkpoint(target, layer_norm_eps=layer_norm_eps)
    difference = largest_difference(first, second)
    table = Table("", "source", "target")
    table.add_row("path", str(source), str(target))
    values = properties(second)
    for name, value in properties(first).items():
        table.add_row(name, value, values[name])
    console = Console(soft_wrap=True)
    console.print(table)
    for note in [*checkpoint.notes, *lost]:
        console.print(f"- {note}", markup=False)
    console.print(f"Largest difference between the two: {difference:.3g} (limit {TOLERANCE:g})")
    if not difference <= TOLERANCE:  # so that NaN fails too
        raise ValueError(
            f"{target} gives other logits than {source}: they differ by {difference:.3g}, more "
            f"than {TOLERANCE:g}; do not use it, and report this"
        )
