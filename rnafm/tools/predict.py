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

    All sequences are looked through before the first prediction. Those longer than the model takes
    are read in overlapping windows. The output is in the order of the input. A run that was
    stopped goes on where it was when the same command is given again. Processes that torchrun
    starts share the work. FASTA files of any size need little memory; a table is held in it.

    Args:
        checkpoint: Checkpoint of a fine-tuning run (.ckpt), or published structure weights.
        data: FASTA file, or a table (CSV, TSV, Parquet, JSON lines) with a column of sequences.
        out: File to write: .csv or .parquet for sequence and token tasks; .dbn, .ct, .bpseq, or
            .npz with base-pair probabilities, for contacts.
        return_probabilities: Write the probability of every class, not only of the predicted one.
        sequence_column: Column of a table with the sequences.
        id_column: Column of a table with the names; without a column id they are row_1, row_2 ...
        on_unknown: What to do about letters that the vocabulary lacks: stop, or read <unk>.
        task_module: Module with a task of your own, to import first.
    """
    from rnafm.data.progress import ReadingProgress
    from rnafm.tools.inputs import Inputs
    from rnafm.tools.parts import Parts, Processes, identity_of
    from rnafm.tools.prediction_files import open_format
    from rnafm.tools.predictor import CHUNK, Predictor

    processes = Processes.from_environment()
    first = processes.rank == 0
    identity = {
        "checkpoint": identity_of(checkpoint),
        "input": identity_of(data),
        "set of options": [return_probabilities, sequence_column, id_column, on_unknown, CHUNK],
    }
    predictor = Predictor(checkpoint, task_module=task_module, on_unknown=on_unknown)
    writer = open_format(out, predictor.task, probabilities=return_probabilities)
    inputs = Inputs(data, sequence_column, id_column)
    survey = predictor.survey(inputs, unique_for=out if writer.needs_unique_names else None)
    if first:
        predictor.say(survey)
    with Parts(out, identity, processes) as parts:
        mine = {number for number in range(len(survey.costs)) if parts.missing(number)}
        total = sum(survey.costs[number] for number in mine)
        done = 0
        with ReadingProgress("predicting", total, enabled=first) as progress:
            for number, chunk in enumerate(predictor.chunks(inputs)):
                if number not in mine:
                    continue
                writer.part(parts.path(number), chunk, predictor.predict(chunk))
                done += survey.costs[number]
                letters = sum(len(record.sequence) for record in chunk)
                progress.update(done, len(chunk), letters)
        if parts.finish(len(survey.costs), writer.merge):
            print(f"{survey.num_records:,} predictions written to {out}")
