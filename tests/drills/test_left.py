"""A command that is interrupted in the middle leaves no process and no folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills.family import Family

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name leaves room for Ray's sockets below it."""
    with tempfile.TemporaryDirectory(prefix="sr-", dir="/tmp") as folder:
        yield Path(folder)


def test_an_interrupted_drill_leaves_nothing(short: Path, family: Family) -> None:
    """It has a cluster, a driver in a session of its own and workers when an environment hangs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "step_ray.cli", "drill", "hang-env", "--episodes", "4"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **family.env, "TMPDIR": str(short), "RAY_AUTH_MODE": "disabled"},
        start_new_session=True,
        preexec_fn=heeds_interrupts,
    )
    within(300, lambda: any(short.glob("step-ray-drill-*/hang-env/marks/*")), process)
    assert len(family.alive()) > 5
    process.send_signal(signal.SIGINT)
    process.wait(120)
    within(120, lambda: not family.alive())
    assert process.returncode != 0
    assert not list(short.glob("step-ray-drill-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_says_so_and_leaves_no_process(
    number: int, tmp_path: Path, family: Family
) -> None:
    run = tmp_path / "run"
    command = [
        sys.executable, "-m", "step_ray.cli", "run", "jobs/configs/quickstart.yaml",
        "--set", f"output={run}", "--set", "env.games={train: 12, valid_seen: 2, valid_unseen: 2}",
        "--set", "training.save_every_steps=1",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **family.env, "RAY_AUTH_MODE": "disabled"}, start_new_session=True,
        preexec_fn=heeds_interrupts,
    )  # fmt: skip
    within(300, lambda: any(run.glob("base/checkpoints/*")), process)
    process.send_signal(number)
    said, _ = process.communicate(timeout=120)
    within(120, lambda: not family.alive())
    assert 0 < process.returncode < 128 + signal.SIGTERM, said
    assert "base: interrupted" in said
    assert "***" not in said, "no trace of Ray's"
    assert json.loads((run / "base" / "stage.json").read_text())["status"] == "interrupted"


def heeds_interrupts() -> None:
    """A shell that runs tests in the background has them ignore SIGINT, and their children too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def within(seconds: float, happened, process: subprocess.Popen | None = None) -> None:
    until = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < until, f"not within {seconds:g} s"
        assert process is None or process.poll() is None, "it ended by itself"
        time.sleep(0.1)  # a poll
