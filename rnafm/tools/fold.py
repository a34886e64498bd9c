"""``rnafm fold``: structures of new RNAs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path  # noqa: TC003  # the command line reads the signature
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnafm.data.fasta import Record
    from rnafm.modules.constraints import Constraints
    from rnafm.modules.folding import Decoder
    from rnafm.tools.prediction_files import PredictionFile


def fold(
    checkpoint: Path,
    fasta: Path,
    out: Path | None = None,
    *,
    decoder: Literal["greedy", "nested", "matching", "hybrid"] | None = None,
    threshold: float | None = None,
    max_span: int | None = None,
    constraints: Path | None = None,
    pictures: Path | None = None,
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
        constraints: FASTA-like file with a line for each sequence, as ViennaRNA reads them: x is
            unpaired, matching brackets pair, . is free.
        pictures: Folder for a drawing of every structure.
    """
    from rnafm.data.structure import format_dbn
    from rnafm.tools.prediction_files import open_format
    from rnafm.tools.predictor import Predictor, chunks, read_records

    predictor = Predictor(checkpoint)
    task: Any = predictor.task
    if task.level != "pairs":
        raise ValueError(
            f"{checkpoint} predicts a label per {task.level}, not structures; use rnafm predict"
        )
    chosen = {"method": decoder, "threshold": threshold, "max_span": max_span}
    task.decoder = replace(task.decoder, **{k: v for k, v in chosen.items() if v is not None})
    known = _known(fasta, constraints)
    print(f"decoder: {task.decoder.describe()}", file=sys.stderr)
    writer = None if out is None else open_format(out, task, probabilities=True)
    parts: list[Path] = []
    count = 0
    for chunk in chunks(read_records(fasta, "sequence", "id")):
        folds = _constrained(predictor.predict(chunk, fasta), chunk, task.decoder, known)
        for record, found in zip(chunk, folds, strict=True):
            if writer is None:
                print(format_dbn(record.name, record.sequence, found.pairs), end="")
            if pictures is not None:
                _draw(pictures, record.name, record.sequence, found.pairs)
        count += len(chunk)
        if writer is not None and out is not None:
            parts.append(out.with_name(f".{out.name}.{len(parts)}"))
            writer.part(parts[-1], chunk, folds)
    if writer is not None and out is not None:
        _finish(writer, parts, out)
        print(f"{count:,} structures written to {out}")
    if known:
        names = ", ".join(sorted(known)[:5])
        raise ValueError(f"{constraints or fasta}: no sequence is named {names} in {fasta}")
    predictor.say_windows()


def _finish(writer: PredictionFile, parts: list[Path], out: Path) -> None:
    """Put the parts together."""
    from rnafm.files import atomic

    with atomic(out) as temporary:
        writer.merge(parts, temporary)
    for part in parts:
        part.unlink()


def _constrained(
    folds: list[Any], records: Sequence[Record], decoder: Decoder, known: dict[str, Constraints]
) -> list[Any]:
    """Decode those again of which something is known; takes them out of ``known``."""
    from rnafm.modules.folding import decode

    result = []
    for fold_, record in zip(folds, records, strict=True):
        what = known.pop(record.name, None)
        if what is None:
            result.append(fold_)
        else:
            pairs = decode(fold_.probabilities, record.sequence, decoder, what)
            result.append(fold_._replace(pairs=pairs))
    return result


def _known(fasta: Path, constraints: Path | None) -> dict[str, Constraints]:
    """What is known of some sequences, from the table with them and from a file of its own."""
    known = read_reactivities(fasta)
    if constraints is not None:
        for name, what in read_constraints(constraints).items():
            measured = known[name].reactivities if name in known else None
            known[name] = replace(what, reactivities=measured)
    return known


def read_reactivities(path: Path) -> dict[str, Constraints]:
    """SHAPE reactivities by name, where the sequences are in a table that has them.

    Raises:
        ValueError: If a cell is no list of numbers.
    """
    from rnafm.data.labels import LabelSpec, encode_labels
    from rnafm.data.table import read_table, unique_ids
    from rnafm.modules.constraints import Constraints
    from rnafm.tools.predictor import is_table

    if not is_table(path):
        return {}
    table = read_table(path)
    if "reactivity" not in table.columns:
        return {}
    labels = encode_labels(
        [[cell] for cell in table.columns["reactivity"]],
        LabelSpec("value", "token", 1),
        [len(sequence) for sequence in table.columns["sequence"]],
        table.places,
        columns=["reactivity"],
    )
    names = unique_ids(table, "id")
    return {
        name: Constraints(reactivities=values[:, 0])
        for name, values in zip(names, labels, strict=True)
    }


def read_constraints(path: Path) -> dict[str, Constraints]:
    """What is known about some structures, by name of the sequence.

    Raises:
        ValueError: If a line is not made of dots, x and brackets.
    """
    from rnafm.data.structure import pairs_from_dot_bracket
    from rnafm.modules.constraints import Constraints

    known: dict[str, str] = {}
    name = ""
    for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        line = text.strip()
        if line.startswith(">"):
            name = line[1:].split(maxsplit=1)[0] if line[1:].strip() else ""
        elif line and not name:
            raise ValueError(f"{path}:{number}: there is no '>name' line before this one; add it")
        elif line and not line.isalpha():  # a sequence may stand between
            known[name] = line
            if strange := sorted(set(line) - set(".x()[]{}<>")):
                raise ValueError(
                    f"{path}:{number}: {' '.join(strange)} means nothing in a constraint; use . "
                    "for free, x for unpaired and brackets for pairs"
                )
    return {
        name: Constraints(
            pairs=[
                (int(i), int(j))
                for i, j in pairs_from_dot_bracket(line.replace("x", "."), f"{path}: {name}")
            ],
            unpaired=[place for place, sign in enumerate(line) if sign == "x"],
        )
        for name, line in known.items()
    }


def _draw(folder: Path, name: str, sequence: str, pairs: Any) -> None:
    from rnafm.reports.drawing import draw_structure
    from rnafm.reports.pictures import save

    safe = "".join(sign if sign.isalnum() or sign in "._-" else "_" for sign in name)
    save(draw_structure(sequence, pairs, title=name), folder / f"{safe}.png")
