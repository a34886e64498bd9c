"""``rnafm embed``: embeddings of all sequences of a FASTA file."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  # the command line reads the signature
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rnafm.checkpoints import Checkpoint
    from rnafm.data.fasta import Record

TooLong = Literal["error", "crop", "skip"]
_CHUNK_TOKENS = 32_768  # read, computed and written at a time: bounds the memory


def embed(  # noqa: PLR0913  # one option each
    fasta: Path,
    checkpoint: Path,
    out: Path,
    *,
    pool: Literal["mean", "cls", "none"] = "mean",
    layer: int = -1,
    too_long: TooLong = "error",
    on_unknown: Literal["error", "unk"] = "error",
    tokens_per_batch: int | None = None,
    precision: Literal["32", "bf16"] = "32",
) -> None:
    """Write embeddings of the sequences of a FASTA file to Parquet, NPZ or HDF5.

    Args:
        fasta: FASTA file, plain or gzip.
        checkpoint: Weights in any layout, or a training run's .ckpt.
        out: File to write; its name ends in .parquet, .npz or .h5.
        pool: One embedding per sequence (mean over nucleotides, or that of <cls>), or none: one
            per nucleotide, special tokens left out.
        layer: Which hidden state: 0 is the input of the first block, -1 the encoder's output.
        too_long: What to do with sequences that do not fit into the model: stop, take their
            beginning, or leave them out. Both of the latter are counted.
        on_unknown: What to do about letters that the vocabulary lacks: stop, or read <unk>.
        tokens_per_batch: Tokens computed at once; by default 1,024 on a CPU, 65,536 on a GPU.
        precision: 32 bits, the numbers of the published implementations; or bf16, for speed on a
            GPU, which differs from them by about one per cent.
    """
    import torch

    from rnafm.checkpoints import load_checkpoint
    from rnafm.data.fasta import FastaFile
    from rnafm.data.progress import ReadingProgress
    from rnafm.modules.attention import slow_in_half_precision
    from rnafm.modules.embed import tokens_at_once
    from rnafm.tools.writers import open_writer

    source = load_checkpoint(checkpoint)
    for note in source.notes:
        print(f"{checkpoint}: {note}", file=sys.stderr)
    encoder = source.encoder
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encoder.to(device)
    budget = tokens_per_batch or tokens_at_once(torch.device(device))
    half = torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
    if precision == "bf16" and slow_in_half_precision(device):
        raise ValueError(
            "--precision bf16 is slower than 32 on this processor, which has no AMX; leave it out"
        )
    limit = encoder.config.max_length * encoder.vocabulary.letters_per_token
    file = FastaFile(fasta)
    untrained = _untrained(source)
    count = long = odd = 0
    with (
        open_writer(out, encoder.config.embed_dim, per_token=pool == "none") as writer,
        ReadingProgress("embedding", file.size) as progress,
        half,
    ):
        for records in _chunks(file, max(_CHUNK_TOKENS, budget)):
            fitting, longer = _fit(records, limit, too_long, fasta)
            names = [record.name for record in fitting]
            embeddings = encoder.embed(
                [record.sequence for record in fitting],
                names=[f"{fasta}:{name}" for name in names],
                pool=None if pool == "none" else pool,
                layer=layer,
                tokens_per_batch=budget,
                on_unknown=on_unknown,
            )
            writer.add(names, [part.numpy() for part in embeddings])
            count, long = count + len(fitting), long + longer
            odd += sum(not untrained.isdisjoint(record.sequence.upper()) for record in fitting)
            letters = sum(len(record.sequence) for record in records)
            progress.update(file.position, len(records), letters)
    what = "embeddings" if pool != "none" else "sequences, an embedding per nucleotide,"
    print(f"{count:,} {what} of width {encoder.config.embed_dim} written to {out}")
    if long:
        done = "were cut to their beginning" if too_long == "crop" else "were left out"
        print(f"{long:,} sequences longer than {limit:,} nt {done}")
    if odd:
        kinds = " ".join(sorted(untrained))
        print(f"{odd:,} sequences have letters that the model was not trained on ({kinds})")


def _untrained(source: Checkpoint) -> set[str]:
    """Letters whose embeddings are made up, as conversions leave them."""
    tokens = source.vocabulary.tokens
    return {t for i, t in enumerate(tokens) if i not in source.trained_ids and len(t) == 1}


def _chunks(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    chunk: list[Record] = []
    letters = 0
    for record in records:
        chunk.append(record)
        letters += len(record.sequence) + 2
        if letters >= size:
            yield chunk
            chunk, letters = [], 0
    if chunk:
        yield chunk


def _fit(
    records: list[Record], limit: int, too_long: TooLong, fasta: Path
) -> tuple[list[Record], int]:
    """The records that the model takes, and how many were longer than that."""
    fitting, longer = [], 0
    for record in records:
        length = len(record.sequence)
        if length <= limit:
            fitting.append(record)
            continue
        longer += 1
        if too_long == "error":
            raise ValueError(
                f"{fasta}:{record.name}: {length:,} nt are more than the model's {limit:,}; "
                "shorten it, or give --too-long crop or --too-long skip"
            )
        if too_long == "crop":
            fitting.append(record._replace(sequence=record.sequence[:limit]))
    return fitting, longer
