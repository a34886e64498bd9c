"""What fine-tuning tasks share: objective, adaptation of the encoder, and their steps."""

from __future__ import annotations

import hashlib
import logging
import warnings
from abc import abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch.optim import AdamW

from rnafm.data.embedding_cache import EmbeddingCache
from rnafm.modules.schedules import WarmupCosine
from rnafm.modules.windows import embed_long
from rnafm.tasks.adaptation import Adaptation
from rnafm.tasks.base import Task
from rnafm.tasks.objectives import Objective

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    import lightning.pytorch as pl
    from lightning.pytorch.cli import OptimizerCallable
    from torch import Tensor
    from torch.optim import Optimizer

    from rnafm.data.batch import Batch
    from rnafm.tasks.base import ScheduleCallable

logger = logging.getLogger(__name__)


class SupervisedTask(Task):
    """An encoder, a head and an objective; a subclass brings the head.

    Args:
        objective: What is predicted: loss, metrics and the number of outputs.
        adaptation: What of the encoder is trained, and how fast.
        optimizer: See :class:`Task`.
        schedule: See :class:`Task`.
        **kwargs: See :class:`Task`.
    """

    level: ClassVar[Literal["sequence", "token", "pairs"]]
    described: ClassVar[tuple[str, ...]] = ("objective", "adaptation")

    def __init__(
        self,
        objective: Objective,
        adaptation: Adaptation = Adaptation(),
        optimizer: OptimizerCallable = lambda groups: AdamW(groups, lr=1e-4, weight_decay=0.01),
        schedule: ScheduleCallable = WarmupCosine,
        **kwargs: Any,
    ) -> None:
        super().__init__(optimizer=optimizer, schedule=schedule, **kwargs)
        if isinstance(objective, dict):  # as a checkpoint of ours stores it
            objective = Objective.from_dict(objective)
        if isinstance(adaptation, dict):
            adaptation = Adaptation(**adaptation)
        self.objective, self.adaptation = objective, adaptation
        self.hparams["objective"] = objective.to_dict()
        self.hparams["adaptation"] = asdict(adaptation)
        adaptation.apply(self.encoder)
        self.encoder.train(not adaptation.frozen)  # a fit begins in the mode that it finds
        self.scores = objective.new_metric()
        self._cache: EmbeddingCache | None = None

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """Logits of a batch, (n, C), in the order of its labels."""

    @abstractmethod
    def predict_step(self, batch: Batch) -> list[Any]:
        """The prediction for each sequence of the batch, on the CPU."""

    @property
    def monitor(self) -> str:
        """The logged score that says which weights are best."""
        return f"val/{self.objective.monitor}"

    @property
    def monitor_mode(self) -> str:
        """Whether that score is to become large or small: ``max`` or ``min``."""
        return self.objective.mode

    @property
    def reads(self) -> str:
        """Which embeddings the head reads, and are kept where the encoder is frozen."""
        return "tokens"

    def pool(self, embeddings: Tensor, batch: Batch) -> Tensor:
        """What the head :attr:`reads`, from the embeddings of all tokens, (N, D)."""
        return embeddings

    def embeddings(self, batch: Batch) -> Tensor:
        """What the head reads: from the encoder, or from the disk where it is frozen."""
        if self._cache is not None:
            return self._cache.read(batch.indices).to(self.dtype)
        return self._encode(batch)

    def training_step(self, batch: Batch) -> Tensor:
        """The objective's loss."""
        return self.keep_loss(self.objective.loss(self(batch), self.labels(batch)), batch)

    def validation_step(self, batch: Batch) -> None:
        """Add a batch to the scores."""
        logits = self(batch)
        if not batch.filler:
            self.scores.update(logits, self.labels(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the scores over the whole split, on all devices together."""
        self.log_scores(self.scores.compute())
        self.scores.reset()

    def test_step(self, batch: Batch) -> list[Any]:  # type: ignore[override]  # for the callback
        """What :meth:`predict_step` gives; the report is made of it."""
        return self.predict_step(batch)

    @property
    def facts(self) -> dict[str, Any]:
        """What a report says of the task."""
        return {
            "task": type(self).__name__,
            "objective": type(self.objective).__name__,
            "adaptation": self.adaptation.mode,
        }

    def reported(self, predictions: dict[int, Any]) -> dict[int, Any]:
        """What a report scores of the predictions of :meth:`predict_step`."""
        return predictions

    def labels(self, batch: Batch) -> Tensor:
        """The labels in the order of the logits."""
        assert batch.labels is not None  # noqa: S101  # bound in setup
        return batch.labels

    def log_scores(self, scores: dict[str, Tensor]) -> None:
        """Log what validation gave; the bar shows the loss and the headline."""
        for name, value in scores.items():
            shown = name in ("loss", self.monitor.removeprefix("val/"))
            self.log(f"val/{name}", value, prog_bar=shown, sync_dist=True)

    def setup(self, stage: str) -> None:
        """Bind the data to the objective: all labels are checked here, before the first step."""
        super().setup(stage)
        self._cache = None  # of other data, perhaps
        data = getattr(self.trainer, "datamodule", None)
        if data is None or not hasattr(data, "bind"):
            given = "there is none" if data is None else f"{type(data).__name__} has no labels"
            raise ValueError(
                f"{type(self).__name__} needs data with labels, such as LabelledDataModule or "
                f"StructureDataModule; {given}"
            )
        data.bind(self.objective.spec(self.level), self.encoder.config.max_length)
        self._check_splits(stage, data.splits())
        if stage == "fit":
            self.fit_objective(data)

    def fit_objective(self, data: Any) -> None:
        """Let the objective learn from the training labels what it has to, such as their mean."""
        self.objective.fit(torch.from_numpy(data.labels_of("train")))

    def configure_callbacks(self) -> list[pl.Callback]:
        """Averaging and early stopping, if asked for."""
        device = self.trainer.strategy.root_device
        own = self.adaptation.callbacks(self.monitor, self.monitor_mode, device)
        return [*super().configure_callbacks(), *own]

    def lr_scale(self, name: str) -> float:
        """See :class:`Adaptation`."""
        return self.adaptation.lr_scale(name, self.encoder.config.num_layers)

    def train(self, mode: bool = True) -> SupervisedTask:  # noqa: FBT001, FBT002  # torch's
        """Switch to training; a frozen encoder has no dropout."""
        super().train(mode)
        if self.adaptation.frozen:
            self.encoder.eval()
        return self

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Leave blocks alone that are not unfrozen yet.

        Their gradients are dropped rather than not computed, so that all devices always agree on
        what they exchange.
        """
        super().on_before_optimizer_step(optimizer)
        if self.adaptation.unfreeze_every:
            self._norm = None  # without them it is another
            layers = self.encoder.config.num_layers
            for name, parameter in self.named_parameters():
                if not self.adaptation.trains(name, layers, self.global_step):
                    parameter.grad = None

    def on_fit_start(self) -> None:
        """Compute the embeddings of a frozen encoder, once."""
        super().on_fit_start()
        if self.adaptation.frozen:  # Lightning asks whether that is meant
            warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode")
        if self.adaptation.frozen and self.reads:
            self._cache = self._open_cache()

    def on_fit_end(self) -> None:
        """Read no more of the embeddings: what is predicted from here on may be anything."""
        self._cache = None

    def refuse_hidden(self, hidden_dim: int | None) -> None:
        """A probe asks what the embeddings hold, not what a head can make of them."""
        if hidden_dim is not None and self.adaptation.mode == "probe":
            raise ValueError(
                f"a probe has a linear head: leave hidden_dim ({hidden_dim}) out, or use mode "
                "frozen"
            )

    def _check_splits(self, stage: str, splits: Collection[str]) -> None:
        """Refuse to begin what would stop for want of rows; a fit may do without validation."""
        needed = {"fit": "train", "validate": "val", "test": "test"}.get(stage)
        if needed is not None and needed not in splits:
            raise ValueError(
                f"there are no rows for {needed} (there are for {', '.join(splits)}); set "
                f"data.split, or data.{'files' if needed == 'train' else f'{needed}_files'}"
            )
        if stage != "fit" or "val" in splits:
            return
        trainer: Any = self.trainer
        trainer.limit_val_batches = 0  # or Lightning would ask for them
        for callback in trainer.callbacks:
            monitored = getattr(callback, "monitor", None) or ""
            if monitored.startswith("val/"):
                raise ValueError(
                    f"there are no rows for validation, and {type(callback).__name__} looks at "
                    f"{monitored}; set data.split.val or data.val_files, or leave its monitor out"
                )

    def _encode(self, batch: Batch) -> Tensor:
        embeddings = embed_long(self.encoder, batch.tokens, batch.cu_seqlens, batch.max_seqlen)
        return self.pool(embeddings, batch)

    def _open_cache(self) -> EmbeddingCache:
        """The embeddings of all rows; the first process computes them if they are not there."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        lengths = data.num_tokens()
        if self.reads != "tokens":
            lengths = np.minimum(lengths, 1)
        about = f"{data.fingerprint} {sorted(data.used())} {asdict(self.encoder.config)}"
        about += f" {self.trainer.precision}"
        key = hashlib.blake2b(about.encode(), digest_size=8)
        for name, tensor in self.encoder.state_dict().items():
            content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            key.update(name.encode() + content.numpy().tobytes())
        path = data.cache_folder / f"{key.hexdigest()}.{self.reads}.npy"
        cache = EmbeddingCache(path, lengths, self.encoder.config.embed_dim)
        if self.trainer.is_global_zero:
            cache.fill(self._encode_all(data.every_row()))
        self.trainer.strategy.barrier("embedding cache")
        return cache

    @torch.no_grad()
    def _encode_all(self, loader: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        self.encoder.eval()
        for batch in loader:
            on_device = self.transfer_batch_to_device(batch, self.device, 0)
            with self.trainer.precision_plugin.forward_context():
                embeddings = self._encode(on_device)
            yield batch, embeddings
