"""A command as a submitted job: what is different on a cluster, and nothing else."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from step_ray.config import RUNS


def run_job(*command: str) -> None:
    """``step-ray COMMAND`` with what stands on the command line behind it.

    A job starts in a copy of the submitted folder, which goes away with the cluster or earlier.
    So a relative ``output`` is below ``$STEP_RAY_RUNS``, and without that below ``~/step-ray`` of
    the machine that drives the job (the head): the same command finds there what an earlier
    submission has made.
    """
    from step_ray.cli import main

    os.environ.setdefault(RUNS, str(Path.home() / "step-ray"))
    sys.argv[1:1] = command
    main()
