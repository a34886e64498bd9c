"""Published layouts of weights <-> ours.

================  ==================================================================
``rnafm``         one ``.safetensors`` file with configuration and vocabulary inside
``official``      ``.pth`` of the authors' ``fm`` package
``multimolecule`` a directory with ``config.json``, ``vocab.txt``, ``model.safetensors``
``lightning``     ``.ckpt`` of a training run; only read here
================  ==================================================================
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open

from rnafm.checkpoints.base import Checkpoint, LoadOptions
from rnafm.checkpoints.multimolecule import CONFIG, WEIGHTS, read_multimolecule, write_multimolecule
from rnafm.checkpoints.native import (
    DIGEST_KEY,
    FORMAT_KEY,
    read_lightning,
    read_native,
    write_native,
)
from rnafm.checkpoints.official import read_official, write_official
from rnafm.checkpoints.pickles import load_pickle
from rnafm.checkpoints.rows import with_vocabulary

if TYPE_CHECKING:
    from os import PathLike

    from torch import Tensor

    from rnafm.data.vocabulary import Vocabulary

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint", "with_vocabulary"]

Layout = Literal["rnafm", "official", "multimolecule", "lightning"]
_SHOWN = 200  # characters of somebody else's message
_PICKLES = (".pth", ".pt", ".bin", ".ckpt")


def load_checkpoint(
    path: str | PathLike[str],
    layout: Layout | Literal["auto"] = "auto",
    *,
    zero_mask_row: bool = False,
    layer_norm_eps: float | None = None,
    num_heads: int | None = None,
) -> Checkpoint:
    """Read encoder, masked-LM head and published structure head from any layout, where it has them.

    Nothing in the file is executed, whatever it holds.

    Args:
        path: A ``.safetensors``, ``.pth``, ``.pt``, ``.bin`` or ``.ckpt`` file, or a MultiMolecule
            directory (or the weights in it).
        layout: How to read it; ``auto`` sees that from the content.
        zero_mask_row: Set the embedding of ``<mask>`` to 0, as the ``fm`` package does for files
            in which embeddings and decoder share their memory. Otherwise it stays as stored.
        layer_norm_eps: Use this one instead of what the file says or implies.
        num_heads: Number of attention heads, for official files that do not say.

    Returns:
        The modules as float32 on the CPU, in training mode, and notes on what was left out or
        corrected.

    Raises:
        FileNotFoundError: If there is nothing at ``path``.
        ValueError: If the content is not what the layout asks for, or would have to be executed.
    """
    path = Path(path)
    options = LoadOptions(layer_norm_eps=layer_norm_eps, num_heads=num_heads)
    try:
        checkpoint = _read(path, layout, options)
    except OSError:
        raise
    except Exception as error:
        # Of a file that is broken, or made to break its reader, anything may be missing anywhere.
        places = [path, *([path.parent] if path.parent.name else [])]
        if isinstance(error, ValueError) and any(str(place) in str(error) for place in places):
            raise
        reason = f"{type(error).__name__}: {str(error)[:_SHOWN]}"
        raise ValueError(
            f"{path} does not hold what a checkpoint of its layout has to ({reason}); download it "
            "again, or name its layout instead of leaving it to be guessed"
        ) from error
    if zero_mask_row:
        with torch.no_grad():
            checkpoint.encoder.embed_tokens.weight[checkpoint.vocabulary.mask_id] = 0
        checkpoint.notes.append("the embedding of <mask> was set to 0")
    return checkpoint


def save_checkpoint(
    checkpoint: Checkpoint,
    path: str | PathLike[str],
    layout: Literal["rnafm", "official", "multimolecule"] = "rnafm",
    *,
    vocabulary: Vocabulary | None = None,
) -> list[str]:
    """Write a checkpoint; files appear under their names only when they are complete.

    Args:
        checkpoint: ``Checkpoint(encoder, head)`` will do.
        path: A ``.safetensors`` file, a ``.pth`` file, or a directory, after the layout.
        layout: ``rnafm`` keeps everything.
        vocabulary: Reorder the token embeddings for this one first. Otherwise the vocabulary stays,
            but ``official`` knows only its own, and official ones become ``rna`` and ``codon`` in
            ``multimolecule``.

    Returns:
        Sentences about what could not be kept.

    Raises:
        ValueError: If the name or the model does not fit the layout.
    """
    path = Path(path)
    suffixes = {"rnafm": (".safetensors",), "official": (".pth", ".pt"), "multimolecule": ("",)}
    fits = path.suffix in suffixes[layout] if layout != "multimolecule" else not path.is_file()
    if not fits:
        wanted = " or ".join(suffixes[layout]) if layout != "multimolecule" else "a directory"
        raise ValueError(f"layout {layout!r} is written to {wanted}, not to {path}")
    notes: list[str] = []
    if vocabulary is not None:
        known = set(checkpoint.notes)
        structure = (checkpoint.structure_head, checkpoint.threshold)
        checkpoint = with_vocabulary(checkpoint, vocabulary)
        checkpoint = replace(checkpoint, structure_head=structure[0], threshold=structure[1])
        notes = [note for note in checkpoint.notes if note not in known]
    writers = {
        "rnafm": write_native,
        "official": write_official,
        "multimolecule": write_multimolecule,
    }
    return notes + writers[layout](checkpoint, path)


def _read(path: Path, layout: str, options: LoadOptions) -> Checkpoint:
    if path.is_dir():
        path = _weights_in(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; give the path of a file or directory")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, layout, options)
    if path.suffix in _PICKLES:
        return _read_pickle(path, layout, options)
    raise ValueError(
        f"{path}: a checkpoint ends in .safetensors, {', '.join(_PICKLES)} or is a directory, "
        f"not {path.suffix or 'nothing'}; rename it to what it is"
    )


def _weights_in(directory: Path) -> Path:
    for name in (WEIGHTS, "pytorch_model.bin"):
        if (directory / name).is_file():
            return directory / name
    raise FileNotFoundError(
        f"{directory} has no {WEIGHTS}; a MultiMolecule checkpoint is a directory with {CONFIG} "
        "and that file: download all of it, or give the path of a single file"
    )


def _read_safetensors(path: Path, layout: str, options: LoadOptions) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a complete safetensors file ({error}); download it again"
        ) from error
    if layout == "auto":
        ours = FORMAT_KEY in metadata or DIGEST_KEY in metadata
        layout = "rnafm" if ours else "multimolecule"
    if layout == "rnafm":
        if FORMAT_KEY not in metadata and DIGEST_KEY not in metadata:
            raise ValueError(
                f"{path} has no rnafm metadata: it was not written by rnafm; name another layout"
            )
        return read_native(tensors, metadata, path, options)
    if layout == "multimolecule":
        return read_multimolecule(tensors, path.parent, options)
    raise ValueError(f"{path} is a safetensors file, which layout {layout!r} never is")


def _read_pickle(path: Path, layout: str, options: LoadOptions) -> Checkpoint:
    content: dict[str, Any] = load_pickle(path)
    if layout == "auto":
        if "state_dict" in content:
            layout = "lightning"
        else:
            layout = "multimolecule" if path.suffix == ".bin" else "official"
    if layout == "lightning":
        if "state_dict" not in content:
            raise ValueError(
                f"{path} has no state_dict: Lightning did not write it; try layout auto"
            )
        return read_lightning(content, path, options)
    if layout == "multimolecule":
        return read_multimolecule(content, path.parent, options)
    if layout == "official":
        return read_official(content, path, options)
    raise ValueError(f"{path} is a pickle, which layout {layout!r} never is; try layout auto")
