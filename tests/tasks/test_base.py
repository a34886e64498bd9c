"""What all tasks do on a GPU, as far as that shows without one."""

from types import SimpleNamespace

import pytest
import torch
from batches import TINY
from torch import nn
from torch.optim import SGD, Adagrad, AdamW

from rnafm.tasks import MaskedLM


class OnDevice(torch.Tensor):
    """A tensor that may be copied to the host, but not read number by number."""

    def cpu(self):
        return self.as_subclass(torch.Tensor)

    def item(self):
        pytest.fail("the device is waited for")


def test_lightning_reads_the_loss_it_shows_without_waiting_for_the_device():
    task, logged = MaskedLM(encoder=TINY), {}
    task.trainer = SimpleNamespace(
        log_every_n_steps=1,
        global_step=0,
        strategy=SimpleNamespace(reduce=lambda values, **_: values),
    )
    task.log = lambda name, value, **_: logged.update({name: value})
    task._losses = [torch.tensor(value).as_subclass(OnDevice) for value in (1.0, 4.0)]
    task.on_before_optimizer_step(None)
    assert logged["train/loss"].item() == 2.5


def on_gpu(kind, **options):
    """A task that believes to be on a GPU, and an optimizer of a parameter that is elsewhere."""
    task = MaskedLM(encoder=TINY)
    task._device = torch.device("cuda", 0)
    parameter = nn.Parameter(torch.zeros(3, device="meta"))
    return task, parameter, kind([parameter], **options)


def test_a_run_of_a_processor_goes_on_fused():
    own = nn.Parameter(torch.zeros(3))
    before = AdamW([own])
    own.grad = torch.ones(3)
    before.step()
    task, parameter, optimizer = on_gpu(AdamW)
    optimizer.load_state_dict(before.state_dict())
    state = optimizer.state[parameter]
    assert state["step"].device.type == "cpu" and state["exp_avg"].device.type == "meta"
    task._fuse(optimizer)
    assert optimizer.param_groups[0]["fused"] is True
    assert state["step"].device.type == "meta" and state["step"].dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "options", "fused"),
    [
        (AdamW, {}, True),
        (AdamW, {"fused": False}, False),
        (SGD, {"lr": 0.1}, True),
        (Adagrad, {}, None),  # counts on the processor, and before torch 2.13 is refused
    ],
)
def test_what_is_fused(kind, options, fused):
    task, _, optimizer = on_gpu(kind, **options)
    task._fuse(optimizer)
    assert optimizer.param_groups[0]["fused"] is fused


def test_a_processor_is_given_fused_kernels_too():
    task, parameter = MaskedLM(encoder=TINY), nn.Parameter(torch.zeros(3))
    optimizer = AdamW([parameter])
    task._fuse(optimizer)
    parameter.grad = torch.ones(3)
    optimizer.step()
    plain = AdamW([other := nn.Parameter(torch.zeros(3))])
    other.grad = torch.ones(3)
    plain.step()
    assert optimizer.param_groups[0]["fused"] is True
    assert torch.allclose(parameter, other)
