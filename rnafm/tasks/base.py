"""What all tasks share: the encoder, the optimizer, the schedule and what a checkpoint holds."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from rnafm.data.counter import fold
from rnafm.data.resume import count_batches_anew, forget_open_step, resume_inside_epoch
from rnafm.data.vocabulary import Vocabulary
from rnafm.modules.encoder import Encoder, EncoderConfig
from rnafm.modules.schedules import InverseSqrt
from rnafm.moments import logs_at
from rnafm.tasks.agreement import COUNTED, misfits, slow, uneven
from rnafm.tasks.compiling import compile_blocks
from rnafm.tasks.ranks import EndTogether

if TYPE_CHECKING:
    from pathlib import Path

    from lightning.pytorch.cli import OptimizerCallable
    from lightning.pytorch.utilities.types import OptimizerLRScheduler

    from rnafm.data.batch import Batch

logger = logging.getLogger(__name__)

ScheduleCallable = Callable[[Optimizer, int], LRScheduler]


class Task(pl.LightningModule):
    """An encoder and what it is trained for; a subclass adds the head and the loss.

    Args:
        encoder: Shape of a new encoder. A checkpoint brings its own.
        vocabulary: Name of the vocabulary of a new encoder, as for the data. A checkpoint brings
            its own.
        checkpoint: Weights to start from, in any layout that ``rnafm convert`` reads. To continue
            an interrupted run, optimizer and all, use ``--ckpt_path`` instead.
        optimizer: Class and options of the optimizer. Biases, LayerNorms and embeddings are
            always exempt from its weight decay.
        schedule: Class and options of the learning-rate schedule, stepped per optimizer step.
        compile: Whether ``torch.compile`` fuses each block: worth its minute on a GPU, and nothing
            on a CPU. ``auto`` does so on GPUs only.
        activation_checkpointing: Whether a block's inner values are computed again for the
            gradients instead of kept: about a third more work for a fraction of the memory.
    """

    described: ClassVar[tuple[str, ...]] = ()
    """Parameters that are objects: a subclass puts a plain description into the checkpoint."""

    def __init__(
        self,
        encoder: EncoderConfig = EncoderConfig(),
        vocabulary: str | dict[str, Any] = "rna",
        checkpoint: Path | None = None,
        optimizer: OptimizerCallable = lambda groups: AdamW(groups, lr=1e-4, weight_decay=0.01),
        schedule: ScheduleCallable = InverseSqrt,
        *,
        compile: bool | Literal["auto"] = False,  # noqa: A002  # what everybody calls it
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.optimizer, self.schedule, self.compile_blocks = optimizer, schedule, compile
        self._run_seed: int | None = None
        self._losses: list[Tensor] = []
        self._norm: Tensor | None = None
        if checkpoint is None:
            if isinstance(encoder, Mapping):  # as a checkpoint of ours stores it
                encoder = EncoderConfig(**encoder)
            words = vocabulary if isinstance(vocabulary, str) else Vocabulary.from_dict(vocabulary)
            words = Vocabulary.named(words) if isinstance(words, str) else words
            self.encoder = Encoder(encoder, words)
            self.source = None
            self.trained_ids = tuple(range(len(words)))
        else:
            from rnafm.checkpoints import load_checkpoint

            self.source = load_checkpoint(checkpoint)
            self.encoder = self.source.encoder
            self.trained_ids = self.source.trained_ids
            logger.info("Encoder and vocabulary come from %s", checkpoint)
            for note in self.source.notes:
                logger.info("%s: %s", checkpoint, note)
        self.encoder.activation_checkpointing = activation_checkpointing
        # Plain values, so that a checkpoint loads with weights_only=True and needs no other file.
        own = ("checkpoint", "optimizer", "schedule", "compile", "activation_checkpointing")
        self.save_hyperparameters(ignore=[*own, *self.described])
        self.hparams["encoder"] = asdict(self.encoder.config)
        self.hparams["vocabulary"] = self.encoder.vocabulary.to_dict()

    def setup(self, stage: str) -> None:
        """Refuse data that the encoder would misread, and runs that could not be continued."""
        data = getattr(self.trainer, "datamodule", None)
        for error in misfits(self.encoder, data):
            raise ValueError(error)
        self._divide_steps(stage, data)
        for name in COUNTED if stage == "fit" else ():
            accumulate = self.trainer.accumulate_grad_batches
            for error in uneven(name, getattr(self.trainer, name), accumulate):
                raise ValueError(error)
        device = self.trainer.strategy.root_device.type
        wanted = device == "cuda" if self.compile_blocks == "auto" else self.compile_blocks
        precision = str(self.trainer.precision)
        if stage == "fit" and (reason := slow(device, precision)) is not None:
            logger.warning(reason)
        if stage == "fit" and wanted:
            compile_blocks(self.encoder, device, data)

    def teardown(self, stage: str) -> None:
        """Packs are what they are again."""
        self.encoder.pad_to = None

    def _divide_steps(self, stage: str, data: Any) -> None:
        """Accumulate gradients over as many batches as make a step of the wanted tokens."""
        find = getattr(data, "accumulate", None)
        wanted = find(self.trainer.world_size) if find and stage == "fit" else None
        if wanted is None:
            return
        trainer = self.trainer
        if trainer.accumulate_grad_batches not in (1, wanted):
            raise ValueError(
                f"data.tokens_per_step asks for steps of {wanted} batches and "
                f"trainer.accumulate_grad_batches for {trainer.accumulate_grad_batches}; leave one "
                "of them out"
            )
        trainer.accumulate_grad_batches = wanted
        logger.info(
            "A step is %s of up to %s tokens on each of %s",
            f"{wanted} batch" + "es" * (wanted > 1),
            f"{data.tokens_per_batch:,}",
            f"{trainer.world_size} device" + "s" * (trainer.world_size > 1),
        )
        if isinstance(trainer.val_check_interval, int):
            trainer.val_check_interval = math.ceil(trainer.val_check_interval / wanted) * wanted

    def on_train_start(self) -> None:
        """Count batches as this run divides them; a checkpoint may be of another device."""
        count_batches_anew(self.trainer)
        for optimizer in self.trainer.optimizers:
            self._fuse(optimizer)

    def configure_callbacks(self) -> list[pl.Callback]:
        """What every run needs: of several processes none is left behind."""
        return [EndTogether()]

    def on_fit_start(self) -> None:
        """Remember the seed of the run; a continued run has it already."""
        if self._run_seed is None:
            self._run_seed = torch.initial_seed()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Make dropout a function of the step, so that a resumed run drops what it would have."""
        # What metrics are logged under: after a restart Lightning is sometimes one off.
        self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.global_step  # noqa: SLF001
        assert self._run_seed is not None  # noqa: S101  # set at the start
        torch.manual_seed(fold(self._run_seed, self.global_step, batch_idx, self.global_rank))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the task and which tokens have trained weights: conversions make up the others."""
        checkpoint["task"] = f"{type(self).__module__}.{type(self).__qualname__}"
        checkpoint["trained_ids"] = list(self.trained_ids)
        checkpoint["run_seed"] = self._run_seed
        if self._trainer is not None:  # which a task that is saved by itself has not
            forget_open_step(self.trainer, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a run go on exactly where it was, also inside an epoch and after an error."""
        self.trained_ids = tuple(checkpoint.get("trained_ids", self.trained_ids))
        self._run_seed = checkpoint.get("run_seed")
        resume_inside_epoch(checkpoint)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer over groups with and without weight decay, and its schedule."""
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for prefix, module in self.named_modules():
            for name, parameter in module.named_parameters(recurse=False):
                if not parameter.requires_grad:
                    continue
                exempt = name == "bias" or isinstance(module, nn.LayerNorm | nn.Embedding)
                scale = self.lr_scale(f"{prefix}.{name}")
                groups.setdefault((scale, exempt), []).append(parameter)
        optimizer = self.optimizer(
            [
                {"params": parameters, "lr_scale": scale}
                | ({"weight_decay": 0.0} if exempt else {})
                for (scale, exempt), parameters in sorted(groups.items(), key=lambda item: item[0])
            ]
        )
        for group in optimizer.param_groups:
            group["lr"] *= group["lr_scale"]
        self._fuse(optimizer)
        schedule = self.schedule(optimizer, self._total_steps())
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def _fuse(self, optimizer: Optimizer) -> None:
        """One kernel for all parameters instead of thousands; optimizers read it at each step."""
        if self.device.type not in ("cpu", "cuda") or not isinstance(optimizer, Adam | SGD):
            return
        for group in optimizer.param_groups:
            group["fused"] = group["fused"] is not False
            for parameter in group["params"] if group["fused"] else ():
                state = optimizer.state.get(parameter, {})
                if "step" in state:  # from a run without: there it is counted by the processor
                    state["step"] = state["step"].to(parameter.device, torch.float32)

    def lr_scale(self, name: str) -> float:  # for subclasses
        """What the learning rate of a parameter is multiplied by.

        Args:
            name: Its name in :meth:`named_parameters`.
        """
        return 1.0

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by norm. Lightning's own clipping refuses fused optimizers in bf16-mixed."""
        if not gradient_clip_val:
            return
        if gradient_clip_algorithm not in (None, "norm"):
            raise ValueError(
                f"gradient_clip_algorithm {gradient_clip_algorithm} is not supported; use norm"
            )
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if scaler is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            raise ValueError(
                "gradients cannot be clipped in 16-mixed with a fused optimizer, which scales them "
                "back itself; use precision bf16-mixed, or fused: false"
            )
        if all(parameter.grad is None for parameter in self.parameters()):
            return  # the step is left out
        norm, self._norm = self._norm, None
        norm = self.gradient_norm() if norm is None else norm
        torch.nn.utils.clip_grads_with_norm_(self.parameters(), gradient_clip_val, norm)
        self._norm = None
        if self.device_mesh is not None:  # parameters are divided over devices, and so is the norm
            norm = cast("Any", norm).full_tensor()
        self.log("train/grad_norm", norm)

    def gradient_norm(self) -> Tensor:
        """Norm of all gradients before they are clipped, which takes it from here."""
        found = [each.grad for each in self.parameters() if each.grad is not None]
        self._norm = torch.nn.utils.get_total_norm(found)
        return self._norm

    def keep_loss(self, loss: Tensor, batch: Batch) -> Tensor:
        """What to train on of a batch's loss, which is kept for the log.

        Args:
            loss: Mean over the batch.
            batch: The batch; a filler counts for nothing.
        """
        if batch.filler:
            return loss * 0
        self._losses.append(loss.detach().float())
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Log the mean loss of the step's batches on all devices, if this step is logged.

        Otherwise devices do not exchange it, nor does anybody wait for it.
        """
        losses, self._losses = self._losses, []
        if not logs_at(self.trainer, self.global_step + 1):
            return
        total = torch.stack(losses).sum() if losses else torch.zeros((), device=self.device)
        found = torch.stack([total, torch.full_like(total, len(losses))])
        # On the host, since Lightning reads what it shows behind every batch from here on.
        found = self.trainer.strategy.reduce(found, reduce_op="sum").cpu()
        self.log("train/loss", found[0] / found[1].clamp(min=1), prog_bar=True)

    def _total_steps(self) -> int:
        """Optimizer steps of the whole run; 0 if it has no end."""
        trainer = self.trainer
        if trainer.max_steps > 0:
            return trainer.max_steps
        data = getattr(trainer, "datamodule", None)
        if data is None or not trainer.max_epochs or trainer.max_epochs < 0:
            return 0
        batches = len(data.train_dataloader())
        if isinstance(trainer.limit_train_batches, int):
            batches = min(batches, trainer.limit_train_batches)
        else:
            batches = int(batches * trainer.limit_train_batches)
        return math.ceil(batches / trainer.accumulate_grad_batches) * trainer.max_epochs
