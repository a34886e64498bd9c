"""Lightning's command line for rnafm's tasks and data: fit, validate, test, predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from lightning.pytorch.cli import LightningCLI

import rnafm.callbacks
import rnafm.data.rnacentral  # so that its classes can be named without a path
from rnafm import __version__
from rnafm.data.datamodule import RNADataModule
from rnafm.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Sequence


class TrainingCLI(LightningCLI):
    """Lightning's own, with two of its traps closed."""

    def before_instantiate_classes(self) -> None:
        """Save the configuration as ``fit.yaml``, ``test.yaml``: no verb replaces another's."""
        self.save_config_kwargs = {
            "config_filename": f"{self.subcommand}.yaml",
            "overwrite": True,
        }

    def _parse_ckpt_path(self) -> None:
        """Keep the configuration as given; Lightning would let the checkpoint's replace it."""


def run(args: Sequence[str] | None = None) -> TrainingCLI:
    """Run one of Lightning's verbs.

    Args:
        args: Verb and options; those of the process if not given.
    """
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs that have it; nothing elsewhere
    return TrainingCLI(
        Task,
        RNADataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        parser_kwargs={"prog": "rnafm", "version": __version__},
        trainer_defaults={
            "use_distributed_sampler": False,
            "callbacks": [rnafm.callbacks.RunProgress(), rnafm.callbacks.Throughput()],
        },
        args=None if args is None else list(args),
    )
