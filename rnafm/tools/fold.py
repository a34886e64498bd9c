"""``rnafm fold``: structures of new RNAs."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  # the command line reads the signature
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rnafm.modules.constraints import Constraints


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
    from dataclasses import replace

    from rnafm.data.structure import format_dbn
    from rnafm.files import atomic
    from rnafm.modules.folding import decode
    from rnafm.tools.prediction_files import open_format
    from rnafm.tools.predictor import Predictor, chunks, read_records

    predictor = Predictor(checkpoint)
    task: Any = predictor.task
    if task.level != "pairs":
        raise ValueError(
            f"{checkpoint} predicts a label per {task.level}, not structures; use rnafm predict"
        )
    chosen = {"method": decoder, "threshold": threshold, "max_span": max_span}
    task.decoder = replace(
        task.decoder, **{name: value for name, value in chosen.items() if value is not None}
    )
    known = {} if constraints is None else read_constraints(constraints)
    print(f"decoder: {task.decoder.describe()}", file=sys.stderr)
    writer = None if out is None else open_format(out, task, probabilities=True)
    parts: list[Path] = []
    count = 0
    for chunk in chunks(read_records(fasta, "sequence", "id")):
        folds = predictor.predict(chunk, fasta)
        for number, record in enumerate(chunk):
            if (what := known.pop(record.name, None)) is not None:
                pairs = decode(folds[number].probabilities, record.sequence, task.decoder, what)
                folds[number] = folds[number]._replace(pairs=pairs)
            if writer is None:
                print(format_dbn(record.name, record.sequence, folds[number].pairs), end="")
            if pictures is not None:
                _draw(pictures, record.name, record.sequence, folds[number].pairs)
        count += len(chunk)
        if writer is not None and out is not None:
            parts.append(out.with_name(f".{out.name}.{len(parts)}"))
            writer.part(parts[-1], chunk, folds)
    if known:
        raise ValueError(
            f"{constraints}: there is no sequence named {', '.join(sorted(known)[:5])} in {fasta}"
        )
    if writer is not None and out is not None:
        with atomic(out) as temporary:
            writer.merge(parts, temporary)
        for part in parts:
            part.unlink()
        print(f"{count:,} structures written to {out}")
    if predictor.windowed:
        limit = task.encoder.config.max_length
        print(
            f"{predictor.windowed:,} sequences longer than {limit:,} nt were read in windows",
            file=sys.stderr,
        )


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
