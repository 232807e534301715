"""The command line in a process of its own, as Ray wants it."""

from __future__ import annotations

import os
import subprocess
import sys


def step_ray(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "step_ray.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
        env={**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"},
    )
