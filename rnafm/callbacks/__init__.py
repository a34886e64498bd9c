"""Meters, pictures and loggers for the Trainer."""

from rnafm.callbacks.checkpoint_io import SealedCheckpointIO
from rnafm.callbacks.guard import LossGuard
from rnafm.callbacks.pictures import LossCurve
from rnafm.callbacks.preemption import Preempted, Preemption
from rnafm.callbacks.progress import RunProgress
from rnafm.callbacks.saving import SaveLast
from rnafm.callbacks.summary import ModelTable
from rnafm.callbacks.testing import TestReport
from rnafm.callbacks.throughput import Throughput
from rnafm.callbacks.tracking import KeepRunId, OfflineFirstWandbLogger, OutliveFullDisk
from rnafm.callbacks.tracking_page import RunPage

__all__ = [
    "KeepRunId",
    "LossCurve",
    "LossGuard",
    "ModelTable",
    "OfflineFirstWandbLogger",
    "OutliveFullDisk",
    "Preempted",
    "Preemption",
    "RunPage",
    "RunProgress",
    "SaveLast",
    "SealedCheckpointIO",
    "TestReport",
    "Throughput",
]
