"""Encoder + head + objective: one task per file."""

from rnafm.tasks.base import Task
from rnafm.tasks.masked_lm import MaskedLM

__all__ = ["MaskedLM", "Task"]
