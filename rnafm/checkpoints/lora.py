"""Low-rank additions, merged into the layers that they are additions to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

LORA_SCALE = 2.0
"""What additions are multiplied by, whatever their rank: peft's ``lora_alpha / r``."""


def merge_lora(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without low-rank layers that computes the same.

    Args:
        state: With keys as ``peft`` makes them: ``x.base_layer.weight``,
            ``x.lora_A.default.weight`` (r, in) and ``x.lora_B.default.weight`` (out, r). Others
            stay as they are.
    """
    merged = {}
    for key, tensor in state.items():
        name, _, kind = key.rpartition(".base_layer.")
        if ".lora_" in key:
            continue
        if name and kind == "weight":
            first = state[f"{name}.lora_A.default.weight"]
            second = state[f"{name}.lora_B.default.weight"]
            merged[f"{name}.weight"] = tensor + LORA_SCALE * (second @ first)
        else:
            merged[f"{name}.{kind}" if name else key] = tensor
    return merged
