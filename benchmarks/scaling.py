"""How training scales from 1 to 1,024 GPUs, from counts of bytes and operations; nothing is run.

python benchmarks/scaling.py

Writes benchmarks/results/scaling.json, docs/images/scaling.png and the tables of docs/scale.md.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pages import replaced, table

from rnafm.modules.encoder import EncoderConfig
from rnafm.planning import costs
from rnafm.planning.devices import DEVICES, NETWORKS

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "scaling.json"
PAGE = HERE.parent / "docs" / "scale.md"
PICTURE = HERE.parent / "docs" / "images" / "scaling.png"

GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
SHOWN = (1, 8, 64, 256, 1024)
ATTENDED = 500  # tokens that a token attends to: between short RNAs and those with many rRNAs
VOCABULARY = 26
MASKED = 0.15
MFU = 0.3  # of a single GPU; assumed
STEP = 1 << 21  # tokens of a step where the step stays as it is
BUDGET = 65_536
FEW = 8_192  # tokens of a GPU where a large encoder keeps its step small
CORPUS = 100e9  # tokens of a run
PETABYTE = 1e15  # tokens, at a byte each

MODELS = {
    "RNA-FM": EncoderConfig(),
    "0.65 B": EncoderConfig(num_layers=33, embed_dim=1280, num_heads=20, ffn_dim=5120),
    "3 B": EncoderConfig(num_layers=36, embed_dim=2560, num_heads=40, ffn_dim=10_240),
}


def parameters(config: EncoderConfig) -> int:
    """Parameters of an encoder and the head of masked-language modelling."""
    dim = config.embed_dim
    rows = VOCABULARY + config.max_length + 4
    head = dim * dim + 3 * dim + VOCABULARY
    norms = 2 * dim * (1 + config.embed_norm)
    return config.num_layers * costs.block_parameters(config) + rows * dim + norms + head


def step(  # what a step depends on
    model: str,
    network: str,
    gpus: int,
    tokens: int,
    *,
    micro_batches: int = 1,
    sharded: bool = False,
    checkpointing: bool = False,
) -> costs.Step:
    """A step of so many tokens on each GPU in each micro-batch."""
    config = MODELS[model]
    flops = costs.executed_flops(
        config,
        tokens,
        tokens * ATTENDED,
        round(MASKED * tokens),
        VOCABULARY,
        checkpointing=checkpointing,
    )
    return costs.step_time(
        flops,
        parameters(config),
        DEVICES["h100"],
        NETWORKS[network],
        devices=gpus,
        mfu=MFU,
        sharded=sharded and gpus > 1,
        num_layers=config.num_layers,
        micro_batches=micro_batches,
    )


def growing(model: str, network: str, gpus: int, tokens: int = BUDGET, **options: Any) -> float:
    """Speed of each GPU beside that of a single one, where every GPU keeps its batch."""
    alone = step(model, network, 1, tokens, **options).total
    return alone / step(model, network, gpus, tokens, **options).total


def constant(network: str, gpus: int) -> float:
    """The same where the step keeps its tokens: RNA-FM with STEP of them in all."""
    share = STEP // gpus
    alone = step("RNA-FM", network, 1, BUDGET, micro_batches=STEP // BUDGET).total
    number = max(1, share // BUDGET)
    return alone / gpus / step("RNA-FM", network, gpus, share // number, micro_batches=number).total


def scaling(gpus: int) -> dict[str, Any]:
    """All that is said about a number of GPUs."""
    large: dict[str, Any] = {"tokens": FEW, "sharded": True, "checkpointing": True}
    ddp = step("RNA-FM", "infiniband", gpus, BUDGET)
    return {
        "gpus": gpus,
        "tokens_per_step": gpus * BUDGET,
        "sent_megabytes": 2 * (gpus - 1) / gpus * 4 * parameters(MODELS["RNA-FM"]) / 1e6,
        "compute_ms": 1e3 * ddp.compute,
        "communication_ms": 1e3 * ddp.communication,
        "communication_ethernet_ms": 1e3 * step("RNA-FM", "ethernet", gpus, BUDGET).communication,
        "ddp": growing("RNA-FM", "infiniband", gpus),
        "ddp_ethernet": growing("RNA-FM", "ethernet", gpus),
        "constant_step": constant("infiniband", gpus),
        "fsdp2_3b": growing("3 B", "infiniband", gpus, **large),
        "fsdp2_3b_ethernet": growing("3 B", "ethernet", gpus, **large),
        "hours": CORPUS / (gpus * BUDGET / ddp.total) / 3600,
    }


def memory(model: str) -> dict[str, Any]:
    """GiB of one GPU with 32,768 tokens, in several ways of dividing a model over 8."""
    config, number = MODELS[model], parameters(MODELS[model])

    def total(shards: int, *, checkpointing: bool) -> float:
        kept = costs.activations(config, BUDGET // 2, mixed=True, checkpointing=checkpointing)
        found = costs.memory(
            number,
            number,
            8,
            kept,
            block=costs.block_parameters(config),
            num_layers=config.num_layers,
            shards=shards,
            checkpointing=checkpointing,
        )
        return found.total / costs.GIB

    return {
        "model": model,
        "parameters": number,
        "ddp": total(1, checkpointing=False),
        "ddp_checkpointing": total(1, checkpointing=True),
        "fsdp2": total(8, checkpointing=False),
        "fsdp2_checkpointing": total(8, checkpointing=True),
    }


def petabyte() -> dict[str, Any]:
    """One pass over a petabyte of tokens on 1,024 GPUs."""
    each = BUDGET / step("RNA-FM", "infiniband", 1024, BUDGET).total
    seconds = PETABYTE / (1024 * each)
    return {
        "gpus": 1024,
        "megabytes_per_second_and_node": 8 * each / 1e6,
        "days": seconds / 86_400,
        "gpu_hours": 1024 * seconds / 3600,
    }


def compute() -> dict[str, Any]:
    """All figures."""
    return {
        "scaling": [scaling(gpus) for gpus in GPUS],
        "memory": [memory(model) for model in MODELS],
        "petabyte": petabyte(),
    }


def tables(figures: dict[str, Any]) -> dict[str, str]:
    """The tables of the page, by name."""
    rows = []
    for row in figures["scaling"]:
        if row["gpus"] in SHOWN:
            shares = [row["ddp"], row["ddp_ethernet"], row["constant_step"]]
            shares += [row["fsdp2_3b"], row["fsdp2_3b_ethernet"]]
            times = [row["compute_ms"], row["communication_ms"], row["communication_ethernet_ms"]]
            rows.append(
                [
                    f"{row['gpus']:,}",
                    f"{row['tokens_per_step'] / 1e6:.2f} M",
                    f"{row['sent_megabytes']:.0f} MB",
                    *(f"{value:.0f} ms" for value in times),
                    *(f"{share:.1%}" for share in shares),
                    f"{row['hours']:.3g}",
                ]
            )
    heads = ["GPUs", "tokens of a step", "sent by each", "compute", "network", "Ethernet"]
    heads += ["DDP", "DDP, Ethernet", "DDP, step of 2 M tokens", "FSDP2, 3 B"]
    heads += ["FSDP2, 3 B, Ethernet", "hours for 100 G tokens"]
    names = ("ddp", "ddp_checkpointing", "fsdp2", "fsdp2_checkpointing")
    sizes = [
        [row["model"], f"{row['parameters'] / 1e6:,.0f} M", *(f"{row[name]:.0f}" for name in names)]
        for row in figures["memory"]
    ]
    size_heads = ["encoder", "parameters", "DDP", "DDP, checkpointing", "FSDP2"]
    found = figures["petabyte"]
    pass_heads = ["GPUs", "read by a node", "days", "GPU hours"]
    cells = [
        f"{found['gpus']:,}",
        f"{found['megabytes_per_second_and_node']:.1f} MB/s",
        f"{found['days']:.0f}",
        f"{found['gpu_hours']:,.0f}",
    ]
    return {
        "scaling": table(heads, rows),
        "memory": table([*size_heads, "FSDP2, checkpointing"], sizes),
        "petabyte": table(pass_heads, [cells]),
    }


def render(text: str, figures: dict[str, Any]) -> str:
    """A page with its tables made anew."""
    made = tables(figures)
    return replaced(text, {name: partial(made.get, name) for name in made})


def draw(figures: dict[str, Any], path: Path) -> None:
    """Draw speed per GPU over the number of GPUs."""
    from matplotlib.figure import Figure

    lines = {
        "ddp": ("RNA-FM, DDP, InfiniBand", "#1f5fa8", "-"),
        "ddp_ethernet": ("RNA-FM, DDP, Ethernet", "#1f5fa8", "--"),
        "constant_step": ("RNA-FM, DDP, InfiniBand, step of 2 M tokens", "#2a9d8f", "-"),
        "fsdp2_3b": ("3 B, FSDP2, InfiniBand", "#d1495b", "-"),
        "fsdp2_3b_ethernet": ("3 B, FSDP2, Ethernet", "#d1495b", "--"),
    }
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for name, (label, colour, style) in lines.items():
        values = [100 * row[name] for row in figures["scaling"]]
        axes.plot(GPUS, values, style, color=colour, label=label, marker="o", markersize=3)
    axes.axvline(8, color="0.7", linewidth=1)
    axes.text(7.7, 50, "one node", color="0.4", ha="right")
    axes.set_xscale("log", base=2)
    axes.set_xticks(GPUS, [f"{gpus:,}" for gpus in GPUS])
    axes.set(xlabel="GPUs", ylabel="speed of each GPU, % of a single one", ylim=(0, 104))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", fontsize=9)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Compute, draw, and write the page."""
    sys.path.insert(0, str(HERE))
    from machine import describe, write

    figures = compute()
    write(RESULTS, {"rows": [{**describe(), **figures}]})
    draw(figures, PICTURE)
    PAGE.write_text(render(PAGE.read_text(), json.loads(RESULTS.read_text())["rows"][0]))


if __name__ == "__main__":
    main()
