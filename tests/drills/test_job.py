"""A recipe as a submitted job on a cluster started by hand."""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from step_ray import store
from step_ray.recipes.verify import verify
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


def command(address: str, job: str, *arguments: str) -> list[str]:
    return [
        str(BIN / "ray"), "job", "submit", "--address", address, "--working-dir", ".",
        "--", "python", f"jobs/{job}.py", *arguments,
    ]  # fmt: skip


def submit(address: str, job: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(address, job, *arguments),
        cwd=ROOT, env=ENV, capture_output=True, text=True, timeout=500, check=False,
    )  # fmt: skip


@pytest.mark.slow  # four submissions, each with a Ray driver of its own
def test_jobs_continue_each_other_and_say_what_is_wrong(dashboard: str, tmp_path: Path) -> None:
    config, run = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(CONFIG.format(output=run))
    data = submit(dashboard, "synthesize", str(config))
    assert data.returncode == 0, data.stdout[-3000:] + data.stderr[-2000:]
    assert "reflected: done" in data.stdout
    assert not (run / "step").exists()
    done = submit(dashboard, "run", str(config))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert done.stdout.count("done before") == 3
    assert "evaluation: done" in done.stdout
    assert "\x1b[2K" not in done.stdout  # no terminal control codes in a log
    assert (run / "report" / "index.html").is_file()
    wrong = submit(dashboard, "evaluate", str(config), "--set", "seeds=1")
    assert wrong.returncode != 0
    assert "seed" in wrong.stdout


STAGES = ("golden", "base", "reflected", "step", "golden_only", "evaluation")


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_a_job_killed_at_a_random_moment_and_submitted_again_makes_the_same(
    dashboard: str, tmp_path: Path
) -> None:
    seed = int(os.environ.get("STEP_RAY_DRILL_SEED", secrets.randbelow(10**6)))
    chance = random.Random(seed)
    print(f"STEP_RAY_DRILL_SEED={seed}")
    folders = {}
    for name in ("undisturbed", "killed"):
        folders[name] = tmp_path / name
        (tmp_path / f"{name}.yaml").write_text(CONFIG.format(output=folders[name]))
    assert submit(dashboard, "run", str(tmp_path / "undisturbed.yaml")).returncode == 0

    stage = chance.choice(STAGES)
    arguments = command(dashboard, "run", str(tmp_path / "killed.yaml"))
    client = subprocess.Popen(arguments, cwd=ROOT, env=ENV, stdout=subprocess.DEVNULL)
    begun = folders["killed"] / stage / "stage.json"
    deadline = time.monotonic() + 600
    while not begun.is_file():
        assert client.poll() is None, "the job ended before the stage began"
        assert time.monotonic() < deadline, f"{stage} did not begin"
        time.sleep(0.05)  # a poll
    time.sleep(5 * chance.random())  # the random moment
    driver = int((folders["killed"] / "run.lock").read_text().split()[1])
    os.kill(driver, signal.SIGKILL)
    assert client.wait(300) != 0

    again = submit(dashboard, "run", str(tmp_path / "killed.yaml"))
    assert again.returncode == 0, again.stdout[-3000:] + again.stderr[-2000:]
    for stage in ("golden", "reflected", "evaluation"):
        first, second = (store.read_manifest(folder / stage) for folder in folders.values())
        assert first.content_hash == second.content_hash, (stage, seed)
    assert (folders["killed"] / "report" / "index.html").is_file()
    assert verify(folders["killed"]) == []
