"""Checkpoints of small tasks as training leaves them, without the training."""

import json

import lightning.pytorch as pl
import numpy as np
import torch
from batches import RNA, TINY

from rnafm.data.batch import Batch
from rnafm.tasks import ContactPrediction, MaskedLM, SequencePrediction, TokenPrediction

SEQUENCES = [
    "GGGAAACCCU",
    "ACGUACGUACGUACGUACG",
    "GCAU",
    "GGGGCUUCGGCCCC",
    "UUAGC",
    "AACCGGUUAACCGGUU",
]


def save(task, path):
    """A checkpoint with what Lightning and the task's hooks put into it."""
    with torch.no_grad():
        for parameter in task.parameters():  # different from those of a new task
            parameter.add_(0.05 * torch.randn_like(parameter))
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    trainer.strategy.connect(task)
    trainer.save_checkpoint(path)
    return task.eval()


def make(level, path, objective=None, **options):
    """A task of a level, and its checkpoint."""
    torch.manual_seed(3)
    options = {"encoder": TINY} | options
    if level == "pairs":
        return save(ContactPrediction(objective=objective, **options), path)
    kind = {"sequence": SequencePrediction, "token": TokenPrediction}[level]
    return save(kind(objective=objective, **options), path)


def make_pretrained(path):
    """The checkpoint of a pretraining run."""
    return save(MaskedLM(encoder=TINY), path)


def one_by_one(task, sequences):
    """What the task says of each sequence alone."""
    results = []
    with torch.inference_mode():
        for sequence in sequences:
            tokens = torch.from_numpy(RNA.encode(sequence))
            size = len(tokens)
            bounds = torch.tensor([0, size], dtype=torch.int32)
            results += task.predict_step(Batch(tokens, bounds, size, torch.arange(1)))
    return results


def write_fasta(path, sequences=SEQUENCES):
    """FASTA with names s0, s1 ..."""
    path.write_text("".join(f">s{i} of mine\n{each}\n" for i, each in enumerate(sequences)))
    return path


def names_in(folder):
    """Names of all files of a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


def numbers(cell):
    """A cell of CSV with a list of numbers."""
    return np.array(json.loads(cell))


def same_state(one, other):
    """Whether two modules hold the same tensors."""
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )
