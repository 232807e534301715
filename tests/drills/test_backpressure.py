"""A slow teacher: environments wait for it, and no queue grows beyond the episodes that play."""

from __future__ import annotations

import asyncio
import functools
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ray = pytest.importorskip("ray")

from ray import cloudpickle  # noqa: E402

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from synthesis_sides import Scripted, record, specs  # noqa: E402

from step_ray import store  # noqa: E402
from step_ray.models.applications import withdraw  # noqa: E402
from step_ray.models.serving import TEACHER, start_teacher  # noqa: E402
from step_ray.progress import Progress  # noqa: E402
from step_ray.synthesis.filters import Filter  # noqa: E402
from step_ray.synthesis.pipeline import Pool, run_episodes  # noqa: E402
from step_ray.synthesis.worker import WorkerSettings  # noqa: E402
from step_ray.teacher.base import ReviewRequest  # noqa: E402
from step_ray.teacher.expert import ExpertTeacher  # noqa: E402
from step_ray.trajectory import Review  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]

WORKERS, ENVS, EPISODES = 2, 3, 40
GAMES = {"games": {"train": 16, "valid_seen": 0, "valid_unseen": 0}, "seed": 3}


class Overrun(ExpertTeacher):
    """Answers nobody before as many ask as may play, and then waits for more to come."""

    def __init__(self) -> None:
        super().__init__()
        self._asking = self._most = 0
        self._full = asyncio.Event()

    async def review(self, request: ReviewRequest) -> Review:
        self._asking += 1
        self._most = max(self._most, self._asking)
        if self._asking >= WORKERS * ENVS and not self._full.is_set():
            await asyncio.sleep(1.0)  # time for one too many
            self._full.set()
        await self._full.wait()
        self._asking -= 1
        return await super().review(request)

    def counts(self) -> dict[str, float]:
        return {"most at once": self._most}


cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_no_more_reviews_wait_than_episodes_play(ray_cluster: None, tmp_path: Path) -> None:
    """Though the blocks in flight hold five times as many episodes."""
    recording = record("alfworld", GAMES, 8)
    saved = recording.save(tmp_path / "recording.json")
    settings = WorkerSettings(
        env="alfworld",
        env_options=GAMES,
        students={"scripted": str(saved)},
        filter=Filter(max_errors=40, keep_clean=True),
        envs=ENVS,
    )
    pool = Pool(WORKERS, block_size=5, blocks_in_flight=3)
    teacher = start_teacher(1, make=Overrun)
    try:
        named = {"teacher": teacher.fingerprint, "prompt_version": teacher.prompt_version}
        planned = [replace(spec, **named) for spec in specs(recording, EPISODES, monitored=True)]
        load = functools.partial(Scripted, errors=0.2)
        with Progress(plain=True).stage("slow", EPISODES, "episodes") as bar:
            run_episodes(planned, tmp_path / "data", settings, load, lambda: teacher, pool, bar, {})
    finally:
        withdraw(TEACHER)
    assert teacher.counts()["most at once"] == WORKERS * ENVS
    assert store.read_manifest(tmp_path / "data").rows == EPISODES
