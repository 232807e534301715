"""A command that is interrupted or killed in the middle leaves no process and, where it can, no
folder."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from measure import marked

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

MARK = "STEP_RAY_TEST_MARK"


@pytest.mark.parametrize(
    ("end", "tidy"), [(signal.SIGINT, True), (signal.SIGKILL, False)], ids=["SIGINT", "SIGKILL"]
)
def test_a_drill_leaves_nothing(tmp_path: Path, end: signal.Signals, tidy: bool) -> None:
    """It has a cluster, a driver in a session of its own and workers when an environment hangs."""
    mark = secrets.token_hex(8)
    process = subprocess.Popen(
        [sys.executable, "-m", "step_ray.cli", "drill", "hang-env", "--episodes", "4"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, MARK: mark, "TMPDIR": str(tmp_path), "RAY_AUTH_MODE": "disabled"},
        start_new_session=True,
    )
    try:
        within(300, lambda: any(tmp_path.glob("step-ray-drill-*/hang-env/marks/*")), process)
        assert len(marked(MARK, mark)) > 5
        process.send_signal(end)
        process.wait(120)
        within(120, lambda: not marked(MARK, mark))
    finally:
        for pid in marked(MARK, mark):
            os.kill(pid, signal.SIGKILL)
    assert process.returncode != 0
    assert bool(list(tmp_path.glob("step-ray-drill-*"))) is not tidy


def within(seconds: float, happened, process: subprocess.Popen | None = None) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, f"not within {seconds:g} s"
        assert process is None or process.poll() is None, "it ended by itself"
        time.sleep(0.1)  # a poll
