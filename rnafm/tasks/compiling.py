"""Blocks compiled one by one: they share their code, and weights keep their names."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnafm.modules.encoder import Encoder

logger = logging.getLogger(__name__)


def compile_blocks(encoder: Encoder, device: str, data: Any) -> None:
    """Let ``torch.compile`` fuse each block of an encoder at its first batch.

    Where packs are limited by their tokens, all are filled up to that number, so that the compiler
    sees one shape only. Where it could not work, blocks are left as they are.

    Args:
        encoder: Changed in place.
        device: Type of the device, such as ``cuda``.
        data: The data module.
    """
    if device == "cuda" and (missing := missing_compiler()):
        logger.warning(
            "Blocks are not compiled, which would make training faster: %s. To silence "
            "this: --model.compile false",
            missing,
        )
        return
    # torch would divide each block between two buckets of DDP's, which whole models gain from.
    importlib.import_module("torch._dynamo").config.optimize_ddp = False
    budget = getattr(data, "tokens_per_batch", None)
    if budget == getattr(data, "budget", None):
        encoder.pad_to = budget
    for block in encoder.blocks:
        block.compile()


def missing_compiler() -> str | None:
    """What torch lacks to make kernels for a GPU; None if it is all there."""
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install triton)"
    names = [os.environ.get("CC"), "gcc", "cc", "clang"]
    if not any(name and shutil.which(name) for name in names):
        return "there is no C compiler (gcc, cc or clang; the environment variable CC names one)"
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        return f"there is no {header} (Debian's package python3-dev has it)"
    return None
