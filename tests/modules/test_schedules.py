from functools import partial

import pytest
import torch
from torch import nn

from rnafm.modules.schedules import InverseSqrt, WarmupCosine


def rates(make, steps):
    """The learning rate of every step, as an optimizer sees it."""
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = make(optimizer)
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return result


def test_inverse_sqrt_warms_up_then_falls_with_the_root():
    seen = rates(lambda optimizer: InverseSqrt(optimizer, 0, warmup_steps=100), 401)
    assert seen[0] == pytest.approx(0.02)
    assert seen[49] == pytest.approx(1.0)
    assert seen[99] == pytest.approx(2.0) == max(seen)
    assert seen[399] == pytest.approx(1.0)


def test_warmup_cosine_ends_at_its_final_share():
    seen = rates(lambda optimizer: WarmupCosine(optimizer, 1000, warmup=0.1, final=0.1), 1200)
    assert seen[99] == pytest.approx(2.0)
    assert seen[550] == pytest.approx(2.0 * 0.55)
    assert seen[1000] == pytest.approx(0.2) == seen[1199]


@pytest.mark.parametrize("kind", [partial(InverseSqrt, warmup_steps=10), WarmupCosine])
def test_a_schedule_continues_from_its_state(kind):
    def make(optimizer):
        return kind(optimizer, 50)

    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    schedule = make(optimizer)
    for _ in range(20):
        optimizer.step()
        schedule.step()
    other = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    resumed = make(other)
    resumed.load_state_dict(schedule.state_dict())
    other.load_state_dict(optimizer.state_dict())
    other.step()
    resumed.step()
    assert other.param_groups[0]["lr"] == rates(make, 22)[21]


def test_impossible_lengths_are_refused():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    with pytest.raises(ValueError, match=r"warmup_steps \(0\) must be at least 1"):
        InverseSqrt(optimizer, 0, warmup_steps=0)
    with pytest.raises(ValueError, match=r"where the run ends; set trainer.max_steps"):
        WarmupCosine(optimizer, 0)
    with pytest.raises(ValueError, match=r"final \(10\) is a share"):
        WarmupCosine(optimizer, 10, final=10)


def test_a_prolonged_run_follows_its_own_configuration():
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=2.0)
    short, long = (WarmupCosine(optimizer, total) for total in (100, 1000))
    long.load_state_dict(short.state_dict())
    assert long.factor(100) > short.factor(100) == pytest.approx(0.1)
