"""``rnafm predict``: a fine-tuned task applied to new sequences."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # the command line reads the signature
from typing import Literal


def predict(
    checkpoint: Path,
    data: Path,
    out: Path,
    *,
    return_probabilities: bool = False,
    sequence_column: str = "sequence",
    id_column: str = "id",
    on_unknown: Literal["error", "unk"] = "error",
    task_module: str | None = None,
) -> None:
    """Predict for all sequences of a file with a fine-tuned task.

    Sequences longer than the model takes are read in overlapping windows. The output is in the
    order of the input; a run that was stopped goes on where it was. Started by torchrun, processes
    share the work.

    Args:
        checkpoint: Checkpoint of a fine-tuning run (.ckpt), or published structure weights.
        data: FASTA file, or a table (CSV, TSV, Parquet, JSON lines) with a column of sequences.
        out: File to write: .csv or .parquet for sequence and token tasks; .dbn, .ct, .bpseq, or
            .npz with base-pair probabilities, for contacts.
        return_probabilities: Write the probability of every class, not only of the predicted one.
        sequence_column: Column of a table with the sequences.
        id_column: Column of a table with the names.
        on_unknown: What to do about letters that the vocabulary lacks: stop, or read <unk>.
        task_module: Module with a task of your own, to import first.
    """
    from rnafm.data.progress import ReadingProgress
    from rnafm.tools.parts import Parts, Processes, identity_of
    from rnafm.tools.prediction_files import open_format
    from rnafm.tools.predictor import Predictor, chunks, read_records

    predictor = Predictor(checkpoint, task_module=task_module, on_unknown=on_unknown)
    writer = open_format(out, predictor.task, probabilities=return_probabilities)
    processes = Processes.from_environment()
    options = [return_probabilities, sequence_column, id_column, on_unknown]
    identity = {
        "checkpoint": identity_of(checkpoint) if checkpoint.is_file() else str(checkpoint),
        "data": identity_of(data),
        "options": options,
    }
    parts = Parts(out, identity, processes)
    number = count = letters = 0
    first = processes.rank == 0
    with ReadingProgress("predicting", data.stat().st_size, enabled=first) as progress:
        records = read_records(data, sequence_column, id_column)
        for number, chunk in enumerate(chunks(records), start=1):
            if parts.missing(number - 1):
                writer.part(parts.path(number - 1), chunk, predictor.predict(chunk, data))
            count += len(chunk)
            size = sum(len(record.sequence) for record in chunk)
            letters += size
            progress.update(min(letters, data.stat().st_size), len(chunk), size)
    if not number:
        raise ValueError(f"{data} has no sequences")
    if parts.finish(number, writer.merge):
        print(f"{count:,} predictions written to {out}")
        if processes.world_size == 1:
            predictor.say_windows()
