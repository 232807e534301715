"""What ``make bench-synthesis`` and the soak share: recorded tasks, and a student that costs next
to nothing, so that environments and orchestration are all there is to measure.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ray import cloudpickle

from step_ray import store
from step_ray.envs import make_env
from step_ray.envs.base import Task
from step_ray.models.base import Reply, Sampling
from step_ray.progress import Progress
from step_ray.synthesis.filters import Filter
from step_ray.synthesis.pipeline import Pool, run_episodes
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import WorkerSettings
from step_ray.teacher.base import Teacher
from step_ray.teacher.expert import ExpertTeacher

MAX_STEPS = 40

# Ray's workers do not have this folder on their path.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Recording:
    """Tasks of an environment, and what its expert says and does in each: (thought, action)s."""

    env: str
    options: dict[str, Any]
    tasks: tuple[Task, ...]
    turns: dict[str, list[tuple[str, str]]]
    starts: dict[str, str]

    @property
    def steps_per_episode(self) -> float:
        """On average."""
        return sum(map(len, self.turns.values())) / len(self.tasks)

    def save(self, path: Path) -> Path:
        """For other processes."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Recording:
        raw = json.loads(Path(path).read_text(encoding="utf-8"))
        tasks = tuple(Task(**task) for task in raw.pop("tasks"))
        return cls(tasks=tasks, **raw)


def record(env: str, options: dict[str, Any], count: int) -> Recording:
    """The expert plays ``count`` tasks that it wins, spread over the training tasks."""
    world = make_env(env, **options)
    listed = world.tasks("train")
    turns: dict[str, list[tuple[str, str]]] = {}
    starts, chosen = {}, []
    for task in (listed[i * len(listed) // (2 * count)] for i in range(2 * count)):
        if len(chosen) == count or task in chosen:
            continue
        first = world.reset(task)
        played: list[tuple[str, str]] = []
        reward = 0.0
        while len(played) < MAX_STEPS and reward < 1.0:
            turn = world.expert()
            if turn is None:
                break
            reward = world.step(turn.action).reward
            played.append((turn.thought, turn.action))
        if reward >= 1.0:
            chosen.append(task)
            turns[task.id], starts[task.id] = played, first.text
    world.close()
    return Recording(env, options, tuple(chosen), turns, starts)


class Scripted:
    """A student that says the recorded turns.

    ``errors``: share of replies, chosen by hash of the sampling's seed, that are an action which no
    environment knows; once corrected it goes on behind the correction. ``seconds``: it thinks so
    long about each.
    """

    fingerprint = "scripted"

    def __init__(self, path: str, errors: float = 0.0, seconds: float = 0.0) -> None:
        recording = Recording.load(path)
        self._turns = {recording.starts[key]: turns for key, turns in recording.turns.items()}
        self._known: dict[str, list[tuple[str, str]]] = {}
        self._errors, self._seconds = errors, seconds

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        if self._seconds:
            await asyncio.sleep(self._seconds)
        turns = self._script(messages[0]["content"])
        if self._errors:
            done = sum("stumble" not in message["content"] for message in messages[1::2])
            drawn = hashlib.sha256(str(sampling.seed).encode()).digest()[0] / 256
            if drawn < self._errors:
                return Reply("Thought: I am careless.\nAction: stumble", "stop", 1, 1)
        else:
            done = len(messages) // 2
        thought, action = turns[min(done, len(turns) - 1)]
        return Reply(f"Thought: {thought}\nAction: {action}", "stop", 1, 1)

    def _script(self, first: str) -> list[tuple[str, str]]:
        if first not in self._known:
            self._known[first] = next(self._turns[text] for text in self._turns if text in first)
        return self._known[first]


def specs(recording: Recording, episodes: int, monitored: bool, seed: int = 0) -> list[EpisodeSpec]:
    """So many episodes of the recorded tasks in turn."""
    teacher = ExpertTeacher()
    return [
        EpisodeSpec(
            env=recording.env,
            data="benchmark",
            split=task.split,
            task=task.id,
            task_type=task.type,
            seed=seed,
            rollout=number // len(recording.tasks),
            student="scripted",
            teacher=teacher.fingerprint if monitored else "",
            prompt_version=teacher.prompt_version if monitored else "",
            max_steps=MAX_STEPS,
        )
        for number, task in (
            (number, recording.tasks[number % len(recording.tasks)]) for number in range(episodes)
        )
    ]


def bare(path: str, before: int, episodes: int, monitored: bool) -> tuple[int, float]:
    """Steps taken by the environment in this process, one episode after the other, and seconds;
    those of ``before`` are not counted.

    With ``monitored`` it is asked at each step for its expert's turn and its judgement, as a
    teacher made of them needs; else it is only stepped.
    """
    recording = Recording.load(path)
    world = make_env(recording.env, **recording.options)
    world.tasks("train")
    steps, begun = 0, time.perf_counter()
    for number in range(-before, episodes):
        if number == 0:
            steps, begun = 0, time.perf_counter()
        task = recording.tasks[number % len(recording.tasks)]
        world.reset(task)
        world.build()
        for _, action in recording.turns[task.id]:
            if monitored:
                world.expert()
                world.judge(action)
            world.step(action)
            steps += 1
    seconds = time.perf_counter() - begun
    world.close()
    return steps, seconds


def pipeline(
    recording: Recording,
    saved: Path,
    planned: Sequence[EpisodeSpec],
    pool: Pool,
    *,
    errors: float = 0.0,
    thinks: float = 0.0,
    envs: int = 8,
    folder: Path | None = None,
    connect: Callable[[], Teacher] = ExpertTeacher,
    watch: Callable[[int], None] = lambda done: None,
) -> float:
    """Seconds that the whole pipeline takes, from the plan to the published dataset.

    Ends the benchmark if an episode was lost, unless the student errs.
    """
    settings = WorkerSettings(
        env=recording.env,
        env_options=recording.options,
        students={"scripted": str(saved)},
        filter=Filter(max_errors=MAX_STEPS, keep_clean=True),
        envs=envs,
    )
    load = functools.partial(Scripted, errors=errors, seconds=thinks)
    progress = Progress(plain=True)
    begun = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(prefix="step-ray-bench-") as scratch,
        progress.stage("pipeline", len(planned), "episodes") as bar,
    ):
        target = folder or Path(scratch)
        run_episodes(
            planned,
            target,
            settings,
            load,
            connect,
            pool,
            bar,
            {},
            lambda: watch(bar.completed) or {},
        )
        seconds = time.perf_counter() - begun
        lost = store.read_manifest(target).drop_reasons
        if lost and not errors:
            raise SystemExit(f"{recording.env}: not all episodes came to their end: {lost}")
        return seconds


if __name__ == "__main__":  # a bare process
    print(*bare(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), monitored=True))
