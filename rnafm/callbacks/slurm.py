"""What a job tells its cluster."""

from __future__ import annotations

import logging
import os
import re
import subprocess

logger = logging.getLogger(__name__)


def requeue_job() -> None:
    """Put this SLURM job, or this task of an array, back into the queue; it ends by that."""
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if not re.fullmatch(r"[0-9_]+", job):
        reason = "that is no number of a job"
    else:
        try:
            result = subprocess.run(  # noqa: S603
                ["scontrol", "requeue", job],  # noqa: S607  # where the cluster has it
                check=False,
                capture_output=True,
                text=True,
            )
        except OSError as error:
            reason = str(error)
        else:
            reason = (result.stderr.strip() or f"ended with {result.returncode}") * bool(
                result.returncode
            )
    if reason:
        logger.error("Job %s could not be requeued (%s): submit it again by hand", job, reason)
    else:
        logger.info("Job %s is in the queue again", job)
