"""Hosts many episodes at once in one process: their waits for the student and the teacher
interleave, and their prompts share the student's batches. No Ray in here.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field
from typing import Any

from step_ray.config_deadlines import Deadlines
from step_ray.envs import make_env
from step_ray.envs.base import EnvError, Task, TextEnv
from step_ray.envs.pool import EnvPool
from step_ray.envs.process import ProcessEnv
from step_ray.faults import Faults
from step_ray.models.base import ChatModel, ModelError, Sampling
from step_ray.schema import to_row
from step_ray.synthesis.beginning import Beginnings
from step_ray.synthesis.episode import run_episode
from step_ray.synthesis.faulty import with_faults
from step_ray.synthesis.filters import Filter, drop_reason
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.threads import CallThread
from step_ray.teacher.base import Teacher

OnRow = Callable[[dict[str, Any]], None]
"""Called with the row of each episode that ends."""


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """What all episodes of a worker share; picklable.

    ``env_options`` go to ``make_env``; ``students`` maps a fingerprint to a model folder;
    ``envs`` bounds the episodes in flight; ``isolated``: each environment has a process of its own,
    which is replaced when it takes over ``memory_mb``; ``faults`` are those of a drill.
    """

    env: str
    env_options: Mapping[str, Any]
    students: Mapping[str, str]
    sampling: Sampling = field(default_factory=Sampling)
    deadlines: Deadlines = field(default_factory=Deadlines)
    filter: Filter = field(default_factory=Filter)
    envs: int = 32
    isolated: bool = False
    memory_mb: float = 2048.0
    faults: Faults = field(default_factory=Faults)


_STARTS = 3  # of an environment, before it counts as one that cannot be had


class EpisodeWorker:
    """Runs blocks of episodes; several threads may call :meth:`run_block` at once.

    ``load`` makes the student of a model folder; ``teacher`` is None for plain roll-outs.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        load: Callable[[str], ChatModel],
        teacher: Teacher | None,
    ) -> None:
        self.settings = settings
        self._load, self._teacher = load, teacher
        self._models: dict[str, ChatModel] = {}
        self._tasks: dict[tuple[str, str], Task] = {}
        self._envs = EnvPool(self._start_env)
        self._beginnings = Beginnings()
        self._threads: list[CallThread] = []  # idle
        self._preparing = CallThread("step-ray-prepare")
        self._slots = asyncio.Semaphore(settings.envs)
        self._closed = False
        self._lock = threading.Lock()  # nothing is begun once closing has begun
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="step-ray-episodes", daemon=True
        )
        self._thread.start()

    def run_block(
        self, specs: Sequence[EpisodeSpec], on_row: OnRow = lambda row: None
    ) -> list[dict[str, Any]]:
        """Runs the episodes side by side; returns a row for each, in order, with its wall seconds
        by phase in the extra column ``phase_seconds``, how many environments were given up in
        ``env_fates``, what its student was asked in ``student`` and whether it was ``disturbed``.
        ``on_row`` is called in this thread as episodes end.

        Raises EnvError for a task this machine does not have, ModelError for a student it cannot
        load; the other episodes of the block are given up then. Raises CancelledError when the
        worker is closed.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("this worker is closed; make a new one")
            jobs = [asyncio.run_coroutine_threadsafe(self._run(spec), self._loop) for spec in specs]
        try:
            for job in as_completed(jobs):
                on_row(job.result())  # raises what ended the block, if anything did
            return [job.result() for job in jobs]
        except BaseException:
            for job in jobs:
                job.cancel()
            raise

    def close(self) -> None:
        """Gives up what is running, then closes models and environments. What hangs is waited for
        ``deadlines.close`` seconds and left to its daemon thread."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        patience = self.settings.deadlines.close
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._give_up(), self._loop).result(patience)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(patience)
        if not self._thread.is_alive():
            self._loop.close()
        for thread in self._threads:
            thread.end()
        over = threading.Event()
        # There, so that what is being loaded or made at this moment is closed as well.
        self._preparing.end(lambda: self._close_all(over))
        over.wait(patience)

    async def _run(self, spec: EpisodeSpec) -> dict[str, Any]:
        queued = time.perf_counter()
        async with self._slots:
            waited = time.perf_counter() - queued
            asks = spec.then == "student"
            known = not asks or spec.student in self._models
            if not known or (spec.split, spec.task) not in self._tasks:
                await self._preparing.call(lambda: self._prepare(spec))
            while (env := self._envs.take()) is None:  # others may be faster
                await self._preparing.call(self._envs.add)
            thread = self._threads.pop() if self._threads else CallThread("step-ray-env")
            result = await run_episode(
                spec,
                with_faults(env, self.settings.faults, spec.id),
                self._tasks[spec.split, spec.task],
                self._models[spec.student] if asks else None,
                self._teacher if spec.teacher else None,
                self.settings.sampling,
                self.settings.deadlines,
                thread,
                self._beginnings,
            )
            if not result.env_lost:
                self._threads.append(thread)
            fates = self._envs.give_back(env, result.env_lost)
        reason = drop_reason(result.trajectory, self.settings.filter)
        row = to_row(result.trajectory, spec.to_dict(), reason)
        row["phase_seconds"] = {**result.seconds, "queue": waited}
        row["env_fates"] = fates
        row["student"] = result.student.counts()
        row["disturbed"] = result.disturbed
        return row

    def _prepare(self, spec: EpisodeSpec) -> None:
        """Loads the spec's student and lists its split's tasks, which may take minutes, unless it
        is done. Episodes that have theirs go on meanwhile."""
        if spec.then == "student" and spec.student not in self._models:
            if spec.student not in self.settings.students:
                raise ModelError(f"no model folder is known for student {spec.student!r}")
            self._models[spec.student] = self._load(self.settings.students[spec.student])
        key = (spec.split, spec.task)
        if key not in self._tasks:
            env = self._start_env()
            self._tasks |= {(task.split, task.id): task for task in env.tasks(spec.split)}
            self._envs.add(env)
        if key not in self._tasks:
            raise EnvError(
                f"task {spec.task!r} is not in the {spec.split} split of {spec.env}: this machine "
                "has other data than the one that planned the run"
            )

    def _start_env(self) -> TextEnv:
        """A new environment. One that does not start, as a machine may be out of memory or too
        busy for a moment, is tried again; what never starts ends the stage."""
        for _ in range(_STARTS - 1):
            with contextlib.suppress(EnvError):
                return self._make_env()
        return self._make_env()

    def _make_env(self) -> TextEnv:
        name, options, limits = (
            self.settings.env,
            self.settings.env_options,
            self.settings.deadlines,
        )
        if not self.settings.isolated:
            return make_env(name, **options)
        return ProcessEnv(
            name,
            options,
            memory_mb=self.settings.memory_mb,
            start=limits.reset,
            patience=limits.close,
        )

    def _close_all(self, over: threading.Event) -> None:
        for model in self._models.values():
            with contextlib.suppress(Exception):
                close = getattr(model, "close", None)
                if close is not None:
                    close()
        self._envs.close(self.settings.deadlines.close)
        over.set()

    async def _give_up(self) -> None:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
