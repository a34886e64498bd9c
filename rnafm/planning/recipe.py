"""A configuration, read as ``rnafm fit`` reads it, with a model that takes no memory."""

from __future__ import annotations

import importlib
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rnafm.data.datamodule import RNADataModule
    from rnafm.tasks import Task


_T = TypeVar("_T")


@dataclass
class Findings:
    """What is wrong with a recipe, and what its user may want to know.

    Args:
        errors: Why the run would not start, or not end.
        notes: What would surprise.
    """

    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def attempt(self, function: Callable[..., _T], *values: Any, **options: Any) -> _T | None:
        """What a function gives; None, and its error kept, where a user has to put something right.

        Args:
            function: What is done.
            *values: Passed on.
            **options: Passed on.
        """
        try:
            return function(*values, **options)
        except (ValueError, OSError, TypeError, RuntimeError) as error:
            self.errors.append(" ".join(str(error).split()))
            return None


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """All settings of a run: what ``rnafm fit`` with these options would have.

    Raises:
        SystemExit: If they are not understood; what is wrong has been printed.
    """
    import yaml  # type: ignore[import-untyped]

    from rnafm.training import run

    printed = StringIO()
    try:
        with redirect_stdout(printed):
            run(["fit", *words, "--print_config"])
    except SystemExit as stop:
        if stop.code:
            raise SystemExit(1) from stop
    settings: dict[str, Any] = yaml.safe_load(printed.getvalue())
    return settings


def build_task(settings: dict[str, Any]) -> Task:
    """The task of a recipe, without memory for its parameters unless a checkpoint brings them."""
    values = settings["model"]
    if not (values.get("init_args") or {}).get("checkpoint"):
        # Some tasks compute with tensors when they are made, which needs real ones.
        with suppress(Exception), torch.device("meta"):
            return _instantiate(values)  # type: ignore[no-any-return]
    return _instantiate(values)  # type: ignore[no-any-return]


def build_data(settings: dict[str, Any]) -> RNADataModule:
    """The data module of a recipe; nothing is read yet."""
    return _instantiate(settings["data"])  # type: ignore[no-any-return]


def optimizer_bytes(task: Task) -> float:
    """Bytes that the optimizer of a task remembers of each parameter, found out on a small one."""
    parameter = torch.nn.Parameter(torch.zeros(64, 64))
    optimizer = task.optimizer([{"params": [parameter], "lr_scale": 1.0}])
    parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    values = [each for each in optimizer.state[parameter].values() if torch.is_tensor(each)]
    return sum(each.nbytes for each in values if each.numel() > 1) / parameter.numel()


def world_size(settings: dict[str, Any], devices: int | None, findings: Findings) -> int:
    """Devices of the run: as asked for, or as the recipe says."""
    if devices is not None:
        return devices
    trainer = settings["trainer"]
    nodes, each = int(trainer.get("num_nodes") or 1), trainer.get("devices", "auto")
    if isinstance(each, str) and "," in each:
        each = [part for part in each.split(",") if part]
    if isinstance(each, list):
        return len(each) * nodes
    if str(each).isdigit():
        return int(each) * nodes
    if trainer.get("accelerator") != "cpu":
        findings.notes.append(
            f"trainer.devices is {each}: planned with one on each node; say how many with --devices"
        )
    return nodes


def is_sharded(settings: dict[str, Any]) -> bool:
    """Whether the strategy divides parameters over devices."""
    strategy = settings["trainer"].get("strategy")
    name = strategy.get("class_path", "") if isinstance(strategy, dict) else str(strategy)
    return name.rpartition(".")[2] in ("FSDP2Strategy", "ModelParallelStrategy")


def _instantiate(values: dict[str, Any]) -> Any:
    """An object of the class that a configuration names, with its values."""
    from jsonargparse import ArgumentError, ArgumentParser

    module, _, name = values["class_path"].rpartition(".")
    parser = ArgumentParser(exit_on_error=False)
    # Not as one of the base's subclasses: the reason of an error would be lost among what it tried.
    parser.add_class_arguments(getattr(importlib.import_module(module), name), "it")
    try:
        config = parser.parse_object({"it": values.get("init_args") or {}})
    except ArgumentError as error:
        raise ValueError(str(error)) from error
    return parser.instantiate_classes(config).it
