"""Training that is divided over devices: parameters, gradients and optimizer state in shards."""

from __future__ import annotations

import logging
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from os import PathLike

    from torch.distributed.device_mesh import DeviceMesh
    from torch.optim import Optimizer

logger = logging.getLogger(__name__)


class FSDP2Strategy(ModelParallelStrategy):
    """Lightning's FSDP2 over all devices of all nodes, with the checkpoints of a single process.

    Every device holds its share of each parameter, gradient and moment, and gathers the parameters
    of a block when it computes it: what :func:`shard` has set up. A checkpoint is one ordinary
    file, the same as that of a run on one device: all tools read it, and a run may go on from it
    with another number of devices, or under DDP, and the other way round.

    Args:
        process_group_backend: ``nccl`` or ``gloo``; by default what the devices use.
        timeout: After how long a device that waits for the others gives up.
    """

    def __init__(
        self,
        process_group_backend: str | None = None,
        timeout: timedelta = timedelta(minutes=30),
    ) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )

    def setup_environment(self) -> None:
        """Divide over all devices; Lightning would divide over nodes only.

        Raises:
            ValueError: If weights are to be averaged, which needs all of them on every device.
        """
        task: Any = self.lightning_module
        if any(isinstance(each, WeightAveraging) for each in task.trainer.callbacks):
            raise ValueError(
                "weights that are in shards cannot be averaged: set model.adaptation.ema to 0, or "
                "train under DDP (configs/trainer/ddp.yaml)"
            )
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()
        mesh = self.device_mesh["data_parallel"]

        def configure_model() -> None:
            shard(task, task.encoder.blocks, mesh, str(task.trainer.precision))

        # Lightning calls it behind the task's setup, which compiles blocks. It is no method of
        # tasks themselves: weights of those that have one are not averaged without a warning.
        task.configure_model = configure_model

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole weights, on the first process; the others help to gather them."""
        assert self.lightning_module is not None  # noqa: S101  # set before anything is saved
        return cast("dict[str, Any]", self._gathered(self.lightning_module.state_dict()))

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state as an optimizer of a single process has it."""
        return cast("dict[str, Any]", self._gathered(optimizer.state_dict()))

    def load_checkpoint(
        self,
        checkpoint_path: str | PathLike[str],
        weights_only: bool | None = None,  # noqa: FBT001  # Lightning's
    ) -> dict[str, Any]:
        """Read a checkpoint of any strategy on every process and keep its share of it."""
        path = Path(self.broadcast(str(checkpoint_path)))
        checkpoint = self.checkpoint_io.load_checkpoint(path, weights_only=True)
        module = self.lightning_module
        assert module is not None  # noqa: S101  # set before anything is loaded
        # The task's own loading: buffers and what is not sharded stay as they are.
        state = _sharded(checkpoint["state_dict"], module.state_dict())
        module.load_state_dict(state, strict=module.strict_loading)
        states = checkpoint.get("optimizer_states", [])
        for optimizer, state in zip(self.optimizers, states, strict=False):
            parameters = [each for group in optimizer.param_groups for each in group["params"]]
            values = {
                number: _sharded(value, dict.fromkeys(value, parameters[number]))
                for number, value in state["state"].items()
            }
            optimizer.load_state_dict({**state, "state": values})
        return checkpoint

    def _gathered(self, state: Mapping[str, Any]) -> Any:
        """Whole tensors in memory on the first process, nothing of them on the others."""

        def gather(value: Any) -> Any:
            if isinstance(value, DTensor):
                value = value.full_tensor()  # all processes take part
            if not isinstance(value, Tensor):
                return value
            return value.detach().cpu() if self.is_global_zero else torch.empty(0)

        return tree_map(gather, dict(state))


def shard(task: nn.Module, blocks: Iterable[nn.Module], mesh: DeviceMesh, precision: str) -> None:
    """Divide a task over devices: each block by itself, then all that is left.

    Under ``bf16-mixed`` the matrices of a block travel in bfloat16, as which autocast computes with
    them, while shards, norms, optimizer and the reduction of gradients stay in 32 bits, as does
    what flows between blocks: the same numbers as under DDP.

    Args:
        task: What is trained; changed in place.
        blocks: Its layers, which are gathered one at a time.
        mesh: The devices, one dimension.
        precision: The trainer's.
    """
    if isinstance(task, FSDPModule):
        return  # a second verb with the same task
    mixed = precision == "bf16-mixed"
    half = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for block in blocks:
        if mixed:  # the norms of a block are small, and stay in 32 bits as under autocast
            norms: list[nn.Module] = [
                each for each in block.modules() if isinstance(each, nn.LayerNorm)
            ]
            fully_shard(norms, mesh=mesh, reshard_after_forward=False)
        fully_shard(block, mesh=mesh, mp_policy=half if mixed else MixedPrecisionPolicy())
        register_fsdp_forward_method(block, "forward_with_maps")
    kind = type(task)
    fully_shard(task, mesh=mesh)
    # The class is a new one now. Checkpoints say which task they are of by the name of its class.
    for name in ("__module__", "__name__", "__qualname__"):
        setattr(type(task), name, getattr(kind, name))
    total = sum(parameter.numel() for parameter in task.parameters())
    own = sum(_local(parameter).numel() for parameter in task.parameters())
    logger.info(
        "%s of %s parameters on each of %d devices, blocks in %s",
        f"{own:,}",
        f"{total:,}",
        mesh.size(),
        "bfloat16" if mixed else "their own precision",
    )


def _local(value: Tensor) -> Tensor:
    return value.to_local() if isinstance(value, DTensor) else value


def _sharded(values: Mapping[str, Any], like: Mapping[str, Tensor]) -> dict[str, Any]:
    """Whole tensors divided as others are, where those have the same shape."""

    def divide(value: Any, model: Any) -> Any:
        if isinstance(model, DTensor) and isinstance(value, Tensor) and value.shape == model.shape:
            # Every process has read the whole, so that nothing has to be sent.
            value = value.to(model.device)
            return distribute_tensor(value, model.device_mesh, model.placements, src_data_rank=None)
        return value

    return {name: divide(value, like.get(name)) for name, value in values.items()}
