"""Pickled checkpoints, read without ever running what is in them."""

from __future__ import annotations

import argparse
import pickle
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rnafm.checkpoints.archives import check_archive, check_sizes, holds, is_archive

if TYPE_CHECKING:
    from pathlib import Path

_ROOM = b"bytearray"


def load_pickle(path: Path, *, mapped: bool = True) -> dict[str, Any]:
    """The dictionary in a ``.pth``, ``.pt``, ``.bin`` or ``.ckpt`` file; tensors on the CPU.

    Only tensors, plain values, ``argparse.Namespace`` (the options in fairseq files) and numpy
    scalars (their meters) are built. None of these runs code.

    Raises:
        ValueError: If the file needs anything else, is damaged, or holds no dictionary.
    """
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [
        argparse.Namespace,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    ]
    check_archive(path)
    _refuse_room(path)
    try:
        with torch.serialization.safe_globals(allowed):
            # Mapped where possible: optimizer states, twice the size of the weights, stay on disk.
            content = torch.load(
                path, map_location="cpu", weights_only=True, mmap=mapped and is_archive(path)
            )
    except pickle.UnpicklingError as error:
        unsafe = re.search(r"(?:GLOBAL|class|function) ([\w.]*\.\w+)", str(error))
        if unsafe is None:
            raise _damaged(path, error) from error
        raise ValueError(
            f"{path} is refused: reading it would run {unsafe[1]}, and weights need no code. Use a "
            "file from a source that you trust, or have its author save the tensors only, best as "
            ".safetensors"
        ) from error
    except Exception as error:  # torch's unpickler stumbles over broken content in every way
        raise _damaged(path, error) from error
    if not isinstance(content, dict):
        raise ValueError(  # noqa: TRY004  # the content of a file, not a type in the caller's code
            f"{path} holds a {type(content).__name__}, not a dictionary of weights; "
            "save the state_dict of the model"
        )
    check_sizes(content, path)
    return content


def _refuse_room(path: Path) -> None:
    """Refuse a pickle that asks for memory without bringing anything to put there.

    Of all that torch builds only ``bytearray`` takes a mere number, and weights need none.
    """
    if holds(path, _ROOM):
        raise ValueError(
            f"{path} is refused: it holds a bytearray, which may be of any size, and weights need "
            "none; use a file from a source that you trust, best as .safetensors"
        )


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0]
    return ValueError(f"{path} cannot be read as a torch file ({reason}); download it again")
