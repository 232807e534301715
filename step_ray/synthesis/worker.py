"""Hosts many episodes at once in one process: their waits for the student and the teacher
interleave, and their prompts share the student's batches. No Ray in here.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from step_ray.envs import make_env
from step_ray.envs.base import EnvError, Task, TextEnv
from step_ray.models.base import ChatModel, Sampling
from step_ray.schema import to_row
from step_ray.synthesis.episode import Deadlines, EpisodeResult, run_episode
from step_ray.synthesis.filters import Filter, drop_reason
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.teacher.base import Teacher

OnDone = Callable[[EpisodeResult, str], None]
"""Called with each finished episode and its drop reason."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What all episodes of a worker share; picklable.

    ``env_options`` go to ``make_env``; ``students`` maps a fingerprint to a model folder;
    ``envs`` bounds the episodes in flight.
    """

    env: str
    env_options: Mapping[str, Any]
    students: Mapping[str, str]
    sampling: Sampling = field(default_factory=Sampling)
    deadlines: Deadlines = field(default_factory=Deadlines)
    filter: Filter = field(default_factory=Filter)
    envs: int = 32


class EpisodeWorker:
    """Runs blocks of episodes; several threads may call :meth:`run_block` at once.

    ``load`` makes the student of a model folder; ``teacher`` is None for plain roll-outs.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        load: Callable[[str], ChatModel],
        teacher: Teacher | None,
        on_done: OnDone = lambda result, reason: None,
    ) -> None:
        self.settings = settings
        self._load, self._teacher, self._on_done = load, teacher, on_done
        self._models: dict[str, ChatModel] = {}
        self._loading = threading.Lock()
        self._envs: list[TextEnv] = []
        self._tasks: dict[tuple[str, str], Task] = {}
        self._loop = asyncio.new_event_loop()
        self._slots = asyncio.Semaphore(settings.envs)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run_block(self, specs: Sequence[EpisodeSpec]) -> list[dict[str, Any]]:
        """Runs the episodes side by side; returns a row for each, in order, with its wall seconds
        by phase in the extra column ``phase_seconds``."""
        jobs = [
            asyncio.run_coroutine_threadsafe(self._run(spec), self._loop) for spec in specs
        ]
        return [job.result() for job in jobs]

    def close(self) -> None:
        """Closes environments and models and ends the loop's thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        for env in self._envs:
            env.close()
        for model in self._models.values():
            close = getattr(model, "close", None)
            if close is not None:
                close()

    async def _run(self, spec: EpisodeSpec) -> dict[str, Any]:
        queued = time.perf_counter()
        async with self._slots:
            waited = time.perf_counter() - queued
            student = await asyncio.to_thread(self._student, spec.student)
            env = self._envs.pop() if self._envs else self._new_env()
            task = self._task(env, spec)
            result = await run_episode(
                spec,
                env,
                task,
                student,
                self._teacher if spec.teacher else None,
                self.settings.sampling,
                self.settings.deadlines,
            )
            if not result.env_lost:  # a hung engine is abandoned with its thread
                self._envs.append(env)
        reason = drop_reason(result.trajectory, self.settings.filter)
        self._on_done(result, reason)
        row = to_row(result.trajectory, spec.to_dict(), reason)
        row["phase_seconds"] = {**result.seconds, "queue": waited}
        return row

    def _new_env(self) -> TextEnv:
        return make_env(self.settings.env, **self.settings.env_options)

    def _task(self, env: TextEnv, spec: EpisodeSpec) -> Task:
        key = (spec.split, spec.task)
        if key not in self._tasks:
            self._tasks |= {(t.split, t.id): t for t in env.tasks(spec.split)}
        if key not in self._tasks:
            raise EnvError(
                f"task {spec.task!r} is not in the {spec.split} split of {spec.env}: this machine "
                "has other data than the one that planned the run"
            )
        return self._tasks[key]

    def _student(self, fingerprint: str) -> ChatModel:
        with self._loading:
            if fingerprint not in self._models:
                self._models[fingerprint] = self._load(self.settings.students[fingerprint])
            return self._models[fingerprint]
