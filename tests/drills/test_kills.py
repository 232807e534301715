"""Workers and drivers are killed again and again; the dataset is the one of a quiet run.

``pytest tests/drills/test_kills.py -m slow -s`` prints what docs/reliability.md says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from step_ray import store
from step_ray.faults import VARIABLE, Fault, FaultPlan

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS / "benchmarks"))

from measure import descendants  # noqa: E402
from synthesis_sides import record  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.timeout(3000)]

IN_FLIGHT = 4  # driven.ENVS: calls of the teacher that a worker may be waiting for

# Places of the driver, from the plan to the manifest; those of publication come last.
POINTS = (
    *(("planned", 1), ("block-done", 1), ("episodes-done", 7), ("block-done", 5)),
    *(("before-publish", 1), ("shard-written", 1), ("shard-renamed", 1), ("manifest-written", 1)),
)
ALL_POINTS = (
    *POINTS,
    *(("block-done", n) for n in (2, 3, 4, 7, 10, 15)),
    *(("episodes-done", n) for n in (1, 15, 22, 30, 38, 50)),
)


class Drill:
    """Runs of the driver in folders of their own, on the cluster of this process."""

    def __init__(self, tmp: Path, episodes: int, workers: int) -> None:
        self.tmp, self.episodes, self.workers = tmp, episodes, workers
        self.recording = record("alfworld", {"games": GAMES, "seed": 3}, 32)

    def folder(self, name: str) -> Path:
        folder = self.tmp / name
        folder.mkdir()
        self.recording.save(folder / "recording.json")
        return folder

    def start(self, folder: Path, *faults: Fault, thinks: float = 0.0) -> subprocess.Popen[bytes]:
        import ray

        script = Path(__file__).with_name("driven.py")
        path = [str(TESTS.parent), str(TESTS / "benchmarks")]
        plan = FaultPlan(str(folder / "marks"), faults)
        return subprocess.Popen(
            [sys.executable, str(script), str(folder), str(self.episodes), str(self.workers)],
            stdout=(folder / "log").open("a"),  # a pipe that nobody reads would stop it
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(path),
                "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
                "THINKS": str(thinks),
                VARIABLE: plan.to_json(),
            },
        )

    def run(self, folder: Path, *faults: Fault, thinks: float = 0.0) -> int:
        """The exit status; anything but a planned death is shown."""
        process = self.start(folder, *faults, thinks=thinks)
        process.wait(1200)
        assert process.returncode in (0, -signal.SIGKILL), said(folder)
        return process.returncode


GAMES = {"train": 64, "valid_seen": 0, "valid_unseen": 0}


def said(folder: Path) -> str:
    return (folder / "log").read_text(errors="replace")[-4000:]


def paid(folder: Path) -> Counter[str]:
    return Counter((folder / "paid").read_text().split())


def same(folder: Path, quiet: Path, episodes: int) -> None:
    assert store.verify_store(folder / "data") == []
    rows = [row["id"] for row in store.read_rows(folder / "data", ["id"])]
    assert len(rows) == len(set(rows)) == episodes
    one, other = (store.read_manifest(each / "data").content_hash for each in (folder, quiet))
    assert one == other


def kill_driver(drill: Drill, quiet: Path, point: str, at: int) -> int:
    """Kills a driver at a point and continues it; calls of the teacher that were paid twice."""
    folder = drill.folder(f"{point}-{at}")
    assert drill.run(folder, Fault("kill-driver", point, at)) == -signal.SIGKILL
    if point != "manifest-written":
        assert not (folder / "data" / "manifest.json").exists()
    assert drill.run(folder, Fault("kill-driver", point, at)) == 0
    same(folder, quiet, drill.episodes)
    again = sum(paid(folder).values()) - len(paid(folder))
    assert paid(folder).keys() == paid(quiet).keys()
    assert again <= drill.workers * IN_FLIGHT, "only calls in flight are paid twice"
    return again


@pytest.fixture
def quiet_drill(ray_cluster: None, tmp_path: Path) -> tuple[Drill, Path]:
    drill = Drill(tmp_path, 24, 2)
    quiet = drill.folder("quiet")
    assert drill.run(quiet) == 0
    assert max(paid(quiet).values()) == 1
    return drill, quiet


@pytest.mark.parametrize(("point", "at"), [("block-done", 2), ("shard-renamed", 1)])
def test_a_killed_driver_leaves_no_trace(
    quiet_drill: tuple[Drill, Path], point: str, at: int
) -> None:
    kill_driver(*quiet_drill, point, at)


@pytest.mark.slow
def test_a_driver_killed_at_twenty_points(ray_cluster: None, tmp_path: Path) -> None:
    drill = Drill(tmp_path, 64, 2)
    quiet = drill.folder("quiet")
    assert drill.run(quiet) == 0
    assert len(set(ALL_POINTS)) == 20
    again = {point: kill_driver(drill, quiet, *point) for point in ALL_POINTS}
    print(
        f"\nkilled at 20 points: 20 identical datasets; paid twice: {again} of {len(paid(quiet))}"
    )


def kill_workers(
    drill: Drill, folder: Path, thinks: float, most: int = 10_000, age: float = 2.0
) -> tuple[int, float]:
    """Kills a worker every two seconds while a driver works: the oldest, if it is there for ``age``
    seconds (at the end there are few, which would never get through an episode), and not more
    than ``most``. How many, and the seconds that the run took."""
    began = last = time.monotonic()
    process, killed, born = drill.start(folder, thinks=thinks), set[int](), dict[int, float]()
    while process.poll() is None:
        now = time.monotonic()
        working = any((folder / "data" / "raw").glob("*.parquet"))
        alive = descendants(lambda name: name.startswith("ray::MapWorker")) - killed
        born = {pid: born.get(pid, now) for pid in alive}
        old = sorted((since, pid) for pid, since in born.items() if now - since >= age)
        if working and old and len(killed) < most and now - last >= 2.0:
            last, victim = now, old[0][1]
            os.kill(victim, signal.SIGKILL)
            killed.add(victim)
        time.sleep(0.05)  # a poll
    assert process.returncode == 0, said(folder)
    return len(killed), time.monotonic() - began


def test_killed_workers_lose_nothing(ray_cluster: None, tmp_path: Path) -> None:
    drill = Drill(tmp_path, 24, 2)
    quiet, folder = drill.folder("quiet"), drill.folder("killed")
    assert drill.run(quiet) == 0
    killed, _ = kill_workers(drill, folder, thinks=0.1, most=2)
    assert killed >= 1
    same(folder, quiet, drill.episodes)


@pytest.mark.slow
def test_a_worker_killed_every_two_seconds(ray_cluster: None, tmp_path: Path) -> None:
    drill = Drill(tmp_path, 200, 6)
    quiet, folder = drill.folder("quiet"), drill.folder("killed")
    began = time.monotonic()
    assert drill.run(quiet, thinks=0.25) == 0
    undisturbed = time.monotonic() - began
    killed, seconds = kill_workers(drill, folder, thinks=0.25, age=10.0)
    same(folder, quiet, drill.episodes)
    print(
        f"\nkilled {killed} workers in {seconds:.0f} s: 200 published, 0 lost, 0 twice; "
        f"{seconds:.0f} s against {undisturbed:.0f} s: {seconds / undisturbed:.2f} times as long"
    )
    assert killed >= 5
