"""A lock says who holds it, and knows a holder that lives from one that died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from step_ray import lock
from step_ray.lock import LockHeld, locked

HOLD = (
    "import sys, threading, pathlib\nfrom step_ray.lock import locked\n"
    "with locked(pathlib.Path(sys.argv[1])):\n  print('held', flush=True)\n"
    "  threading.Event().wait()"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock ``tmp_path/lock``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_lock_is_exclusive_and_says_who_has_it(tmp_path: Path) -> None:
    said = pytest.raises(LockHeld, match=rf"process {os.getpid()} on \S+ since 2")
    with locked(tmp_path / "lock"), said, locked(tmp_path / "lock"):
        pass
    with locked(tmp_path / "lock"):
        pass


def test_the_lock_of_a_killed_process_is_free(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(LockHeld, match=f"process {holder.pid} on"), locked(tmp_path / "lock"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(tmp_path / "lock"):
        pass


def left_by_another_machine(path: Path, seconds: float) -> None:
    """What a driver on another machine wrote ``seconds`` ago, if the kernel's lock is not shared
    between the two machines."""
    path.write_text("process 7 on elsewhere since 2026-01-01T00:00:00+00:00\n")
    moment = path.stat().st_mtime - seconds
    os.utime(path, (moment, moment))


def test_a_fresh_heartbeat_of_another_machine_is_respected(tmp_path: Path) -> None:
    left_by_another_machine(tmp_path / "lock", 20)
    with (
        pytest.raises(LockHeld, match=r"process 7 on elsewhere .*life 20 s ago.*free 40 s from"),
        locked(tmp_path / "lock"),
    ):
        pass
    assert (tmp_path / "lock").read_text().startswith("process 7")
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_the_lock_of_a_dead_machine_is_free(tmp_path: Path) -> None:
    left_by_another_machine(tmp_path / "lock", lock.LEASE + 1)
    with locked(tmp_path / "lock"):
        assert f"process {os.getpid()}" in (tmp_path / "lock").read_text()
    assert (tmp_path / "lock").read_text() == ""


def test_a_holder_shows_that_it_lives(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, heartbeat=0.01):
        os.utime(path, (0, 0))
        for _ in range(3000):
            if path.stat().st_mtime > 0:
                break
            os.sched_yield()
            subprocess.run(["true"], check=True)
        assert path.stat().st_mtime > 0
