"""``rnafm compare``: are the scores of two runs different?"""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # the command line reads the signature


def compare(runs: list[Path], metric: str | None = None) -> None:
    """Compare two runs sequence by sequence, on those that both were tested on.

    Args:
        runs: Two folders of rnafm test or rnafm crossval.
        metric: Column of per_sequence.csv to compare; by default the main one of the first run.
    """
    from rnafm.reports.crossval import compare_runs

    if len(runs) != 2:  # noqa: PLR2004
        raise ValueError(f"give two folders to compare, not {len(runs)}")
    print(compare_runs(runs[0], runs[1], metric))
