"""What it takes from `rnafm fit` to the first step, and to open a store.

python benchmarks/start.py FOLDER [--data DATA] [--sequences 40000000]

FOLDER is for scratch. Three stores that are ready: of the repository's sample, of `ncrna.fa.gz` in
DATA if that is given, and a synthetic one of 40 million sequences (random letters; an eighth of
RNAcentral's lengths, so that it fits on a common disk). Each run is a process of its own,
`rnafm fit --config configs/pretrain/tiny.yaml` with batches of 65,536 tokens and the whole epoch
ahead, which ends when the first step has its batch; that of the sample with the configuration as
it is goes through the step. CPU seconds of all threads from the start of Python, those up to the
end of `import lightning.pytorch` taken off; the median of the repeats. Memory is what a process has
of its own, mapped files apart. Files are in the page cache. The first row is repeated last.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import machine
import sources

if TYPE_CHECKING:
    from rnafm.data.store import SequenceStore

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "start.json"
SCALE = 0.125  # of RNAcentral's lengths
WHOLE_EPOCH = ["--data.tokens_per_batch=65536", "--trainer.max_steps=-1", "--trainer.max_epochs=1"]


def fit(store: Path, folder: Path, words: list[str], *, step: bool) -> dict[str, Any]:
    """The marks of one run: CPU seconds and memory."""
    out = folder / "marks.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / "watch.py"), str(out), "fit"]
    command += ["--config", str(ROOT / "configs" / "pretrain" / "tiny.yaml")]
    command += ["--data.fasta=null", f"--data.store={store}", "--trainer.limit_val_batches=0"]
    command += [f"--trainer.logger.init_args.save_dir={folder / 'runs'}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if step:
        environment["WATCH_STEP"] = "1"
    with (folder / "fit.log").open("w") as log:
        subprocess.run(  # noqa: S603
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, check=True
        )
    marks: dict[str, Any] = json.loads(out.read_text())
    return marks


def median_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The marks of several runs as one, in the order in which they are reached."""
    return {
        name: {key: statistics.median(run[name][key] for run in runs) for key in runs[0][name]}
        for name in runs[0]
    }


def opened(path: Path) -> dict[str, float]:
    """Opening a store and reading a sequence of it, in a process of its own."""
    code = (
        "import json, sys, time, watch\n"
        "from rnafm.data.store import SequenceStore\n"
        "before = watch.memory()\n"
        "start = time.process_time()\n"
        "store = SequenceStore(sys.argv[1])\n"
        "opened = time.process_time() - start\n"
        "store.sequence(len(store) // 2)\n"
        "read = time.process_time() - start\n"
        "print(json.dumps({'open_cpu_s': opened, 'open_and_read_cpu_s': read,"
        " 'own_mb': watch.memory() - before}))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{HERE}"}
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(  # noqa: S603
        command, env=environment, capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def verified(store: SequenceStore) -> float:
    """CPU seconds of comparing everything with its checksums."""
    start = time.process_time()
    store.verify()
    return time.process_time() - start


def main() -> None:
    """Measure, write after each row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sequences", type=int, default=40_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    folder = options.folder
    sample = sources.store_of(sources.SAMPLE, folder)
    used = [
        ("the sample, batches of 2,048", sample, [], True),
        ("the sample", sample, WHOLE_EPOCH, False),
    ]
    if options.data is not None:
        real = sources.store_of(sources.fasta_of(options.data), folder)
        used.append(("ncrna.fa.gz", real, WHOLE_EPOCH, False))
    large = sources.synthetic(folder, options.sequences, SCALE)
    used += [(f"{options.sequences:,} synthetic sequences", large, WHOLE_EPOCH, False), used[0]]
    about, rows = machine.describe(), []
    for what, store, words, step in used:
        runs = [fit(store.path, folder, words, step=step) for _ in range(options.repeats)]
        row = {
            "what": what,
            "sequences": len(store),
            "tokens": int(store.info["tokens"]),
            "verify_cpu_s": verified(store),
            "marks": median_of(runs),
            **opened(store.path),
        }
        rows.append({**row, "load": os.getloadavg()[0], **about})
        print(row, flush=True)
        machine.write(options.out, {"rows": rows})


if __name__ == "__main__":
    main()
