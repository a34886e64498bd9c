"""What a row takes: CPU seconds on a CPU, CUDA events on a GPU."""

from __future__ import annotations

import time
from contextlib import nullcontext
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from rnafm.planning.costs import forward_flops, training_flops

if TYPE_CHECKING:
    from collections.abc import Callable

    from peers_batches import Batches, Sample
    from torch import Tensor

    from rnafm.modules import EncoderConfig

# float32; bfloat16 against float32, of which losses have less to show.
TOLERANCE = {
    ("inference", "cpu"): 1e-4,
    ("training", "cpu"): 1e-4,
    ("inference", "cuda"): 2e-2,
    ("training", "cuda"): 2e-3,
}
CHECKED = 16  # sequences whose loss is compared on a GPU


def autocast(device: str) -> Any:
    """Mixed precision as Lightning's ``bf16-mixed`` has it on a GPU, float32 on a CPU."""
    if device == "cpu":
        return nullcontext()
    return torch.autocast("cuda", torch.bfloat16, cache_enabled=False)


class Inference:
    """Hidden states of all sequences of a sample.

    Args:
        model: An adapter.
        batches: Of the sample.
        sample: The sequences.
        device: Where.
    """

    def __init__(self, model: Any, batches: Batches, sample: Sample, device: str) -> None:
        self.model, self.batches, self.sample, self.device = model, batches, sample, device
        model.module.eval()
        self.states: list[Tensor] = []

    def warm(self) -> None:
        """On a CPU the shortest batch, on a GPU all: compilers and allocators see every shape."""
        if self.device == "cuda":
            self()
            return
        with torch.inference_mode():
            self.model.hidden(self.sample, self.batches[-1])

    def __call__(self) -> None:
        """One pass."""
        self.states = []
        found: dict[int, Tensor] = {}
        with torch.inference_mode(), autocast(self.device):
            for numbers in self.batches:
                hidden = self.model.hidden(self.sample, numbers)
                found.update(zip(numbers, hidden, strict=True))
        self.states = [found[number] for number in range(len(found))]

    def result(self) -> list[Tensor]:
        """What the last pass gave: (N, D), in the order of the sample."""
        return [torch.cat(self.states).float()]


class Training:
    """Forward, loss, backward, clipping and AdamW.

    On a CPU all batches are one optimizer step, each weighted by its hidden tokens, so that every
    way of making batches gives the same gradients. On a GPU each batch is a step.
    """

    def __init__(self, model: Any, batches: Batches, sample: Sample, device: str) -> None:
        self.model, self.batches, self.sample, self.device = model, batches, sample, device
        model.module.train()
        self.parameters = [each for each in model.module.parameters() if each.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=1e-4, weight_decay=0.01, fused=True)
        self.first: list[Tensor] = []
        self.hidden = sample.hidden

    def warm(self) -> None:
        """On a CPU a step of the shortest batch that changes no weight; on a GPU a pass.

        On a GPU steps differ between rows; the loss of the first sequences is kept before.
        """
        if self.device == "cuda":
            numbers = list(range(min(CHECKED, len(self.sample.clean))))
            with torch.no_grad(), autocast(self.device):
                self.first = [self.model.loss(self.sample, numbers).float()]
            self()
            return
        self.model.loss(self.sample, self.batches[-1]).backward()
        self._step(lr=0.0)

    def __call__(self) -> None:
        """One pass over all sequences."""
        hidden = self.hidden
        total = sum(hidden) if self.device == "cpu" else 0
        losses = []
        for numbers in self.batches:
            share = sum(hidden[number] for number in numbers) / total if total else 1.0
            with autocast(self.device):
                loss = self.model.loss(self.sample, numbers) * share
            loss.backward()
            losses.append(loss.detach())
            if not total:
                self._step()
        if total:
            norm = self._step()
            self.first = self.first or [torch.stack(losses).sum(), norm]

    def result(self) -> list[Tensor]:
        """Loss and norm of the gradients of the first step; on a GPU the loss of a few."""
        return self.first

    def _step(self, lr: float = 1e-4) -> Tensor:
        self.optimizer.param_groups[0]["lr"] = lr
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm


def compare(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest relative difference, as norms."""
    pairs = zip(found, expected, strict=True)
    return max(float((one - other).norm() / other.norm()) for one, other in pairs)


def reference(part: str, model: Any, sample: Sample) -> list[Tensor]:
    """What a GPU's rows are held against: rnafm in float32, sequence by sequence."""
    with torch.inference_mode():
        if part == "training":
            numbers = list(range(min(CHECKED, len(sample.clean))))
            return [model.loss(sample, numbers)]
        states = [model.hidden(sample, [number])[0] for number in range(len(sample.clean))]
    return [torch.cat(states)]


def measure(
    work: Callable[[], None],
    device: str,
    repeats: int,
    cap: float,
    first: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Run until there are enough repetitions, or the next one would go beyond the time.

    Args:
        work: What is measured; it has run before.
        device: ``cpu`` or ``cuda``.
        repeats: How often at most.
        cap: Seconds of all repetitions, of the same kind; there is always one.
        first: On a CPU, work of the first row, done once more behind each repetition: a machine
            that others use is now faster and now slower, for both of them alike.
    """
    walls: list[float] = []
    times: list[float] = []
    ratios: list[float] = []
    while not times or (len(times) < repeats and sum(times) + max(times) <= cap):
        wall, cpu = time.perf_counter(), time.process_time()
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        else:
            work()
            times.append(time.process_time() - cpu)
        walls.append(time.perf_counter() - wall)
        if first is not None and device == "cpu":
            cpu = time.process_time()
            first()
            ratios.append(times[-1] / (time.process_time() - cpu))
    unit = "seconds" if device == "cuda" else "cpu_seconds"
    return {
        unit: median(times),
        "all": [round(value, 4) for value in times],
        "wall_seconds": median(walls),
        "repetitions": len(times),
        **({"times_the_first": median(ratios), "ratios": ratios} if ratios else {}),
    }


def flops(part: str, config: EncoderConfig, about: dict[str, Any], vocab_size: int) -> int:
    """Operations that the sample needs, of real tokens only."""
    if part == "inference":
        return forward_flops(config, about["tokens"], about["squares"])
    return training_flops(config, about["tokens"], about["squares"], about["hidden"], vocab_size)
