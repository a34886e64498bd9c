"""What a FASTA file or a token store holds: numbers, a table, a picture of the lengths."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.fasta import FastaFile
from rnafm.data.filters import sequence_digests
from rnafm.data.progress import ReadingProgress
from rnafm.data.sampler import PackSampler
from rnafm.data.seen import Seen
from rnafm.files import atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from rich.table import Table

    from rnafm.data.store import SequenceStore

MAX_LENGTH = 1022  # what RNA-FM's 1,024 positions leave for a sequence
BUDGETS = (65_536, 2_048)
_QUANTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
_SAMPLE = 1 << 20  # sequences that the packing is estimated from
_AMBIGUOUS = "NRYSWKMBDHV"
_LABELS = {
    "letters_lower_case": "lower case",
    "letters_T": "T",
    "letters_U": "U",
    "letters_ambiguous": "ambiguity codes",
    "letters_other": "no nucleotide (gaps, blanks, ...)",
}


@dataclass(frozen=True)
class DataReport:
    """Numbers about a set of sequences.

    Args:
        title: What was looked at.
        lengths: Length of each sequence, int (B,).
        unit: What lengths count: ``nt`` or ``codons``.
        letters: How often each letter occurs in the file, as it is written.
        counts: How many records there are of which kind.
    """

    title: str
    lengths: NDArray[np.integer]
    unit: str = "nt"
    letters: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All numbers as plain values."""
        lengths = self.lengths if len(self.lengths) else np.zeros(1, np.int64)
        quantiles = np.percentile(lengths, _QUANTILES, method="nearest").tolist()
        return {
            "title": self.title,
            "unit": self.unit,
            "sequences": len(self.lengths),
            "total_length": int(self.lengths.sum()),
            "mean_length": float(lengths.mean()),
            "length_quantiles": dict(zip(map(_percent, _QUANTILES), quantiles, strict=True)),
            f"share_longer_than_{MAX_LENGTH}": float((lengths > MAX_LENGTH).mean()),
            "packing": {str(budget): packing(self.lengths, budget) for budget in BUDGETS},
            **({"letters": self.letters, **self._letter_counts()} if self.letters else {}),
            **self.counts,
        }

    def table(self) -> Table:
        """All numbers to read."""
        from rich.table import Table

        values = self.to_dict()
        table = Table(title=self.title, title_style="bold", show_header=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        table.add_row("sequences", f"{values['sequences']:,}")
        table.add_row("total length", f"{values['total_length']:,} {self.unit}")
        table.add_row("mean length", f"{values['mean_length']:,.1f} {self.unit}")
        for name, length in values["length_quantiles"].items():
            table.add_row(f"  {name}", f"{length:,}")
        share = values[f"share_longer_than_{MAX_LENGTH}"]
        table.add_row(f"longer than {MAX_LENGTH:,} {self.unit}", f"{share:.2%}")
        for budget, filled in values["packing"].items():
            table.add_row(f"filled of batches of {int(budget):,} tokens", f"{filled:.1%}")
        if self.letters:
            table.add_section()
            total = max(sum(self.letters.values()), 1)
            for letter, count in self.letters.items():
                table.add_row(f"letter {letter!r}", f"{count:,} ({count / total:.2%})")
            for name, count in self._letter_counts().items():
                table.add_row(_LABELS[name], f"{count:,} ({count / total:.2%})")
        table.add_section()
        for name, count in self.counts.items():
            table.add_row(name.replace("_", " "), f"{count:,}")
        return table

    def _letter_counts(self) -> dict[str, int]:
        """Letters by kind."""
        counts = dict.fromkeys(_LABELS, 0)
        for letter, count in self.letters.items():
            upper = letter.upper()
            counts["letters_lower_case"] += count * (letter != upper)
            counts["letters_T"] += count * (upper == "T")
            counts["letters_U"] += count * (upper == "U")
            counts["letters_ambiguous"] += count * (upper in _AMBIGUOUS)
            counts["letters_other"] += count * (upper not in "ACGTU" + _AMBIGUOUS)
        return counts


def packing(lengths: NDArray[np.integer], tokens_per_batch: int) -> float:
    """Share of a token budget that the batches of an epoch fill, on one device.

    Sequences are clipped to 1022 and have two special tokens. More than a million are sampled.

    Args:
        lengths: Length of each sequence, (B,).
        tokens_per_batch: The budget, at least 1024.
    """
    if len(lengths) > _SAMPLE:
        lengths = np.random.default_rng(0).choice(lengths, _SAMPLE)
    tokens = np.minimum(lengths, MAX_LENGTH).astype(np.int64) + 2
    num_packs = PackSampler(tokens, tokens_per_batch).num_packs
    return float(tokens.sum() / (num_packs * tokens_per_batch))


def report_of_fasta(paths: Sequence[Path | str], *, progress: bool = True) -> DataReport:
    """Read FASTA files once and count everything in them as it is written.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged.
    """
    files = [FastaFile(path) for path in paths]
    sequences, names = Seen(), Seen()
    letters = np.zeros(256, np.int64)
    lengths: list[NDArray[np.int32]] = []
    counts = {"records": 0, "empty_records": 0, "duplicate_sequences": 0, "repeated_names": 0}
    title = ", ".join(file.path.name for file in files)
    done, total = 0, sum(file.size for file in files)
    with ReadingProgress(f"inspect {title}", total, enabled=progress) as shown:
        for file in files:
            for batch in file.batches():
                found_names, found, _ = zip(*batch, strict=True)
                text = "".join(found)
                letters += _histogram(text.encode("ascii", "replace"))
                lengths.append(np.fromiter(map(len, found), np.int32, len(found)))
                counts["records"] += len(found)
                counts["empty_records"] += int((lengths[-1] == 0).sum())
                repeated = sequences.add(*sequence_digests(found)) & (lengths[-1] > 0)
                counts["duplicate_sequences"] += int(repeated.sum())
                counts["repeated_names"] += int(names.add_texts(found_names).sum())
                shown.update(done + file.position, len(found), len(text))
            done += file.size
    return DataReport(
        title=title,
        lengths=np.concatenate(lengths),
        letters={chr(i): int(letters[i]) for i in np.argsort(-letters) if letters[i]},
        counts=counts,
    )


def report_of_store(store: SequenceStore) -> DataReport:
    """What a store says of itself, and what became of the records that it was made from."""
    counts = store.info["counts"]
    dropped = {f"dropped_{rule.replace(' ', '_')}": n for rule, n in counts.items()}
    return DataReport(
        title=store.path.name,
        lengths=store.lengths,
        unit="nt" if store.vocabulary.letters_per_token == 1 else "codons",
        counts={
            "records_read": dropped.pop("dropped_read"),
            "kept": dropped.pop("dropped_kept"),
            **dropped,
            "repeated_names": _repeated_names(store),
            "ambiguous_tokens": store.info["ambiguous"],
        },
    )


def _repeated_names(store: SequenceStore) -> int:
    """How many names were there before; by hashes in order, in 8 bytes for each."""
    hashes, done = np.empty(len(store), np.int64), 0
    for names in store.names():
        hashes[done : done + len(names)] = np.fromiter(map(hash, names), np.int64, len(names))
        done += len(names)
    hashes.sort()
    return int((hashes[1:] == hashes[:-1]).sum())


def draw_lengths(report: DataReport, path: Path) -> None:
    """Write a picture of how long the sequences are.

    Args:
        report: The lengths.
        path: A PNG file; replaced as a whole.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    lengths = np.maximum(report.lengths, 1)
    longest, median = int(lengths.max()), float(np.median(lengths))
    edges = np.unique(np.geomspace(lengths.min(), longest + 1, 70).round())
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.hist(lengths, bins=edges.tolist(), color="#9db7d5", edgecolor="#1f5fa8", lw=0.4)
    axes.axvline(median, color="#1f5fa8", lw=1.6, label=f"median: {median:,.0f} {report.unit}")
    share = float((lengths > MAX_LENGTH).mean())
    axes.axvline(
        MAX_LENGTH,
        color="#d1495b",
        ls="--",
        lw=1.6,
        label=f"{MAX_LENGTH:,} {report.unit}: {share:.1%} are longer",
    )
    plain = FuncFormatter(lambda value, _: f"{value:,.0f}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
    axes.xaxis.set_major_formatter(plain)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(plain)
    axes.set(
        xlabel=f"length of a sequence ({report.unit}, logarithmic)",
        ylabel="number of sequences",
        title=f"{report.title}\n{len(lengths):,} sequences, {lengths.sum():,} {report.unit}",
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png")


def _histogram(text: bytes) -> NDArray[np.int64]:
    """How often each byte occurs, (256,); pairs of bytes take half the time."""
    pairs = np.frombuffer(text[: len(text) // 2 * 2], np.uint16)
    table = np.bincount(pairs, minlength=1 << 16).reshape(256, 256)
    counts: NDArray[np.int64] = table.sum(0) + table.sum(1)
    if len(text) % 2:
        counts[text[-1]] += 1
    return counts


def _percent(quantile: int) -> str:
    return {0: "min", 50: "median", 100: "max"}.get(quantile, f"{quantile}%")
