"""What a run was trained on: which sequences, how they were split, what leaks."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LONGEST_NAME = 100


def describe_data(data: Any) -> dict[str, Any]:
    """A fingerprint of data: plain values, without names of folders.

    Args:
        data: A data module that is set up; of one that is not rnafm's as much as it tells.

    Returns:
        ``digest`` changes with the sequences, their labels and their split, and with nothing else.
        Beside it stand sequences and tokens of each split, what stores were made from and what was
        left out of them, the way of splitting, leaks and notes.
    """
    facts: dict[str, Any] = {"module": type(data).__name__}
    if vocabulary := getattr(data, "vocabulary", None):
        facts["vocabulary"] = vocabulary.name
    if (mixture := getattr(data, "mixture", None)) is not None:
        passes = list(data.stores.values())
        facts["stores"] = {
            store.path.name: _describe_store(store, times)
            for store, times in zip(mixture.stores, passes, strict=True)
        }
        facts["split"] = _how_pretraining_is_split(data)
    if own := getattr(data, "facts", None):
        facts |= _reported(own)
    facts["splits"] = {name: _describe_split(data, part) for name, part in data.splits().items()}
    facts["digest"] = _digest(data, facts)
    return facts


def artifact_name(data: Any) -> str:
    """What the data are called among the artifacts of W&B: by their first file or store."""
    path = getattr(data, "path", None) or getattr(data, "first_file", None)
    name = Path(path).name if path else type(data).__name__
    return "data-" + re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)[:_LONGEST_NAME]


def manifests(data: Any) -> dict[str, dict[str, Any]]:
    """By name of the store what its manifest says, but for what differs where it is built."""
    stores = getattr(getattr(data, "mixture", None), "stores", [])
    return {store.path.name: _lasting(store.info) for store in stores}


def data_page(facts: Mapping[str, Any]) -> dict[str, int | float | str]:
    """The numbers that runs are compared by, for the summary of a run.

    >>> data_page({"digest": "a1", "splits": {"val": {"sequences": 5, "tokens": 60}}})
    {'data/digest': 'a1', 'data/val_sequences': 5, 'data/val_tokens': 60}
    """
    page = {"data/digest": facts["digest"]}
    for split, numbers in facts["splits"].items():
        for name in ("sequences", "tokens"):
            page[f"data/{split}_{name}"] = numbers[name]
    for split, found in facts.get("leaks", {}).items():
        for name in ("exact_copies", "near_copies", "dropped_from_training"):
            page[f"data/{split}_{name}"] = found[name]
    return page


def _describe_store(store: Any, passes: float) -> dict[str, Any]:
    info = store.info
    return {
        "digest": store.fingerprint,
        "manifest": info["digest"],
        "counts": info["counts"],
        "tokens": info["tokens"],
        "settings": info["settings"],
        "passes": passes,
        "files": [_lasting_source(source) for source in info["sources"]],
    }


def _how_pretraining_is_split(data: Any) -> str:
    share = f"{100 * data.val_fraction:g} % for validation"
    if data.split_by == "sequence":
        return (
            f"by the hash of each sequence, {share}; most of these have relatives in training, so "
            "their loss says little about new families"
        )
    return f"by {data.split_by}, {share}: whole groups"


def _reported(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What data with labels say for a test report, less the folders."""
    from rnafm.reports.gallery import shortened

    names = ("split", "leaks", "notes", "long_sequences")
    kept = {name: facts[name] for name in names if facts.get(name)}
    return {"description": shortened(facts["data"]), **kept} if "data" in facts else kept


def _describe_split(data: Any, part: Any) -> dict[str, Any]:
    # What lengths() counts of structures is pairs.
    lengths = data.num_tokens()[part.indices] if hasattr(data, "num_tokens") else part.lengths()
    return {
        "sequences": len(part.indices),
        "tokens": int(np.sum(lengths, dtype=np.int64)),
        "digest": _hash([np.ascontiguousarray(part.indices)]),
    }


def _digest(data: Any, facts: Mapping[str, Any]) -> str:
    """Of sequences, labels and split."""
    parts = [json.dumps({name: split["digest"] for name, split in facts["splits"].items()})]
    parts += [store["digest"] for store in facts.get("stores", {}).values()]
    if hasattr(data, "fingerprint"):
        parts.append(data.fingerprint)
    labels = getattr(data, "labels", None) or []
    return _hash([*(part.encode() for part in parts), *map(np.ascontiguousarray, labels)])


def _hash(parts: Iterable[Any]) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _lasting(info: Mapping[str, Any]) -> dict[str, Any]:
    sources = [_lasting_source(source) for source in info["sources"]]
    return {**{key: value for key, value in info.items() if key != "digest"}, "sources": sources}


def _lasting_source(source: Mapping[str, Any]) -> dict[str, Any]:
    """A file without its time, so that a store that is built again is the same data."""
    return {key: value for key, value in source.items() if key != "mtime_ns"}
