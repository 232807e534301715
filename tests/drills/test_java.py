"""ScienceWorld's Java process dies under several episodes at once: by a kill, and of its memory."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from step_ray.config_deadlines import Deadlines
from step_ray.envs.scienceworld.pool import SimulatorPool, pool
from step_ray.envs.scienceworld.simulator import Simulator
from step_ray.models.base import Reply, Sampling
from step_ray.schema import row_hash
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings

pytest.importorskip("scienceworld", reason="pip install 'step-ray[scienceworld]'")

OPTIONS = {"types": ["find-plant"], "timeout": 59.0}  # a pool of its own, by its setting
SETTINGS = WorkerSettings(
    env="scienceworld",
    env_options=OPTIONS,
    students={"student": "folder"},
    deadlines=Deadlines(reset=500.0, step=500.0, episode=1000.0),  # of a crowded machine
    envs=3,
)
SPECS = [
    EpisodeSpec(
        env="scienceworld", data="", split="train", task=f"find-plant_{number}",
        task_type="find-plant", seed=0, rollout=0, student="student", max_steps=4,
    )
    for number in range(3)
]  # fmt: skip


class Student:
    """Says the same at each turn; ``strike`` happens once, when episodes are under way."""

    fingerprint = "student"

    def __init__(self, strike: Callable[[], None]) -> None:
        self.strike, self.asked = strike, 0

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        self.asked += 1
        if self.asked == 5:
            self.strike()
        return Reply("Thought: I look.\nAction: look around", "stop", 1, 1)


def play(strike: Callable[[], None] = lambda: None) -> list[dict[str, Any]]:
    worker = EpisodeWorker(SETTINGS, lambda folder: Student(strike), None)
    try:
        return worker.run_block(SPECS)
    finally:
        worker.close()


def shared() -> SimulatorPool:
    return pool(timeout=OPTIONS["timeout"])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def undisturbed() -> list[dict[str, Any]]:
    rows = play()
    assert {row["outcome"] for row in rows} == {"step_limit"}
    assert sum(row["env_fates"]["restarted"] for row in rows) == 0
    return rows


def kill() -> None:
    [pid] = shared().processes
    os.kill(pid, signal.SIGKILL)


def exhaust() -> None:
    """More than the heap can hold, for one of the simulators in the process."""
    slot = shared().lend()
    with contextlib.suppress(ConnectionError):
        slot.connection.new("java.util.ArrayList", 500_000_000)
    assert slot.jvm.process.wait(60) == 3, "what Java exits with when memory runs out"
    shared().take_back(slot)


@pytest.mark.parametrize("strike", [kill, exhaust])
def test_all_its_episodes_go_on_and_it_is_counted_once(
    undisturbed: list[dict[str, Any]], strike: Callable[[], None]
) -> None:
    rows = play(strike)
    assert [row_hash(row) for row in rows] == [row_hash(row) for row in undisturbed]
    fates = [row["env_fates"] for row in rows]
    assert sum(of["restarted"] for of in fates) == 1
    assert sum(of["replaced"] for of in fates) == 0


def test_an_episode_that_kills_every_process_costs_no_other(
    undisturbed: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = Simulator._again
    poisoned: list[Simulator] = []

    def dies(self: Simulator, alone: bool = False) -> Any:
        """The first simulator that is played again kills every process in which it is."""
        if not poisoned:
            poisoned.append(self)
        slot = again(self, alone)
        if self is poisoned[0]:
            slot.jvm.process.kill()
            slot.jvm.process.wait()
        return slot

    monkeypatch.setattr(Simulator, "_again", dies)
    rows = play(kill)
    lost = [number for number, row in enumerate(rows) if row["outcome"] == "env_error"]
    assert len(lost) == 1, [(row["outcome"], row["detail"]) for row in rows]
    assert "Java process ended, and so did two others" in rows[lost[0]]["detail"]
    for number, row in enumerate(rows):
        if number not in lost:
            assert row_hash(row) == row_hash(undisturbed[number])
    fates = [row["env_fates"] for row in rows]
    assert sum(of["replaced"] for of in fates) == 1
    # Shared ones died twice, or more often if a neighbour came late; then the poisoned one's own.
    assert sum(of["restarted"] for of in fates) >= 3
    assert len(shared().processes) < 3, "one of one's own ends with its loan"
