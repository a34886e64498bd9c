"""Where the time of a training step goes, beside what it should take at least.

python benchmarks/profile_step.py                                     # tiny, on the processor
python benchmarks/profile_step.py --encoder rnafm --device cuda --tokens 65536 --compile

Prints a table by kind of work and writes a Chrome trace for https://ui.perfetto.dev. (The script is
not called profile.py: that would hide Python's own module of that name from all scripts here.)
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch.profiler import ProfilerActivity, profile, record_function

import rnafm.tasks.masked_lm
from rnafm.data.batch import Batch
from rnafm.modules.encoder import EncoderConfig
from rnafm.planning import costs
from rnafm.planning.devices import find_device, processor_flops
from rnafm.tasks import MaskedLM

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGS = Path(__file__).parents[1] / "configs" / "encoder"
GROUPS = ("matrix products", "attention", "elementwise", "optimizer", "masking", "other")
_CLIP_BYTES = 12  # of a parameter: its gradient is read, read again and written

# The first range that an operation lies in decides, then the first name that says what it is.
_RANGES = {"rnafm.masking": "masking", "rnafm.optimizer": "optimizer"}
_KINDS = {
    # Linear layers see packed tokens, so that products of batches of matrices are attention's.
    "attention": r"attention|flash|varlen|aten::(bmm|baddbmm|_(safe_)?softmax(_backward_data)?)$",
    "matrix products": r"aten::(addmm|mm|linear|matmul|mkldnn_linear|_addmm_activation)$",
    "elementwise": (
        r"layer_norm|gelu|dropout|triton|cpp_fused|"
        r"aten::(add|add_|mul|mul_|sum|copy_|_to_copy|to|cat|fill_|zero_|div|erf)$"
    ),
}


@dataclass(frozen=True)
class Setting:
    """What is measured.

    Args:
        encoder: A file of configs/encoder.
        device: ``cpu`` or ``cuda``.
        tokens: Of a batch.
        steps: That are measured.
        compiled: Whether blocks are.
        mixed: Whether blocks compute in bfloat16.
    """

    encoder: str = "tiny"
    device: str = "cpu"
    tokens: int = 2048
    steps: int = 3
    compiled: bool = False
    mixed: bool = False


class Steps:
    """Steps of masked-language modelling over one batch, with names for what they do.

    Lengths are drawn as those of short RNAs are: half of them below 121 nucleotides.

    Args:
        setting: What is measured.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        values = yaml.safe_load((CONFIGS / f"{setting.encoder}.yaml").read_text())
        self.config = EncoderConfig(**values)
        torch.manual_seed(0)
        self.task = MaskedLM(encoder=self.config).to(setting.device).train()
        self.optimizer = torch.optim.AdamW(self.task.parameters(), lr=1e-4, fused=True)
        self.lengths = _lengths(setting.tokens, self.config.max_length + 2)
        if setting.compiled:
            for block in self.task.encoder.blocks:
                block.compile()
        self.batch = self._batch()

    def step(self) -> None:
        """Forward, backward, clip, step."""
        device = self.setting.device
        with torch.autocast(device, torch.bfloat16, enabled=self.setting.mixed):
            logits, labels = self.task(self.batch)
        F.cross_entropy(logits.float(), labels).backward()
        with record_function("rnafm.optimizer"):
            torch.nn.utils.clip_grad_norm_(self.task.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def wait(self) -> None:
        """Until the device has done its work."""
        if self.setting.device == "cuda":
            torch.cuda.synchronize()

    def _batch(self) -> Batch:
        standard = np.array(self.task.encoder.vocabulary.standard_ids, np.uint8)
        tokens = np.random.default_rng(0).choice(standard, sum(self.lengths))
        ends = np.cumsum([0, *self.lengths]).astype(np.int32)
        tokens[ends[:-1]] = self.task.encoder.vocabulary.cls_id
        tokens[ends[1:] - 1] = self.task.encoder.vocabulary.eos_id
        return Batch(
            torch.from_numpy(tokens).to(self.setting.device),
            torch.from_numpy(ends).to(self.setting.device),
            max(self.lengths),
            torch.arange(len(self.lengths), device=self.setting.device),
        )


def group(names: list[str]) -> str:
    """What kind of work an operation is.

    Args:
        names: Of the operation and all that it lies in, from the inside out.
    """
    for name in names:
        if name in _RANGES:
            return _RANGES[name]
    for kind, pattern in _KINDS.items():
        if any(re.search(pattern, name, re.IGNORECASE) for name in names):
            return kind
    return "other"


def measure(setting: Setting, trace: Path) -> dict[str, Any]:
    """Measure some steps, first without the profiler and then with it.

    Args:
        setting: What is measured.
        trace: Chrome trace that is written; ``.json.gz`` or ``.json``.
    """
    steps = Steps(setting)
    for _ in range(2):  # compiles and warms up
        steps.step()
    steps.wait()
    seconds = []
    for _ in range(setting.steps):
        begin = time.perf_counter()
        steps.step()
        steps.wait()
        seconds.append(time.perf_counter() - begin)
    activities = [ProfilerActivity.CPU]
    if setting.device == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with _named_masking(), profile(activities=activities, acc_events=True) as profiler:
        for _ in range(setting.steps):
            steps.step()
        steps.wait()
    trace.parent.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(trace))
    spent: Counter[str] = Counter()
    for event in profiler.events() or []:
        if event.device_type == torch.autograd.DeviceType.CPU:
            spent[group(list(_upwards(event)))] += _own_time(event, setting.device)
    found = {name: spent[name] / 1e6 / setting.steps for name in GROUPS}
    return {
        "seconds": statistics.median(seconds),
        "groups": found,
        "least": least(steps),
        "tokens": sum(steps.lengths),
    }


def least(steps: Steps) -> dict[str, float]:
    """Seconds that a step takes at least, by kind of work.

    Operations are done at the device's peak and bytes moved at the bandwidth of its memory, as if
    there were no caches: small batches on a processor can be faster.
    """
    setting, config = steps.setting, steps.config
    tokens, squares = sum(steps.lengths), sum(length**2 for length in steps.lengths)
    peak, bandwidth = _rates(setting)
    parameters = sum(each.numel() for each in steps.task.parameters())
    predicted = round(steps.task.masking.fraction * tokens)
    vocab_size = len(steps.task.encoder.vocabulary)
    moved = costs.elementwise_bytes(config, tokens, mixed=setting.mixed, compiled=setting.compiled)
    return {
        "matrix products": costs.training_flops(config, tokens, 0, predicted, vocab_size) / peak,
        "attention": costs.training_flops(config, 0, squares) / peak,
        "elementwise": moved / bandwidth,
        "optimizer": (costs.OPTIMIZER_BYTES + _CLIP_BYTES) * parameters / bandwidth,
    }


def table(setting: Setting, found: dict[str, Any]) -> list[str]:
    """Lines of the table, and what they say."""
    spent, floors, seconds = found["groups"], found["least"], found["seconds"]
    total = sum(spent.values())
    lines = [
        f"{setting.encoder} on {setting.device}, {found['tokens']:,} tokens",
        f"{1e3 * seconds:.1f} ms a step, {found['tokens'] / seconds:,.0f} tokens/s",
        f"{'kind of work':<16} {'ms':>9} {'share':>7} {'at least':>9} {'times':>6}",
    ]
    for name in GROUPS:
        line = f"{name:<16} {1e3 * spent[name]:9.2f} {spent[name] / total:7.1%}"
        if name in floors:
            line += f" {1e3 * floors[name]:9.2f} {spent[name] / floors[name]:6.1f}"
        lines.append(line)
    lines.append(f"{'all':<16} {1e3 * total:9.2f} {1:7.1%} {1e3 * sum(floors.values()):9.2f}")
    useful = floors["matrix products"] + floors["attention"]
    lines.append(f"MFU {useful / seconds:.1%}")
    if setting.device == "cuda":
        lines.append(
            f"The device computes for {total / seconds:.0%} of a step; what is missing "
            "is time in which it waits for kernels to be launched"
        )
    gained = {name: spent[name] - floors.get(name, 0) for name in GROUPS}
    name, worth = max(gained.items(), key=lambda pair: pair[1])
    lines.append(f"Most to gain: {name}, {1e3 * worth:.2f} ms of {1e3 * total:.2f}")
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    sizes = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    parser.add_argument("--encoder", default="tiny", choices=sizes)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--compile", action="store_true", dest="compiled")
    parser.add_argument("--full", action="store_true", help="32 bits on a GPU too")
    parser.add_argument("--trace", type=Path, default=Path("runs/profile_step.json.gz"))
    options = vars(parser.parse_args())
    trace, full = options.pop("trace"), options.pop("full")
    torch.set_float32_matmul_precision("high")  # as rnafm fit does
    setting = Setting(**options, mixed=options["device"] == "cuda" and not full)
    print("\n".join(table(setting, measure(setting, trace))))
    print(f"Trace: {trace}, for https://ui.perfetto.dev")


class _named_masking:  # noqa: N801  # used as a function
    """Put what hides tokens into a range of its own."""

    def __enter__(self) -> None:
        module: Any = rnafm.tasks.masked_lm
        self._before = before = module.mask_tokens

        def named(*arguments: Any) -> Any:
            with record_function("rnafm.masking"):
                return before(*arguments)

        module.mask_tokens = named

    def __exit__(self, *_: object) -> None:
        rnafm.tasks.masked_lm.mask_tokens = self._before


def _upwards(event: Any) -> Iterator[str]:
    while event is not None:
        yield event.name
        event = event.cpu_parent


def _own_time(event: Any, device: str) -> float:
    """Microseconds of an operation itself, on the device that computes."""
    return float(event.self_cpu_time_total if device == "cpu" else event.self_device_time_total)


def _lengths(tokens: int, longest: int) -> list[int]:
    """Of sequences that fill a pack, in ascending order."""
    draws = np.random.default_rng(0).lognormal(np.log(121), 0.9, tokens).astype(int)
    lengths: list[int] = []
    for length in np.clip(draws, 10, longest):
        if (left := tokens - sum(lengths)) <= 0:
            break
        lengths.append(min(int(length), left))
    return sorted(lengths)


def _rates(setting: Setting) -> tuple[float, float]:
    """Operations and bytes per second of the device: from its data sheet, or measured."""
    if setting.device == "cuda":
        name = torch.cuda.get_device_name()
        device = find_device(name)
        if device is None:
            raise SystemExit(
                f"{name} is not in the table of rnafm/planning/devices.py; add it there"
            )
        return device.flops if setting.mixed else device.single, device.bandwidth
    data, best = torch.ones(1 << 25), float("inf")  # more than caches hold
    target = torch.empty_like(data)
    for _ in range(3):
        begin = time.perf_counter()
        target.copy_(data)
        best = min(best, time.perf_counter() - begin)
    return processor_flops(torch.get_num_threads()), 2 * 4 * data.numel() / best


if __name__ == "__main__":
    main()
