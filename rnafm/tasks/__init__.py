"""Encoder + head + objective: one task per file."""

from rnafm.tasks.base import Task
from rnafm.tasks.contact import ContactPrediction
from rnafm.tasks.masked_lm import MaskedLM
from rnafm.tasks.objectives import Binary, Multiclass, Multilabel, Objective, Regression
from rnafm.tasks.sequence import SequencePrediction
from rnafm.tasks.supervised import SupervisedTask
from rnafm.tasks.token import TokenPrediction

__all__ = [
    "Binary",
    "ContactPrediction",
    "MaskedLM",
    "Multiclass",
    "Multilabel",
    "Objective",
    "Regression",
    "SequencePrediction",
    "SupervisedTask",
    "Task",
    "TokenPrediction",
]
