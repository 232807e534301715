"""All processes that come of one command, to see whether any is left."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from measure import marked


class Family:
    """Every process that began with `env`, and its children, whatever session they are in."""

    def __init__(self) -> None:
        self.env = {"STEP_RAY_TEST_FAMILY": secrets.token_hex(8)}

    def alive(self) -> list[int]:
        [(name, value)] = self.env.items()
        return marked(name, value)

    def kill(self) -> None:
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
