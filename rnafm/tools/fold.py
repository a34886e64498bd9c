"""``rnafm fold``: structures of new RNAs."""

from __future__ import annotations

import importlib
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from rnafm.data.fasta import Record
    from rnafm.tools.inputs import Inputs
    from rnafm.tools.known import Known
    from rnafm.tools.predictor import Predictor

_LONGEST_NAME = 100  # of a picture; file systems end at 255 bytes


def fold(  # noqa: PLR0913  # one option each
    checkpoint: Path,
    fasta: Path,
    out: Path | None = None,
    *,
    decoder: Literal["greedy", "nested", "matching", "hybrid"] | None = None,
    threshold: float | None = None,
    max_span: int | None = None,
    constraints: Path | None = None,
    pictures: Path | None = None,
    on_unknown: Literal["error", "unk"] = "error",
    task_module: str | None = None,
) -> None:
    """Predict the structures of the sequences of a FASTA file.

    The decoder is the one that was chosen on validation, unless another is named.

    Args:
        checkpoint: Checkpoint of a ContactPrediction run (.ckpt), or published structure weights.
        fasta: FASTA file, or a table with columns id and sequence. A column reactivity with a
            list of SHAPE reactivities is used.
        out: File to write (.dbn, .ct, .bpseq, or .npz for probabilities); by default dot-brackets
            are printed.
        decoder: How probabilities become pairs: nested, or with pseudoknots (greedy, matching), or
            as bonuses for ViennaRNA's folding (hybrid; needs rnafm[viennarna]).
        threshold: Least probability of a pair.
        max_span: Greatest distance of two nucleotides that pair.
        constraints: File with a line '>name' and a line of constraints for some sequences: x is
            unpaired, matching brackets ()[]{} pair, . is free.
        pictures: Folder for a drawing of every structure (needs rnafm[viennarna]).
        on_unknown: What to do about letters that the vocabulary lacks: stop, or read <unk>.
        task_module: Module with a task of your own, to import first.
    """
    from rnafm.tools.inputs import Inputs
    from rnafm.tools.prediction_files import open_format
    from rnafm.tools.predictor import Predictor

    if pictures is not None:
        _need_vienna()
    predictor = Predictor(checkpoint, task_module=task_module, on_unknown=on_unknown)
    task: Any = predictor.task
    if task.level != "pairs":
        raise ValueError(
            f"{checkpoint} predicts a label per {task.level}, not structures; use rnafm predict"
        )
    chosen = {"method": decoder, "threshold": threshold, "max_span": max_span}
    if decoder not in (None, task.decoder.method) and threshold is None:
        print(
            f"decoder: {decoder} takes the threshold ({task.decoder.threshold:g}) that validation "
            f"chose for {task.decoder.method}; give another with --threshold, or train with "
            f"{decoder} among model.decoders",
            file=sys.stderr,
        )
    task.decoder = replace(task.decoder, **{k: v for k, v in chosen.items() if v is not None})
    writer = None if out is None else open_format(out, task, probabilities=True)
    inputs = Inputs(fasta)
    known = _known(fasta, constraints)
    _check_known(inputs, known, constraints)
    unique = out if writer is not None and writer.needs_unique_names else None
    survey = predictor.survey(inputs, unique_for=unique)
    predictor.say(survey)
    folded = _folded(predictor, inputs, known, pictures)
    if writer is None or out is None:
        _print(folded)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
        parts = []
        for number, (chunk, folds) in enumerate(folded):
            parts.append(Path(folder) / str(number))
            writer.part(parts[-1], chunk, folds)
        whole = Path(folder) / f"whole{out.suffix}"
        writer.merge(parts, whole)
        whole.replace(out)
    print(f"{survey.num_records:,} structures written to {out}")


def _folded(
    predictor: Predictor, inputs: Inputs, known: dict[str, Known], pictures: Path | None
) -> Iterator[tuple[list[Record], list[Any]]]:
    """The structures chunk by chunk; draws them on the way."""
    from rnafm.modules.folding import decode

    task: Any = predictor.task
    taken: set[str] = set()
    for chunk in predictor.chunks(inputs):
        folds = predictor.predict(chunk)
        for number, record in enumerate(chunk):
            if (what := known.get(record.name)) is not None:
                found, letters = folds[number], record.sequence
                try:
                    pairs = decode(found.probabilities, letters, task.decoder, what.constraints)
                except ValueError as error:
                    raise ValueError(f"{what.place}: {record.name!r}: {error}") from error
                folds[number] = found._replace(pairs=pairs)
            if pictures is not None:
                path = pictures / picture_name(record.name, taken)
                _draw(path, record, folds[number].pairs)
        yield chunk, folds
    if pictures is not None:
        print(f"{len(taken):,} drawings in {pictures}", file=sys.stderr)


def _print(folded: Iterator[tuple[list[Record], list[Any]]]) -> None:
    from rnafm.tools.prediction_files import structure_text

    for chunk, folds in folded:
        for record, found in zip(chunk, folds, strict=True):
            print(structure_text(record, found.pairs, ".dbn"), end="", flush=True)


def _known(fasta: Path, constraints: Path | None) -> dict[str, Known]:
    """What is known of some sequences, from the table with them and from a file of its own."""
    from rnafm.tools.known import read_constraints, read_reactivities

    known = read_reactivities(fasta)
    if known:
        print(f"reactivities: of {len(known):,} sequences, from {fasta}", file=sys.stderr)
    if constraints is not None:
        given = read_constraints(constraints)
        print(f"constraints: on {len(given):,} sequences, from {constraints}", file=sys.stderr)
        for name, what in given.items():
            if name in known:
                measured = known[name].constraints.reactivities
                what.constraints = replace(what.constraints, reactivities=measured)
        known |= given
    return known


def _check_known(inputs: Inputs, known: dict[str, Known], constraints: Path | None) -> None:
    """Refuse constraints on sequences that are not there, or are longer or shorter."""
    if constraints is None:
        return
    missing = dict(known)
    for record in inputs:
        what = missing.pop(record.name, known.get(record.name))
        if what is not None and what.length != len(record.sequence):
            raise ValueError(
                f"{what.place}: the constraint on {record.name!r} has {what.length:,} signs, its "
                f"sequence {len(record.sequence):,} letters; give each letter one"
            )
    for name, what in missing.items():
        raise ValueError(
            f"{what.place}: no sequence of {inputs.path} has the name {name!r}; names are the "
            "first words of headers, in full"
        )


def picture_name(name: str, taken: set[str]) -> str:
    """A file name for a drawing: safe on every system, and unlike those taken, to which it goes.

    >>> taken = set()
    >>> [picture_name(name, taken) for name in ("tRNA/1-73", "trna_1-73", "..")]
    ['tRNA_1-73.png', 'trna_1-73_2.png', 'unnamed.png']
    """
    safe = "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in name)
    stem = result = safe[:_LONGEST_NAME].strip(".") or "unnamed"
    number = 1
    while result.lower() in taken:
        number += 1
        result = f"{stem}_{number}"
    taken.add(result.lower())
    return f"{result}.png"


def _draw(path: Path, record: Record, pairs: NDArray[np.int64]) -> None:
    from rnafm.reports.drawing import draw_structure
    from rnafm.reports.pictures import save

    save(draw_structure(record.sequence, pairs, title=record.name), path)


def _need_vienna() -> None:
    try:
        importlib.import_module("RNA")
    except ImportError as error:
        raise ValueError(
            "pictures need ViennaRNA, which is not installed: pip install 'rnafm[viennarna]'"
        ) from error
