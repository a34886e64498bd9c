"""What the device can do at all: matrix products, copies, and attention of packed sequences.

python benchmarks/peers_rates.py --device cuda
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import machine
import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
SHAPES = ((640, 1920), (640, 640), (640, 5120), (5120, 640))  # of RNA-FM's layers


def seconds(work: Callable[[], object], device: str, repeats: int = 5) -> float:
    """Median seconds: CPU seconds on a CPU, the device's own on a GPU; once before, not counted."""
    work()
    found: list[float] = []
    for _ in range(repeats):
        if device == "cuda":
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            start.record()
            work()
            end.record()
            end.synchronize()
            found.append(start.elapsed_time(end) / 1e3)
        else:
            before = time.process_time()
            work()
            found.append(time.process_time() - before)
    return median(found)


def matmul_rate(device: str, *, small: bool = False) -> float:
    """Operations per second (on a CPU: per CPU second) of a large square product."""
    size = (8192 if device == "cuda" else 2048) if not small else 128
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    one, other = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / max(seconds(lambda: one @ other, device), 1e-9)


def product_rates(device: str, tokens: int) -> dict[str, float]:
    """Operations per second of the products of RNA-FM's layers, for so many tokens."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    found = {}
    for inner, outer in SHAPES:
        values = torch.randn(tokens, inner, device=device, dtype=dtype)
        weight = torch.randn(outer, inner, device=device, dtype=dtype)
        work = lambda v=values, w=weight: torch.nn.functional.linear(v, w)  # noqa: E731
        taken = max(seconds(work, device), 1e-9)
        found[f"{inner} to {outer}"] = 2 * tokens * inner * outer / taken
    return found


def copy_rate(device: str, size: int) -> float:
    """Bytes per second, read and written, of a copy within the device's memory."""
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / max(seconds(lambda: target.copy_(source), device), 1e-9)


def attention_rates(device: str, tokens: int, lengths: tuple[int, ...]) -> dict[str, Any]:
    """Seconds per million tokens of packed attention, 20 heads of 32, forward and with backward."""
    from rnafm.modules import attend

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    found: dict[str, Any] = {}
    for length in lengths:
        count = max(tokens // length, 1)
        qkv = torch.randn(count * length, 3, 20, 32, device=device, dtype=dtype)
        qkv.requires_grad_()
        flowing = torch.randn_like(qkv[:, 0])
        bounds = torch.arange(0, count * length + 1, length, device=device, dtype=torch.int32)

        def forward(qkv: Tensor = qkv, bounds: Tensor = bounds, length: int = length) -> Tensor:
            with torch.no_grad():
                return attend(qkv, bounds, length)

        def both(
            qkv: Tensor = qkv,
            bounds: Tensor = bounds,
            length: int = length,
            flowing: Tensor = flowing,
        ) -> None:
            torch.autograd.grad(attend(qkv, bounds, length), qkv, flowing)

        scale = 1e6 / (count * length)
        found[f"length {length}"] = {
            "forward": scale * seconds(forward, device),
            "forward_and_backward": scale * seconds(both, device),
        }
    return found


def main(words: list[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--small", action="store_true", help="tiny shapes: does everything run?")
    options = parser.parse_args(words)
    device, out = options.device, options.out
    out.mkdir(parents=True, exist_ok=True)
    tokens = 256 if options.small else 65536 if device == "cuda" else 2048
    size = 1 << (16 if options.small else 30 if device == "cuda" else 27)
    about = machine.describe() | {"threads": torch.get_num_threads()}
    rows: list[dict[str, Any]] = []
    kinds: dict[str, Callable[[], Any]] = {
        "matmul_flops_per_second": lambda: matmul_rate(device, small=options.small),
        "copy_bytes_per_second": lambda: copy_rate(device, size),
        "layer_flops_per_second": lambda: product_rates(device, tokens),
        "attention_seconds_per_million_tokens": lambda: attention_rates(
            device, tokens, (64, 128) if options.small else (128, 512, 1024)
        ),
    }
    for name, work in kinds.items():
        try:
            value = work()
        except RuntimeError as error:
            value = f"failed: {str(error).partition(chr(10))[0]}"
        rows.append({"what": name, "value": value, **about})
        print(name, value, flush=True)
        machine.write(out / f"peers_rates_{device}.json", {"rows": rows})


if __name__ == "__main__":
    main()
