"""What a run will need, table by table, as plain values."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rnafm.planning import checks, costs
from rnafm.planning.devices import DEVICES, NETWORKS
from rnafm.planning.recipe import is_sharded, optimizer_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rnafm.data.datamodule import RNADataModule
    from rnafm.planning.corpus import Corpus
    from rnafm.planning.devices import Device
    from rnafm.planning.recipe import Findings
    from rnafm.tasks import Task


class Run:
    """Works out one table after the other.

    Args:
        settings: All settings.
        task: Of the recipe.
        data: Of the recipe.
        corpus: What an epoch holds, if known.
        devices: How many there are in all.
        accumulate: Batches of a device that make a step.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        task: Task,
        data: RNADataModule,
        corpus: Corpus | None,
        devices: int,
        accumulate: int,
    ) -> None:
        self.trainer, self.task, self.data = settings["trainer"], task, data
        self.corpus, self.devices, self.accumulate = corpus, devices, accumulate
        self.config = task.encoder.config
        self.precision = str(self.trainer.get("precision") or "32-true")
        self.mixed = "16" in self.precision
        self.sharded = is_sharded(settings) and devices > 1
        self.parameters = sum(each.numel() for each in task.parameters())
        self.trained = sum(each.numel() for each in task.parameters() if each.requires_grad)
        self.frozen = not any(each.requires_grad for each in task.encoder.parameters())
        self.moments = optimizer_bytes(task)
        self.again = task.encoder.activation_checkpointing
        masking = getattr(task, "masking", None)
        self.masked = 0.0 if masking is None else masking.fraction

    def model(self) -> dict[str, Any]:
        """Parameters."""
        encoder = sum(each.numel() for each in self.task.encoder.parameters())
        return {
            "task": type(self.task).__name__,
            "vocabulary": self.task.encoder.vocabulary.name,
            "parameters": self.parameters,
            "parameters of the encoder": encoder,
            "trained parameters": self.trained,
        }

    def data_table(self) -> dict[str, Any]:
        """What an epoch holds."""
        corpus = self.corpus
        if corpus is None:
            return {}
        return {
            "from": corpus.source,
            "counted": "exactly" if corpus.exact else "estimated from these",
            "sequences of an epoch": corpus.sequences,
            "tokens of an epoch": corpus.tokens,
            "mean tokens of a sequence": corpus.tokens / corpus.sequences,
            "tokens that a token attends to": corpus.squares / corpus.tokens,
            "share of sequences that are cropped": corpus.cropped,
            "share of batches that is filled": corpus.filled,
            "bytes of the store": corpus.store_bytes,
        }

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps of the run; None if it has no end."""
        steps, epochs = self.trainer.get("max_steps") or -1, self.trainer.get("max_epochs") or -1
        limits = [steps] if steps > 0 else []
        if epochs > 0 and self.corpus is not None:
            limits.append(epochs * self._steps_per_epoch())
        return min(limits) if limits else None

    def steps_table(self) -> dict[str, Any]:
        """Tokens and operations."""
        rows: dict[str, Any] = {
            "devices": self.devices,
            "batches of a step and device": self.accumulate,
            "steps of the run": self.total_steps,
        }
        corpus = self.corpus
        if corpus is not None:
            per_step = corpus.tokens / corpus.packs * self.devices * self.accumulate
            flops = self._flops_per_token()
            rows |= {
                "tokens of a step": round(per_step),
                "steps of an epoch": self._steps_per_epoch(),
                "FLOPs of a token": flops,
                "FLOPs of a step": flops * per_step,
            }
            if self.total_steps is not None:
                tokens = self.total_steps * per_step
                rows |= {
                    "tokens of the run": round(tokens),
                    "epochs of the run": tokens / corpus.tokens,
                    "FLOPs of the run": flops * tokens,
                }
        return rows

    def memory_table(self, device: Device, findings: Findings) -> dict[str, Any]:
        """Bytes on one device, as the recipe is, and with activation checkpointing."""
        rows: dict[str, Any] = {}
        for again in (self.again, not self.again):
            found = self._memory(again=again)
            if again == self.again:
                rows |= {name: value for name, value in asdict(found).items() if value}
                rows["all"] = found.total
            else:
                rows[f"all {'with' if again else 'without'} activation checkpointing"] = found.total
        if self.trainer.get("accelerator") != "cpu":
            rows["device"] = f"{device.title}, {device.memory / costs.GIB:.0f} GiB for a process"
            checks.check_memory(rows["all"], device, findings, checkpointing=self.again)
        return rows

    def hours(self, names: Sequence[str], mfu: float) -> dict[str, Any]:
        """How long the run takes on some devices."""
        corpus, network = self.corpus, NETWORKS["infiniband"]
        assert corpus is not None  # noqa: S101  # asked for with data only
        executed = self._flops_per_token(executed=True) * corpus.tokens / corpus.packs
        rows: dict[str, Any] = {"share of the peak assumed (MFU)": mfu}
        for name in names:
            device = DEVICES[name]
            rate = device.flops if self.mixed else device.single
            step = costs.step_time(
                executed * device.flops / rate,
                self.parameters,
                device,
                network,
                devices=self.devices,
                mfu=mfu,
                sharded=self.sharded,
                num_layers=self.config.num_layers,
                micro_batches=self.accumulate,
            )
            tokens = corpus.tokens / corpus.packs * self.devices * self.accumulate
            rows[f"{name}: tokens per second"] = round(tokens / step.total)
            rows[f"{name}: hours of an epoch"] = self._steps_per_epoch() * step.total / 3600
            if self.total_steps is not None:
                rows[f"{name}: hours of the run"] = self.total_steps * step.total / 3600
            if self.devices > 1:
                rows[f"{name}: share of the time spent waiting for others"] = 1 - step.efficiency
        return rows

    def measured(self, path: Path) -> dict[str, Any]:
        """How long the run takes at the speed of another one."""
        with path.open() as file:
            column = "throughput/tokens_per_second"
            speeds = [float(row[column]) for row in csv.DictReader(file) if row.get(column)]
        if not speeds:
            raise ValueError(f"{path}: has no {column}; give the metrics.csv of a run of fit")
        speed = median(speeds[len(speeds) // 4 :])  # the first ones warm up
        rows: dict[str, Any] = {f"measured in {path}: tokens per second": round(speed)}
        if self.corpus is not None and self.total_steps is not None:
            per_step = self.corpus.tokens / self.corpus.packs * self.devices * self.accumulate
            rows["measured: hours of the run"] = self.total_steps * per_step / speed / 3600
        return rows

    def checkpoints(self, findings: Findings) -> dict[str, Any]:
        """How large checkpoints are, and how many there are at most."""
        size = round(4 * self.parameters + self.moments * self.trained)
        number = 0
        interval = self.trainer.get("val_check_interval") or 1.0
        batches = (self.total_steps or 0) * self.accumulate
        validations = math.ceil(batches / interval) if isinstance(interval, int) else 0
        for callback in self.trainer.get("callbacks") or []:
            values = callback.get("init_args") or {}
            if callback["class_path"].endswith("ModelCheckpoint"):
                top = values.get("save_top_k", 1)
                number += validations if top == -1 else top
                number += bool(values.get("save_last"))
        logger = self.trainer.get("logger")
        values = (logger.get("init_args") or {}) if isinstance(logger, dict) else {}
        folder = Path(values.get("save_dir") or self.trainer.get("default_root_dir") or ".")
        needed = (number + 1) * size if number else 0  # one more while it is written
        checks.check_room(folder, needed, number, findings)
        return {"bytes of one": size, "kept at most": number, "bytes needed": needed}

    def _steps_per_epoch(self) -> int:
        assert self.corpus is not None  # noqa: S101  # asked for with data only
        batches, limit = self.corpus.packs // self.devices, self.trainer.get("limit_train_batches")
        if isinstance(limit, float):
            batches = int(batches * limit)
        elif limit is not None:
            batches = min(batches, limit)
        return math.ceil(batches / self.accumulate)

    def _flops_per_token(self, *, executed: bool = False) -> float:
        corpus = self.corpus
        assert corpus is not None  # noqa: S101  # asked for with data only
        vocab_size = len(self.task.encoder.vocabulary) if self.masked else 0
        predicted = round(self.masked * corpus.tokens)
        arguments = (self.config, corpus.tokens, corpus.squares, predicted, vocab_size)
        if self.frozen:
            flops = costs.forward_flops(*arguments)
        elif executed:
            flops = costs.executed_flops(*arguments, checkpointing=self.again)
        else:
            flops = costs.training_flops(*arguments)
        return flops / corpus.tokens

    def _memory(self, *, again: bool) -> costs.Memory:
        tokens = self.data.tokens_per_batch
        kept = costs.activations(
            self.config,
            0 if self.frozen else tokens,
            mixed=self.mixed,
            checkpointing=again,
        )
        return costs.memory(
            self.parameters,
            self.trained,
            self.moments,
            kept,
            block=costs.block_parameters(self.config),
            num_layers=self.config.num_layers,
            shards=self.devices if self.sharded else 1,
            mixed=self.mixed,
            checkpointing=again,
        )
