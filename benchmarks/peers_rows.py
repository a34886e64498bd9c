"""What is compared: package, its way of making batches, and what that is called in the table."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from peers_batches import USUAL, bucketed, in_order, packs, singly
from peers_esm import Esm, EsmFlattened
from peers_models import MultiMolecule, MultiMoleculeNested, Official, Ours, OursPadded

from rnafm.modules.embed import packs_by_cost, tokens_at_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers_batches import Batches

OURS = "rnafm"
PADDED = "rnafm's layers"  # not a peer, nor how rnafm is used
_LATE = ("sorted", "eager")
EMBED = tokens_at_once(torch.device("cpu"))  # what rnafm embed takes by itself


@dataclass(frozen=True)
class Row:
    """One way of calling one package.

    Attributes:
        package: Whose rows it is compared with.
        way: What the table says.
        model: The adapter.
        batches: Makes batches from lengths.
        usual: Whether this is how one calls the package without further thought.
        options: Of the adapter.
        budget: Tokens of a pack, or padded slots, at most.
        compiled: Whether ``torch.compile`` is used.
    """

    package: str
    way: str
    model: Callable[..., Any]
    batches: Callable[[list[int]], Batches]
    usual: bool = False
    options: dict[str, str] = field(default_factory=dict)
    budget: int = 0
    compiled: bool = False

    @property
    def name(self) -> str:
        """Package and way."""
        return f"{self.package}: {self.way}"


@dataclass(frozen=True)
class Sizes:
    """How much is computed at once.

    Attributes:
        sequences: Of the sample.
        budgets: Tokens of a pack; the first is what rnafm is judged by.
        usual: Sequences of a batch in the order given.
        slots: Padded slots of a batch of sequences sorted by length.
    """

    sequences: int
    budgets: tuple[int, ...]
    usual: int
    slots: int


SIZES = {
    ("inference", "cpu"): Sizes(24, (EMBED, 2048), USUAL, 2048),
    ("training", "cpu"): Sizes(16, (1024, 2048), USUAL, 2048),
    ("inference", "cuda"): Sizes(1024, (65536, 16384), 64, 65536),
    ("training", "cuda"): Sizes(1024, (65536, 16384, 32768, 131072), 64, 65536),
}
SMALL = Sizes(4, (256,), 2, 256)


def rows(part: str, device: str, sizes: Sizes) -> list[Row]:
    """All rows of a part; the first is the one that the others are compared with."""
    found = [*_ours(part, device, sizes), *_multimolecule(part, device, sizes)]
    found += [*_official(part, device, sizes), *_esm(sizes)]
    if device == "cpu":  # the best ways, the usual ones, and what lies between if time is left
        return sorted(found, key=lambda row: (row.way.startswith(_LATE), row.usual))
    # One sequence at a time leaves a GPU idle. What takes long to compile comes late, and last what
    # computes the attention of all tokens of a pack to each other.
    found = [row for row in found if row.batches is not singly]
    first = found[0]
    return sorted(
        found, key=lambda row: (row.way.endswith(", sdpa"), row.compiled and row is not first)
    )


def choose(found: list[Row], pattern: str) -> list[Row]:
    """The rows whose names match.

    Raises:
        ValueError: If there are none.
    """
    chosen = [row for row in found if re.search(pattern, row.name)]
    if not chosen:
        names = "; ".join(row.name for row in found)
        raise ValueError(f"no row matches {pattern!r}; there are: {names}")
    return chosen


def _ours(part: str, device: str, sizes: Sizes) -> list[Row]:
    make = packs if part == "training" else _sorted_packs
    padded = Row(PADDED, f"padded, {_bucketed(sizes)}", OursPadded, bucketed(sizes.slots))
    eager = [
        Row(OURS, f"packs of {budget:,} tokens", Ours, make(budget), budget=budget)
        for budget in sizes.budgets
    ]
    if device == "cpu":
        return [*eager, padded]
    compiled = [_compiled(row) for row in eager]
    return [compiled[0], eager[0], padded, _compiled(padded), *eager[1:], *compiled[1:]]


def _compiled(row: Row) -> Row:
    return replace(row, way=f"{row.way}, compiled", compiled=True)


def _multimolecule(part: str, device: str, sizes: Sizes) -> list[Row]:
    name = MultiMolecule.package
    nested = packs(sizes.budgets[0]) if part == "training" else _sorted_packs(sizes.budgets[0])
    found = [
        Row(name, "one sequence at a time", MultiMolecule, singly),
        Row(name, f"NestedTensor, {sizes.budgets[0]:,} tokens", MultiMoleculeNested, nested),
        Row(name, _bucketed(sizes), MultiMolecule, bucketed(sizes.slots)),
        Row(
            name,
            f"eager attention, {_bucketed(sizes)}",
            MultiMolecule,
            bucketed(sizes.slots // (4 if device == "cuda" else 1)),
            options={"attention": "eager"},
        ),
        Row(name, _usual(sizes), MultiMolecule, in_order(sizes.usual), usual=True),
    ]
    return [*found, _compiled(found[2])] if device == "cuda" else found


def _official(part: str, device: str, sizes: Sizes) -> list[Row]:
    # It keeps the attention weights of all layers for the gradients: 20 GB for 16 long sequences.
    name, usual = Official.package, sizes.usual
    if part == "training":
        usual = min(usual, 32 if device == "cuda" else 2)
    slots = sizes.slots // (4 if device == "cuda" else 1)
    return [
        Row(name, "one sequence at a time", Official, singly),
        Row(name, f"sorted, {slots:,} slots", Official, bucketed(slots)),
        Row(name, f"{usual} in given order", Official, in_order(usual), usual=True),
    ]


def _esm(sizes: Sizes) -> list[Row]:
    name = Esm.package
    flat, way = _sorted_packs(sizes.budgets[0]), "DataCollatorWithFlattening"
    return [
        Row(name, "one sequence at a time", Esm, singly),
        Row(name, _bucketed(sizes), Esm, bucketed(sizes.slots)),
        Row(name, _usual(sizes), Esm, in_order(sizes.usual), usual=True),
        Row(name, f"{way}, sdpa", EsmFlattened, flat),
        Row(
            name,
            f"{way}, flash_attention_2",
            EsmFlattened,
            flat,
            options={"attention": "flash_attention_2"},
        ),
    ]


def _bucketed(sizes: Sizes) -> str:
    return f"sorted, {sizes.slots:,} slots"


def _usual(sizes: Sizes) -> str:
    return f"{sizes.usual} in given order"


def _sorted_packs(budget: int) -> Callable[[list[int]], Batches]:
    def batches(lengths: list[int]) -> Batches:
        return list(packs_by_cost(lengths, budget))

    return batches
