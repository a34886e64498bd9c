"""What limited a run, in a sentence, and what to try."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import lightning.pytorch as pl

_NOTABLE = 0.15  # share of the time from which on something else than computing is the limit
_FULL_PACK = 65_536  # tokens that keep a GPU busy, and that 80 GB hold of RNA-FM
_SMALL_PACK = 16_384
_CPU_PACK = 2_048
_LARGE_CPU_PACK = 8_192
_SMALL_CPU_PACK = 512
_FULL = 0.9  # packs
_ROOM = 0.8  # of the memory that is filled on purpose
_HINTS = 2


@dataclass(frozen=True)
class Facts:
    """What is known of a run when it ends.

    Attributes:
        device: ``cpu``, ``cuda`` or another kind.
        title: What the device is called.
        seconds: Of the whole run, by part: see :mod:`rnafm.callbacks.clock`.
        tokens_per_second: Of all devices, in training.
        mfu: Share of the device's peak; None where either is not known.
        packing: How full batches were; None where their budget is not in tokens.
        tokens_per_batch: Their budget; None likewise.
        num_workers: Processes that prepared batches; None if not known.
        scratch: Whether the data could be copied to a faster disk first.
        precision: The trainer's.
        half: Whether the device multiplies in bfloat16 faster than in 32 bits.
        compiled: Whether blocks were to be compiled.
        checkpointing: Whether activations were computed again.
        attention_dropout: Of an encoder whose shape is free to choose, else 0.
        memory: Share of a GPU's memory that tensors took at most; None for a processor.
        threads: That torch used on a processor.
        cores: That it could have used.
    """

    device: str
    title: str
    seconds: Mapping[str, float]
    tokens_per_second: float
    mfu: float | None = None
    packing: float | None = None
    tokens_per_batch: int | None = None
    num_workers: int | None = None
    scratch: bool = False
    precision: str = "32-true"
    half: bool = False
    compiled: bool = False
    checkpointing: bool = False
    attention_dropout: float = 0.0
    memory: float | None = None
    threads: int = 1
    cores: int = 1

    @classmethod
    def of(cls, trainer: pl.Trainer, task: Any, **measured: Any) -> Facts:
        """Those of a run.

        Args:
            trainer: Of the run.
            task: What was trained.
            **measured: What the settings do not say.
        """
        from rnafm.data.checksums import num_cores
        from rnafm.modules.attention import slow_in_half_precision

        data: Any = getattr(trainer, "datamodule", None)
        device, memory = task.device, None
        title, half = "the processor", not slow_in_half_precision("cpu")
        if device.type == "cuda":
            title = torch.cuda.get_device_name(device).removeprefix("NVIDIA ")
            half = torch.cuda.is_bf16_supported(including_emulation=False)
            whole = torch.cuda.get_device_properties(device).total_memory
            memory = torch.cuda.max_memory_allocated(device) / whole
        free = getattr(task, "source", None) is None  # no checkpoint has brought its own
        return cls(
            device=device.type,
            title=title,
            tokens_per_batch=None if measured["packing"] is None else data.tokens_per_batch,
            num_workers=getattr(data, "num_workers", None),
            scratch=hasattr(data, "scratch"),
            precision=str(trainer.precision),
            half=half,
            compiled=bool(getattr(task, "compile_blocks", False)),
            checkpointing=bool(task.encoder.activation_checkpointing),
            attention_dropout=task.encoder.config.attention_dropout if free else 0.0,
            memory=memory,
            threads=torch.get_num_threads(),
            cores=num_cores(),
            **measured,
        )


def explain(facts: Facts) -> str:
    """Two sentences: what limited a run, with figures, and the options to try."""
    whole = sum(facts.seconds.values())
    shares = {part: seconds / whole for part, seconds in facts.seconds.items()}
    computing = shares.pop("step")
    if facts.device != "cpu":  # between batches the process waits for what the device computes
        computing += shares.pop("between")
    part, share = max(shares.items(), key=lambda pair: pair[1])
    if share >= _NOTABLE:
        named, does, advice = _other(part, facts)
        return f"What limited this run: {named}. {share:.0%} of the time {does}; {advice}."
    used = "" if facts.mfu is None else f" at {facts.mfu:.0%} of its peak (MFU)"
    hints = list(_gpu(facts) if facts.device == "cuda" else _cpu(facts))[:_HINTS]
    advice = "; ".join(hints) or "nothing in the settings stands out, so what helps is more devices"
    return (
        f"What limited this run: computing, {computing:.0%} of the time, on {facts.title}{used}: "
        f"{facts.tokens_per_second:,.0f} tokens/s. To try: {advice}."
    )


def _other(part: str, facts: Facts) -> tuple[str, str, str]:
    """Name of what is not computing, what it does, and what to do about it."""
    if part == "data":
        workers = facts.num_workers or 0
        advice = f"prepare batches ahead with --data.num_workers {workers + 1}"
        if workers and facts.scratch:
            advice += ", or read from a faster disk (--data.scratch FOLDER)"
        return "the loader", "was waiting for data", advice
    often = "--trainer.val_check_interval"
    if part == "validation":
        advice = f"validate less often ({often}) or on fewer batches (--trainer.limit_val_batches)"
        return "validation", "went into it", advice
    if part == "saving":
        advice = f"save less often: every_n_steps of the callback SaveLast, or {often}"
        return "checkpoints", "went into writing them", advice
    advice = (
        "log less often (--trainer.log_every_n_steps); --trainer.profiler simple shows what it is"
    )
    return "callbacks and loggers", "went into them", advice


def _gpu(facts: Facts) -> Iterator[str]:
    """What makes computing faster on a GPU, the most promising first."""
    if facts.half and "16" not in facts.precision:
        yield "bfloat16 with --trainer.precision bf16-mixed"
    room = _ROOM / facts.memory if facts.memory else 1.0
    tokens = facts.tokens_per_batch
    if tokens is not None and tokens < _SMALL_PACK and room >= 2:  # noqa: PLR2004  # to double them
        more = min(_FULL_PACK, tokens * 2 ** (int(room).bit_length() - 1))
        yield (
            f"larger packs than {tokens:,} tokens, which launching kernels takes longer than "
            f"computing them, with --data.tokens_per_batch {more}"
        )
    if not facts.compiled:
        yield "fused blocks with --model.compile auto"
    if facts.checkpointing and room >= 2:  # noqa: PLR2004  # half of it is free
        yield (
            "no second computation of activations, as memory is left, with "
            "--model.activation_checkpointing false"
        )
    yield from _packs(facts)


def _cpu(facts: Facts) -> Iterator[str]:
    """What makes computing faster on a processor."""
    if "16" in facts.precision and not facts.half:
        yield (
            "32 bits with --trainer.precision 32-true, as this processor has no matrix units for "
            "half of them"
        )
    tokens = facts.tokens_per_batch
    if tokens is not None and not _SMALL_CPU_PACK <= tokens <= _LARGE_CPU_PACK:
        yield (
            f"packs that fit its caches rather than {tokens:,} tokens, with "
            f"--data.tokens_per_batch {_CPU_PACK}"
        )
    if facts.threads < facts.cores // 2:
        yield f"more than {facts.threads} of {facts.cores} cores with OMP_NUM_THREADS={facts.cores}"
    if facts.attention_dropout:
        yield (
            "attention in one kernel, which dropout keeps it from, with "
            "--model.encoder.attention_dropout 0"
        )
    yield from _packs(facts)
    yield "a GPU"


def _packs(facts: Facts) -> Iterator[str]:
    if facts.packing is not None and facts.packing < _FULL:
        yield (
            f"larger packs, as {facts.tokens_per_batch:,} tokens are {facts.packing:.0%} full "
            "(--data.tokens_per_batch)"
        )
