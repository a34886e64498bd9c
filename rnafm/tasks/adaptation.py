"""How a pretrained encoder takes part in fine-tuning."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lightning.pytorch.callbacks import EarlyStopping, WeightAveraging
from torch.optim.swa_utils import get_ema_avg_fn

if TYPE_CHECKING:
    import lightning.pytorch as pl
    import torch
    from torch import nn

LORA_LAYERS = ("qkv", "out", "fc1", "fc2")


@dataclass(frozen=True)
class Adaptation:
    """What of the encoder is trained, and how fast.

    Args:
        mode: ``full`` trains all weights. ``frozen`` trains the head only, on embeddings that are
            computed once and kept on disk. ``probe`` is the same with a linear head. ``lora``
            trains low-rank additions to the linear layers (needs ``rnafm[lora]``).
        head_lr: Learning rate of the head, as a multiple of the optimizer's.
        layer_decay: Learning rate of each block, as a multiple of that of the block above it; 0.8
            and 0.9 are common, 1 makes them equal.
        unfreeze_every: Optimizer steps after which one more block is trained, from the last one
            down, the embeddings coming last; 0 trains all from the start.
        lora_rank: Rank of the additions. They are scaled by two, whatever the rank is.
        ema: Decay of an exponential moving average of the weights, which then is what validation,
            test and checkpoints use; 0.999 is common, 0 is none.
        patience: Stop after so many validations without a better score; 0 never does.
    """

    mode: Literal["full", "frozen", "probe", "lora"] = "full"
    head_lr: float = 1.0
    layer_decay: float = 1.0
    unfreeze_every: int = 0
    lora_rank: int = 8
    ema: float = 0.0
    patience: int = 0

    def __post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay ({self.layer_decay}) must lie in (0, 1]")
        if self.head_lr <= 0:
            raise ValueError(f"head_lr ({self.head_lr}) must be above 0")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema ({self.ema}) must lie in [0, 1), such as 0.999, or 0 for none")
        if self.unfreeze_every < 0 or self.patience < 0 or self.lora_rank < 1:
            raise ValueError(
                f"unfreeze_every ({self.unfreeze_every}) and patience ({self.patience}) must be 0 "
                f"or more, lora_rank ({self.lora_rank}) at least 1"
            )
        if self.mode != "full" and (self.unfreeze_every or self.layer_decay != 1):
            raise ValueError(
                f"unfreeze_every and layer_decay are for mode full: in mode {self.mode} the "
                "encoder's own weights are not trained; leave them out"
            )

    @property
    def frozen(self) -> bool:
        """Whether embeddings do not change in training."""
        return self.mode in ("frozen", "probe")

    def lr_scale(self, name: str, num_layers: int) -> float:
        """What the learning rate of a parameter is multiplied by.

        Args:
            name: Of a task's parameter.
            num_layers: Blocks of the encoder.
        """
        depth = _depth(name, num_layers)
        return self.head_lr if depth is None else self.layer_decay ** (num_layers - depth)

    def trains(self, name: str, num_layers: int, step: int) -> bool:
        """Whether a parameter is trained at an optimizer step; see :meth:`lr_scale`."""
        depth = _depth(name, num_layers)
        if depth is None or not self.unfreeze_every:
            return True
        return depth > num_layers - step // self.unfreeze_every

    def apply(self, encoder: nn.Module) -> None:
        """Freeze the encoder, or add low-rank layers to it."""
        if self.frozen:
            encoder.requires_grad_(requires_grad=False)
        elif self.mode == "lora":
            add_lora(encoder, self.lora_rank)

    def callbacks(
        self, monitor: str, mode: str, device: torch.device | None = None
    ) -> list[pl.Callback]:
        """What Lightning has to do for it.

        Args:
            monitor: The logged score that counts.
            mode: ``max`` or ``min``.
            device: Where averaged weights are kept.
        """
        result: list[pl.Callback] = []
        if self.ema:
            average = get_ema_avg_fn(self.ema)  # type: ignore[no-untyped-call]
            result.append(WeightAveraging(device, avg_fn=average))
        if self.patience:
            stopping = EarlyStopping(
                monitor,
                patience=self.patience,
                mode=mode,
                verbose=True,
                check_finite=False,  # a score that is not defined is no reason to stop
                check_on_train_epoch_end=False,  # a run may end before its first validation
            )
            result.append(stopping)
        return result


def add_lora(encoder: nn.Module, rank: int) -> None:
    """Put low-rank additions beside the linear layers; only they are trained from here on.

    Raises:
        ValueError: If ``peft`` is not installed.
    """
    try:
        peft = importlib.import_module("peft")
    except ImportError as error:
        raise ValueError(
            "mode lora needs peft, which is not installed: pip install 'rnafm[lora]'"
        ) from error
    # Twice the rank: checkpoints.lora merges with that factor.
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(LORA_LAYERS))
    peft.inject_adapter_in_model(config, encoder)


def _depth(name: str, num_layers: int) -> int | None:
    """0 for embeddings, i + 1 for block i and, as the last, the final norm; None for the head."""
    if not name.startswith("encoder."):
        return None
    if name.startswith("encoder.final_norm"):
        return num_layers
    block = re.match(r"encoder\.blocks\.(\d+)\.", name)
    return int(block[1]) + 1 if block else 0
