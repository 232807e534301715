"""Separate hosts, by network namespaces: the teacher's is cut off while episodes are reviewed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from step_ray import schema, store
from step_ray.synthesis import raw
from step_ray.synthesis.filters import Filter
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings
from step_ray.teacher.expert import ExpertTeacher
from tests.drills.hosts import Hosts, possible

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "tests" / "benchmarks"
sys.path.append(str(BENCHMARKS))

from synthesis_sides import Recording, Scripted, record, specs  # noqa: E402

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
]

EPISODES = 48
GAMES = {"train": 64, "valid_seen": 0, "valid_unseen": 0}
ENV = {
    **os.environ,
    "RAY_AUTH_MODE": "disabled",
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(BENCHMARKS)]),
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "8",
}

REACH = """
import socket, sys, time
for _ in range(600):
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), 1).close()
        break
    except OSError:
        time.sleep(0.2)  # a poll
else:
    sys.exit(1)
"""


class Network:
    """Hosts with a Ray node each: ``head`` without work, ``teacher``, and ``cpu`` for episodes."""

    def __init__(self, hosts: Hosts, temporary: Path) -> None:
        self.hosts, self._temporary = hosts, temporary
        self.address = f"{hosts.addresses['head']}:6379"

    def start(self, name: str, *arguments: str) -> None:
        """A Ray node on a host, in the background."""
        ray = str(Path(sys.executable).parent / "ray")
        host = f"--node-ip-address={self.hosts.addresses[name]}"
        common = ["--block", "--disable-usage-stats", "--object-store-memory=100000000"]
        self._begin(self.hosts.command(name, [ray, "start", host, *common, *arguments]))

    def _begin(self, command: list[str]) -> None:
        self._nodes.append(
            subprocess.Popen(
                command, env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )  # fmt: skip

    def __enter__(self) -> Network:
        self._nodes: list[subprocess.Popen[bytes]] = []
        self.start(
            "head", "--head", "--port=6379", "--num-cpus=0", "--include-dashboard=false",
            f"--temp-dir={self._temporary}",
        )  # fmt: skip
        found = self.hosts.run("head", [sys.executable, "-c", REACH, *self.address.split(":")])
        assert found.returncode == 0, "the head did not come up"
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self._nodes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(node.pid, signal.SIGTERM)
        for node in self._nodes:
            try:
                node.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(node.pid, signal.SIGKILL)
        shutil.rmtree(self._temporary, ignore_errors=True)


@pytest.fixture
def network() -> Iterator[Network]:
    if not possible():
        pytest.skip("no network namespaces here: they need root and `ip`")
    # Sockets live below the folder, and their paths have a length limit.
    temporary = Path("/tmp") / f"sr-{os.getpid()}"
    with Hosts(["head", "teacher", "cpu"]) as hosts, Network(hosts, temporary) as made:
        yield made


def expected(recording: Recording, saved: Path) -> dict[str, str]:
    """What episodes are without any network: id -> hash of the row."""
    settings = WorkerSettings(
        env=recording.env,
        env_options=recording.options,
        students={"scripted": str(saved)},
        filter=Filter(max_errors=40, keep_clean=True),
    )
    worker = EpisodeWorker(settings, lambda path: Scripted(path, errors=0.2), ExpertTeacher())
    try:
        rows = worker.run_block(specs(recording, EPISODES, monitored=True))
    finally:
        worker.close()
    return {row["id"]: schema.row_hash(row) for row in rows}


def until(done: Callable[[], bool], driver: subprocess.Popen[str], what: str) -> None:
    deadline = time.monotonic() + 300
    while not done():
        assert driver.poll() is None, f"the driver ended before {what}"
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.1)  # a poll


def test_a_teacher_that_is_cut_off_for_a_moment(network: Network, tmp_path: Path) -> None:
    """Requests wait, and go on."""
    saved = tmp_path / "recording.json"
    recording = record("alfworld", {"games": GAMES, "seed": 3}, 32)
    recording.save(saved)
    hosts = network.hosts
    network.start("teacher", f"--address={network.address}", "--num-cpus=1")
    arguments = [str(tmp_path), str(EPISODES), network.address, hosts.addresses["head"]]
    command = [sys.executable, "-m", "tests.drills.partitioned", *arguments]
    log = tmp_path / "log"
    driver = subprocess.Popen(
        hosts.command("head", command), cwd=ROOT, env=ENV, stdout=log.open("w"),
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        there = f"teacher {hosts.addresses['teacher']}\n"
        until(lambda: there in log.read_text(), driver, "teacher on its host")
        labels = "--labels=step-ray/kind=cpu"
        network.start("cpu", f"--address={network.address}", "--num-cpus=2", labels)
        until(lambda: len(raw.complete(tmp_path / "data")) >= 3, driver, "blocks")
        hosts.unplug("teacher")
        time.sleep(2.0)  # how long it is away
        hosts.plug("teacher")
        assert driver.wait(600) == 0, log.read_text()[-3000:]
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
    said = [line for line in log.read_text().splitlines() if line.startswith("teacher ")]
    assert said[-1] == f"teacher {hosts.addresses['teacher']}"
    rows = list(store.read_rows(tmp_path / "data"))
    assert len(rows) == EPISODES
    assert {row["id"]: schema.row_hash(row) for row in rows} == expected(recording, saved)
