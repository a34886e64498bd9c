"""The script for SLURM, on a cluster of one core that is played here."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import ROOT, fit, words, write_fasta

SCRIPT = ROOT / "configs" / "slurm" / "pretrain.sh"
RECIPE = "configs/pretrain/tiny.yaml"


def program(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Folder of its programs, which note what they are told."""
    commands = tmp_path / "bin"
    program(commands / "srun", f'echo $$ > {tmp_path}/step\nshift\nexec "$@"')
    program(commands / "scontrol", f'echo "$@" >> {tmp_path}/told')
    program(commands / "rnafm", f'exec {sys.executable} -m rnafm "$@"')
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    for name, value in (
        ("SLURM_JOB_ID", "4711"),
        ("SLURM_JOB_NUM_NODES", "1"),
        ("SLURM_NTASKS_PER_NODE", "1"),
        ("OMP_NUM_THREADS", "1"),  # as here: sums of several threads have other last bits
    ):
        monkeypatch.setenv(name, value)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    return tmp_path


def test_the_script_asks_for_what_it_relies_on(cluster):
    text = SCRIPT.read_text()
    for line in ("--requeue", "--signal=USR1@120", "--open-mode=append"):
        assert f"\n#SBATCH {line}\n" in text
    program(cluster / "bin" / "srun", 'echo "$@"')
    told = subprocess.run(
        [SCRIPT, RECIPE, "--a=b c"], check=True, capture_output=True, text=True, cwd=cluster
    )
    assert told.stdout.split("rnafm fit ")[1] == (
        f"--config {RECIPE} --config configs/trainer/slurm.yaml --trainer.num_nodes 1 "
        "--trainer.devices 1 --trainer.logger.init_args.save_dir runs/job-4711 "
        "--trainer.callbacks+=rnafm.callbacks.SaveLast --trainer.callbacks.every_n_steps=1000 "
        "--ckpt_path auto --a=b c\n"
    )


@pytest.mark.slow
def test_a_job_is_requeued_and_goes_on(cluster, monkeypatch):
    fasta = write_fasta(cluster / "x.fa")
    own = words(cluster / "runs" / "job-4711", fasta, "--trainer.max_steps=30")[1:]
    own.remove(f"--config={ROOT / 'configs' / 'pretrain' / 'tiny.yaml'}")
    options = [*own, "--trainer.strategy=auto"]
    codes = []
    while 0 not in codes and len(codes) < 4:
        with subprocess.Popen([SCRIPT, RECIPE, *options], cwd=cluster) as job:
            runs = cluster / "runs" / "job-4711" / "run"
            saved = runs / f"version_{len(codes)}" / "checkpoints" / "last.ckpt"
            while len(codes) < 2 and not saved.exists() and job.poll() is None:
                time.sleep(0.02)
            if len(codes) < 2:
                os.kill(int(Path(cluster / "step").read_text()), signal.SIGUSR1)
            codes.append(job.wait(timeout=120))
    assert codes == [75, 75, 0]
    assert (cluster / "told").read_text() == "requeue 4711\n" * 2
    last = torch.load(saved)
    assert last["global_step"] == 30
    monkeypatch.undo()
    whole = fit(cluster / "whole", fasta, "--trainer.max_steps=30")
    for name, value in torch.load(whole / "checkpoints" / "last.ckpt")["state_dict"].items():
        assert value.equal(last["state_dict"][name]), name
