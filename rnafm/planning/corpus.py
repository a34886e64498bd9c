"""What the data of a recipe will be: read from the store if there is one, estimated if not."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rnafm.data.fasta import FastaFile
from rnafm.data.manifest import difference
from rnafm.data.order import Order, Shuffle
from rnafm.data.rnacentral import RNAcentralDataModule
from rnafm.data.room import estimate, free_bytes
from rnafm.data.sampler import PackSampler
from rnafm.data.store import keep_if_costly, wanted_of
from rnafm.data.supervised import SupervisedDataModule

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rnafm.data.datamodule import RNADataModule
    from rnafm.planning.recipe import Findings
    from rnafm.tasks import Task

_SAMPLE = 50_000  # sequences that an estimate rests on, at the beginning of each file
_PLACES = ("fasta", "files", "val_files", "test_files")
_WINDOW = 1 << 20  # places of an order that are looked at together


@dataclass(frozen=True)
class Corpus:
    """The training data of a run.

    Args:
        source: Where the numbers come from.
        exact: Whether they were counted, or estimated from a sample.
        sequences: In an epoch.
        tokens: In an epoch, special ones included, after cropping.
        squares: Sum of the squared lengths in tokens.
        longest: Tokens of the longest sequence.
        cropped: Share of the sequences that are longer than ``max_length``.
        packs: Batches of all devices in an epoch.
        filled: Share of the budget that batches hold.
        store_bytes: What the stores take on the disk.
    """

    source: str
    exact: bool
    sequences: int
    tokens: int
    squares: int
    longest: int
    cropped: float
    packs: int
    filled: float
    store_bytes: int = 0


def look_at(
    data: RNADataModule,
    task: Task,
    findings: Findings,
    *,
    devices: int,
    accumulate: int,
) -> Corpus | None:
    """Find out what an epoch will be; None where that cannot be known, which is an error."""
    missing = _missing(data)
    findings.errors.extend(missing)
    if missing:
        return None
    division = {"world_size": devices, "accumulate": accumulate}
    if isinstance(data, SupervisedDataModule):
        return _labelled(data, task, division)
    if isinstance(data, RNAcentralDataModule):
        reason = _why_built(data)
        if reason is None:
            return _stored(data, division)
        path = data.path
        needed = estimate(data.fasta, data.vocabulary)
        findings.attempt(keep_if_costly, path, reason)
        free = free_bytes(path.parent)
        text = f"{path}: will be built first, since {reason}: about {needed / 1e9:,.2f} GB"
        if needed > free:
            findings.errors.append(
                f"{text}, but {free / 1e9:,.2f} GB are free; make room, or set data.store"
            )
        else:
            findings.notes.append(text)
        return _sampled(data, division, needed)
    findings.notes.append(f"{type(data).__name__}: what an epoch holds is not known before it runs")
    return None


def _missing(data: RNADataModule) -> list[str]:
    """Files of the recipe that are not there."""
    named: list[Any] = []
    for place in _PLACES:
        values = getattr(data, place, None) or []
        named += values if isinstance(values, (list, tuple)) else [values]
    paths = [Path(each) for each in named if isinstance(each, (str, Path))]
    errors = [
        f"{path}: there is no such file; correct the path" for path in paths if not path.exists()
    ]
    if isinstance(data, RNAcentralDataModule) and not data.fasta:
        errors += [
            f"{path}: there is no such store; make it with: rnafm prepare"
            for path in data.stores
            if not (path / "store.json").is_file()
        ]
    return errors


def _why_built(data: RNAcentralDataModule) -> str | None:
    """Why the store will be built; None if it is up to date."""
    if not data.fasta:
        return None
    wanted = wanted_of(data.vocabulary, data.filters, data.columns, data.on_unknown)
    return difference(data.path, wanted, [FastaFile(path) for path in data.fasta])


def _stored(data: RNAcentralDataModule, division: dict[str, Any]) -> Corpus:
    data.scratch = None  # nothing is copied for a plan
    data.setup("fit")
    dataset, mixture = data.splits()["train"], data.mixture
    assert mixture is not None  # noqa: S101  # opened by setup
    whole = mixture.lengths[dataset.indices]
    size = sum(file.stat().st_size for path in data.stores for file in path.iterdir())
    return _count(
        ", ".join(map(str, data.stores)),
        dataset.lengths(),
        cropped=float((whole > data.max_length).mean()),
        budget=data.budget,
        order=dataset.order,
        division=division,
        store_bytes=size,
    )


def _labelled(data: SupervisedDataModule, task: Any, division: dict[str, Any]) -> Corpus:
    data.prepare_data()
    data.setup("fit")
    data.bind(task.objective.spec(task.level), task.encoder.config.max_length)
    dataset = data.splits()["train"]
    tokens = data.num_tokens()[dataset.indices]
    lengths = dataset.lengths()
    return _count(
        str(data.first_file),
        tokens,
        cropped=float((tokens - 2 > task.encoder.config.max_length).mean()),
        budget=max(data.budget, int(lengths.max())),
        order=dataset.order,
        division=division,
        costs=lengths,
    )


def _sampled(data: RNAcentralDataModule, division: dict[str, Any], store_bytes: int) -> Corpus:
    """From the beginning of each file, scaled to its size. Filters are not applied."""
    lengths: list[int] = []
    total = 0.0
    for path in data.fasta:
        file, own = FastaFile(path), []
        for records in file.batches():
            own += [len(sequence) for _, sequence, _ in records]
            if len(own) >= _SAMPLE:
                break
        lengths += own
        total += len(own) * file.size / max(file.position, 1)
    whole = np.array(lengths, np.int64) // data.vocabulary.letters_per_token
    tokens = np.minimum(whole, data.max_length) + 2
    scale = total * (1 - data.val_fraction) / len(whole)
    part = _count(
        f"the first {len(whole):,} sequences of {len(data.fasta)} file(s)",
        tokens,
        cropped=float((whole > data.max_length).mean()),
        budget=data.budget,
        order=Shuffle(len(tokens), data.seed),
        division={"world_size": 1, "accumulate": 1},
        store_bytes=store_bytes,
    )
    step = division["world_size"] * division["accumulate"]
    packs = -(-round(part.packs * scale) // step) * step
    grown = {
        name: round(getattr(part, name) * scale) for name in ("sequences", "tokens", "squares")
    }
    filled = grown["tokens"] / (packs * data.budget)
    return Corpus(**{**asdict(part), **grown, "packs": packs, "filled": filled, "exact": False})


def _count(
    source: str,
    tokens: NDArray[np.integer],
    *,
    cropped: float,
    budget: int,
    order: Order,
    division: dict[str, Any],
    costs: NDArray[np.integer] | None = None,
    store_bytes: int = 0,
) -> Corpus:
    """Count an epoch, with the packs that the sampler will make."""
    spent = tokens if costs is None else costs
    sampler = PackSampler(spent, budget, order=order, **division)
    visits = np.ones(len(tokens), np.int64)
    if not isinstance(order, Shuffle):  # which visits every sequence once
        visits[:] = 0
        for start in range(0, order.size, _WINDOW):
            places = order(0, start, min(start + _WINDOW, order.size)) % len(tokens)
            visits += np.bincount(places, minlength=len(tokens))
    values = tokens.astype(np.int64)
    return Corpus(
        source=source,
        exact=True,
        sequences=order.size,
        tokens=int((values * visits).sum()),
        squares=int((values * values * visits).sum()),
        longest=int(values.max()),
        cropped=cropped,
        packs=sampler.num_packs,
        filled=float((spent * visits).sum() / (sampler.num_packs * budget)),
        store_bytes=store_bytes,
    )
