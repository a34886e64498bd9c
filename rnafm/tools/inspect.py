"""``rnafm inspect``: what is in FASTA files."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # the command line reads the signature


def inspect(
    fasta: list[Path],
    out: Path | None = None,
    *,
    json: bool = False,
    quiet: bool = False,
) -> None:
    """Count what is in FASTA files and draw how long the sequences are.

    Shows records, lengths, letters, case, T and U, ambiguity codes, duplicates, and how well
    batches fill.

    Args:
        fasta: FASTA files, plain or gzip.
        out: The picture, a PNG file; by default <first file>.lengths.png.
        json: Print JSON instead of a table.
        quiet: Show no progress.
    """
    from rnafm.data.report import draw_lengths, report_of_fasta

    report = report_of_fasta(fasta, progress=not quiet)
    picture = out or fasta[0].with_name(f"{fasta[0].name}.lengths.png")
    draw_lengths(report, picture)
    if json:
        import json as writer

        print(writer.dumps({**report.to_dict(), "picture": str(picture)}, indent=2))
        return
    from rich.console import Console

    Console(soft_wrap=True).print(report.table())
    print(f"picture of the lengths: {picture}")
