"""Leaks: sequences of a validation or test set that training has seen, exactly or nearly."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from rnafm.data.kmers import KmerIndex, choose_k, kmer_sets, normalise

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from numpy.typing import NDArray

OnLeak = Literal["warn", "error", "drop"]

_MOST_KMERS = 512
_REMEDY = (
    "split by family or cluster (split.by), or leave the copies out of training (on_leak: drop)"
)


@dataclass(frozen=True)
class LeakReport:
    """How much of a held-out set is in the training set.

    Args:
        exact: Held-out sequences that are equal to a training sequence, ascending, int64.
        near: The further ones that share at least ``threshold`` of their k-mers with one training
            sequence, ascending, int64.
        similarity: Largest share of the k-mers of each held-out sequence that occurs in one
            training sequence; 1 for equal ones; float32 (n,).
        nearest: That training sequence, the first if several are as near, -1 if none shares a
            k-mer; int64 (n,).
        copied: Training sequences of which one of the held-out sequences is an exact or near copy,
            ascending, int64.
        num_train: Number of training sequences.
        num_whole: Held-out sequences without a k-mer: too short, or ambiguous throughout. They
            were compared as wholes only.
        k: Number of letters of a k-mer.
        threshold: Least share of k-mers of a near copy.
        num_dropped: Training sequences that were left out because of the held-out set.
    """

    exact: NDArray[np.int64]
    near: NDArray[np.int64]
    similarity: NDArray[np.float32]
    nearest: NDArray[np.int64]
    copied: NDArray[np.int64]
    num_train: int
    num_whole: int
    k: int
    threshold: float
    num_dropped: int = 0

    def __bool__(self) -> bool:
        """Whether anything leaks."""
        return len(self.exact) + len(self.near) > 0

    def lines(self, name: str = "test") -> list[str]:
        """What was found in words; the first line says it all.

        Args:
            name: What the held-out set is called.
        """
        num = len(self.similarity)
        threshold = f"{100 * self.threshold:.0f} %"
        if self:
            identity = f"{100 * self.threshold ** (1 / self.k):.0f} %"
            found = (
                f"{name}: {_share(len(self.exact), num)} are exact copies of training sequences; "
                f"{_share(len(self.near), num)} are near copies, which share at least {threshold} "
                f"of their {self.k}-mers with one (an identity of about {identity})"
            )
            lines = [found, f"{name}: what to do: {_REMEDY}"]
        else:
            closest = f"; the closest shares {100 * self.similarity.max():.0f} %" if num else ""
            found = (
                f"{name}: none of {num:,} sequences is in training or shares {threshold} of its "
                f"{self.k}-mers with a training sequence{closest}"
            )
            lines = [found]
        if self.num_dropped:
            lines.append(
                f"{name}: {self.num_dropped:,} training sequences were left out, since {name} has "
                f"copies of them; {self.num_train:,} stay"
            )
        if self.num_whole:
            lines.append(
                f"{name}: {_share(self.num_whole, num)} have no {self.k}-mer (too short, or "
                "ambiguous) and were compared as wholes only"
            )
        return lines

    def numbers(self) -> dict[str, int | float]:
        """Plain numbers, for a report that a program reads."""
        return {
            "sequences": len(self.similarity),
            "training_sequences": self.num_train,
            "exact_copies": len(self.exact),
            "near_copies": len(self.near),
            "near_copy_share": self.threshold,
            "k": self.k,
            "mean_similarity": float(self.similarity.mean()) if len(self.similarity) else 0.0,
            "compared_as_wholes": self.num_whole,
            "dropped_from_training": self.num_dropped,
        }


def find_leaks(
    train_sequences: Sequence[str],
    test_sequences: Sequence[str],
    *,
    near: float = 0.8,
    k: int | None = None,
) -> LeakReport:
    """Find sequences of a held-out set that are, exactly or nearly, in the training set.

    Case does not matter, and T is U. Near is measured without an alignment, as the share of the
    distinct k-mers of a held-out sequence that occur in one training sequence (its containment;
    Broder 1997, doi:10.1109/SEQUEN.1997.666900). So a fragment of a training sequence is a copy.
    Substitutions that lie scattered leave ``identity**k`` of the k-mers whole (Ondov et al. 2016,
    doi:10.1186/s13059-016-0997-x): 80 % of 8-mers stand for an identity of 97 %. Of longer
    sequences 512 k-mers, chosen by hash, are looked up.

    Args:
        train_sequences: Training sequences.
        test_sequences: Held-out sequences.
        near: Least share of the k-mers of a near copy, above 0 and at most 1.
        k: Letters of a k-mer, 4 to 12; 8 to 11 by the median length if not given.

    Raises:
        ValueError: If ``near`` or ``k`` is out of range.
    """
    if not 0 < near <= 1:
        raise ValueError(f"near ({near}) must lie between 0 and 1; 0.8 is usual")
    train, test = normalise(train_sequences), normalise(test_sequences)
    k = choose_k([*train, *test]) if k is None else k
    if not 4 <= k <= 12:  # noqa: PLR2004  # below chance decides, above the index takes gigabytes
        raise ValueError(f"k ({k}) must lie between 4 and 12; leave it out to choose it by length")
    queries = kmer_sets(test, k, _MOST_KMERS)
    similarity = np.zeros(len(test), np.float32)
    nearest = np.full(len(test), -1, np.int64)
    copied = np.isin(np.arange(len(train)), _positions(train, set(test)))
    least = np.maximum(np.ceil(near * queries.sizes - 1e-9), 1)
    if train:
        for part, shared in KmerIndex(kmer_sets(train, k), k).shared(queries):
            best = shared.argmax(1)
            most = shared.max(1)
            similarity[part] = most / np.maximum(queries.sizes[part], 1)
            nearest[part] = np.where(most > 0, best, -1)
            copied |= (shared >= least[part, None]).any(0)
    is_near = (similarity * queries.sizes).round() >= least
    first = {text: len(train) - 1 - i for i, text in enumerate(reversed(train))}
    exact = _positions(test, first)
    similarity[exact] = 1
    nearest[exact] = [first[test[i]] for i in exact]
    is_near[exact] = False
    return LeakReport(
        exact,
        np.flatnonzero(is_near),
        similarity,
        nearest,
        np.flatnonzero(copied),
        num_train=len(train),
        num_whole=int(np.count_nonzero(queries.sizes == 0)),
        k=k,
        threshold=near,
    )


def apply_on_leak(
    rows: Mapping[str, NDArray[np.int64]],
    sequences: Sequence[str],
    on_leak: OnLeak = "warn",
    *,
    near: float = 0.8,
) -> tuple[dict[str, NDArray[np.int64]], dict[str, LeakReport]]:
    """Compare all other sides of a split with its training side, and act.

    Args:
        rows: Row numbers of ``train`` and of the other sides.
        sequences: Sequence of every row.
        on_leak: ``warn`` leaves the rows as they are. ``error`` refuses a split that leaks.
            ``drop`` leaves training rows out of which another side has an exact or near copy; the
            other sides stay as they are, so that numbers compare with published ones.
        near: See :func:`find_leaks`.

    Returns:
        The rows, and a report for every side that is not empty. Numbers in a report are places in
        the returned rows of its side and of ``train``.

    Raises:
        ValueError: If something leaks and ``on_leak`` is ``error``, or if ``drop`` would leave no
            training rows.
    """
    if on_leak not in ("warn", "error", "drop"):
        raise ValueError(f"on_leak ({on_leak!r}) must be warn, error or drop")
    texts = {name: [sequences[row] for row in part] for name, part in rows.items()}
    held_out = [name for name in rows if name != "train" and len(rows[name])]
    reports = {name: find_leaks(texts["train"], texts[name], near=near) for name in held_out}
    leaking = [name for name in held_out if reports[name]]
    if on_leak == "error" and leaking:
        found = "; ".join(reports[name].lines(name)[0] for name in leaking)
        raise ValueError(f"on_leak (error): {found}; {_REMEDY}, or go on all the same with warn")
    if on_leak != "drop" or not leaking:
        return dict(rows), reports
    keep = np.ones(len(rows["train"]), np.bool_)
    for name in leaking:
        keep[reports[name].copied] = False
    if not keep.any():
        raise ValueError(
            f"on_leak (drop): {', '.join(leaking)} has copies of all {len(keep):,} training "
            "sequences; split by family or cluster (split.by)"
        )
    left = [text for text, kept in zip(texts["train"], keep, strict=True) if kept]
    for name in held_out:
        dropped = len(reports[name].copied)
        after = find_leaks(left, texts[name], near=near, k=reports[name].k)
        reports[name] = replace(after, num_dropped=dropped)
    return {**rows, "train": rows["train"][keep]}, reports


def _positions(texts: list[str], wanted: Container[str]) -> NDArray[np.int64]:
    """Where texts are among the wanted ones."""
    return np.array([i for i, text in enumerate(texts) if text in wanted], np.int64)


def _share(part: int, total: int) -> str:
    return f"{part:,} of {total:,} sequences ({100 * part / max(total, 1):.1f} %)"
