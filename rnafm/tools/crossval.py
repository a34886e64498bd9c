"""``rnafm crossval``: folds times seeds of one recipe, and what they say together."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

# Of the trainer, what may change between runs that are summed up: where and how it prints.
_NEUTRAL = (
    "accelerator",
    "devices",
    "strategy",
    "logger",
    "log_every_n_steps",
    "enable_progress_bar",
    "enable_model_summary",
    "default_root_dir",
)


def crossval(
    *options: str,
    config: Path,
    folds: int = 5,
    seeds: int = 1,
    out: Path | None = None,
) -> None:
    """Train and test a recipe on every fold and seed, and sum up.

    What is done already in the output folder is not done again, so a stopped command goes on.
    Words after ``--`` are options of ``rnafm fit``, such as --trainer.max_epochs=5.

    Args:
        *options: Of ``rnafm fit``.
        config: Recipe, whose data have a ``split`` (by hash, group or cluster).
        folds: Number of folds: every sequence is in the test of one of them.
        seeds: Runs of every fold, with seeds 0, 1, ...
        out: Folder for the runs and the summary; by default crossval/<recipe>.
    """
    from rnafm.reports.crossval import summarise

    if folds < 2 or seeds < 1:  # noqa: PLR2004
        raise ValueError(f"folds ({folds}) must be at least 2, seeds ({seeds}) at least 1")
    folder = out or Path("crossval") / config.stem
    settings = _settings([f"--config={config}", *options])
    _refuse_other_splits(settings["data"])
    _claim(folder, settings | {"folds": folds})
    runs = [(fold, seed) for seed in range(seeds) for fold in range(folds)]
    for number, (fold, seed) in enumerate(runs, 1):
        run = folder / f"fold{fold}-seed{seed}"
        done = (run / "test" / "metrics.json").is_file()
        about = f"Run {number} of {len(runs)}: fold {fold}, seed {seed}, {run}"
        print(f"{about} is done already" if done else about, file=sys.stderr, flush=True)
        if not done:
            _fit_and_test(run, config, [*options], fold=fold, folds=folds, seed=seed)
    summarise(folder, folds=folds, seeds=seeds)


def _settings(words: list[str]) -> dict[str, Any]:
    """The whole configuration that ``rnafm fit`` makes of its options, which checks them."""
    from contextlib import redirect_stdout
    from io import StringIO

    import yaml  # type: ignore[import-untyped]

    from rnafm.training import run

    printed = StringIO()
    try:
        with redirect_stdout(printed):
            run(["fit", *words, "--print_config"])
    except SystemExit as stop:
        if stop.code:  # the parser has said why
            raise
    settings: dict[str, Any] = yaml.safe_load(printed.getvalue())
    return settings


def _refuse_other_splits(data: dict[str, Any]) -> None:
    """Folds are another way of saying which rows are for test; there must not be two."""
    values = data.get("init_args") or {}
    split = values.get("split")
    if split is None:
        raise ValueError(
            f"data ({data.get('class_path')}): has no split and so no folds; use data with labels, "
            "such as LabelledDataModule or StructureDataModule"
        )
    given = [name for name in ("val_files", "test_files") if values.get(name)]
    if split.get("by") == "column":
        given.append("split.by column")
    if split.get("hold_out"):
        given.append("split.hold_out")
    if given:
        raise ValueError(
            f"{' and '.join(given)}: the recipe says itself which rows are for test, and so do "
            "folds; use split.by hash, group or cluster without them"
        )


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse a folder with runs of another recipe or number of folds: they would be mixed."""
    from rnafm.files import atomic

    path = folder / "crossval.json"
    trainer = {key: each for key, each in settings["trainer"].items() if key not in _NEUTRAL}
    settings = json.loads(json.dumps(settings | {"trainer": trainer}, default=str))
    if not path.is_file():
        with atomic(path) as temporary:
            temporary.write_text(json.dumps(settings, indent=2) + "\n")
        return
    before, now = _flat(json.loads(path.read_text())), _flat(settings)
    other = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if other:
        changed = ", ".join(f"{key} {before.get(key)}, now {now.get(key)}" for key in other[:3])
        raise ValueError(
            f"{folder} has runs with other settings ({changed}); give another folder with --out, "
            "or remove this one"
        )


def _flat(values: Any, name: str = "") -> dict[str, Any]:
    """Nested settings by names with dots."""
    if not isinstance(values, dict):
        return {name: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{name}.{key}" if name else key)
    return flat


def _fit_and_test(
    run: Path, config: Path, options: list[str], *, fold: int, folds: int, seed: int
) -> None:
    logger = "--trainer.logger.init_args"
    common = [
        f"--config={config}",
        *options,
        f"--data.split.folds={folds}",
        f"--data.split.fold={fold}",
        f"--seed_everything={seed}",
        "--trainer.logger=lightning.pytorch.loggers.CSVLogger",
        f"{logger}.save_dir={run.parent.parent}",
        f"{logger}.name={run.parent.name}",
        f"{logger}.version={run.name}",
    ]
    checkpoints, fitted = run / "checkpoints", run / "fitted"
    if not fitted.is_file():
        last = checkpoints / "last.ckpt"
        if not last.is_file():  # Lightning would call its new files best-v1.ckpt
            shutil.rmtree(checkpoints, ignore_errors=True)
        execute(["fit", *common, *([f"--ckpt_path={last}"] if last.is_file() else [])])
        fitted.touch()
    best = checkpoints / "best.ckpt"
    if not best.is_file():
        raise ValueError(
            f"{best}: the recipe did not make it; give it a ModelCheckpoint with filename: best"
        )
    execute(["test", *common, f"--ckpt_path={best}"])


def execute(words: list[str]) -> Any:
    """Run a verb in a process of its own, which may use several devices and must leave nothing.

    Raises:
        ValueError: If it fails; what it printed says why.
    """
    with subprocess.Popen([sys.executable, "-m", "rnafm", *words]) as process:  # noqa: S603
        try:
            status = process.wait()
        except KeyboardInterrupt:  # it was told as well, and saves where it was
            process.wait()
            raise
    if status:
        raise ValueError(
            f"rnafm {words[0]} ended with {status}: see above; run the same command again to go on "
            "from here"
        )
