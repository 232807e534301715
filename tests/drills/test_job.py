"""A recipe as a submitted job on a cluster started by hand."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.drills.test_recipe import CONFIG

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ENV = {
    **os.environ,
    "RAY_AUTH_MODE": "disabled",
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",  # a job's python is that of `ray start`
    "OMP_NUM_THREADS": "1",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[str]:
    port, web, agent = (free_port() for _ in range(3))
    # Sockets live below the folder, and their paths have a length limit.
    temporary = Path("/tmp") / f"ray-job-{port}"
    # `--block` keeps all of it in one process group, which ends without touching other clusters.
    head = subprocess.Popen(
        [
            str(BIN / "ray"), "start", "--head", "--block", f"--port={port}",
            f"--dashboard-port={web}", f"--dashboard-agent-listen-port={agent}",
            f"--temp-dir={temporary}", "--num-cpus=4", "--object-store-memory=100000000",
            "--disable-usage-stats",
        ],
        env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{web}"
    deadline = time.monotonic() + 120
    while not ready(address):
        assert head.poll() is None, "ray start ended"
        assert time.monotonic() < deadline, "the job server did not come up"
        time.sleep(0.5)  # a poll
    yield address
    os.killpg(head.pid, signal.SIGTERM)
    try:
        head.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(head.pid, signal.SIGKILL)


def ready(address: str) -> bool:
    """Whether the job server answers."""
    try:
        with urllib.request.urlopen(f"{address}/api/jobs/", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def submit(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", ".",
            "--", "python", "jobs/run.py", *arguments,
        ],
        cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


def test_a_submitted_job_runs_the_recipe_and_says_what_is_wrong(
    dashboard: str, tmp_path: Path
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(CONFIG.format(output=tmp_path / "run"))
    done = submit(dashboard, str(config))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "evaluation: done" in done.stdout
    assert "\x1b[2K" not in done.stdout  # no terminal control codes in a log
    assert (tmp_path / "run" / "report" / "index.html").is_file()
    wrong = submit(dashboard, str(config), "--set", "seeds=1")
    assert wrong.returncode != 0
    assert "seed" in wrong.stdout
