"""Ray Serve applications: the teacher that reviews, by handle, and the models of a config for
people outside (:func:`teacher`, :func:`student`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, cast

import ray
from ray import serve

from step_ray.config import ConfigError, RunConfig, load_config, parse_config
from step_ray.config_text import apply_overrides
from step_ray.models.applications import start, withdraw
from step_ray.models.front import application
from step_ray.models.nearby import beside_driver
from step_ray.patience import PATIENT, Patience
from step_ray.teacher.base import ReviewRequest, Teacher, TeacherError, TeacherUnavailable
from step_ray.teacher.expert import ExpertTeacher
from step_ray.trajectory import Review

TEACHER = "step-ray-teacher"
# Seconds before a request is sent again when its replica has died; while there is no replica at
# all it waits in Serve's queue.
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
_REPORT_EVERY = 1.0  # seconds between two reports of a replica's counts


@ray.remote(num_cpus=0)
class Counts:
    """The last counts of every replica, for the line of progress."""

    def __init__(self) -> None:
        self._counts: dict[str, dict[str, float]] = {}

    def put(self, replica: str, counts: Mapping[str, float]) -> None:
        self._counts[replica] = dict(counts)

    def total(self) -> dict[str, float]:
        total: Counter[str] = Counter()
        for counts in self._counts.values():
            total.update(counts)
        return dict(total)


@serve.deployment(max_ongoing_requests=256)
class TeacherDeployment:
    """A replica that holds one teacher, made where it runs."""

    def __init__(self, make: Callable[[], Teacher], counts: Any = None) -> None:
        self._teacher = make()
        self._counts: Any = counts if hasattr(self._teacher, "counts") else None
        self._name = secrets.token_hex(8)
        self._last: dict[str, float] = {}
        self._reporting: asyncio.Task[None] | None = None

    async def review(self, request: ReviewRequest) -> Review:
        if self._counts is not None and self._reporting is None:  # there is a loop by now
            self._reporting = asyncio.create_task(self._report())
        return await self._teacher.review(request)

    async def identity(self) -> tuple[str, str, bool]:
        """(fingerprint, prompt version, whether it wants to see possible actions), from a teacher
        that has answered a question if it is a language model."""
        check = getattr(self._teacher, "check", None)
        if check is not None:
            await check()
        shows = bool(getattr(self._teacher, "show_admissible", False))
        return self._teacher.fingerprint, self._teacher.prompt_version, shows

    async def _report(self) -> None:
        """Also while requests wait for a server that is away: that is when people look."""
        while True:
            self._put_counts()
            await asyncio.sleep(_REPORT_EVERY)

    def _put_counts(self) -> None:
        counts = dict(cast(Any, self._teacher).counts())
        if counts != self._last:
            self._counts.put.remote(self._name, counts)
            self._last = counts

    def __del__(self) -> None:  # what Serve calls when a replica is over
        if getattr(self, "_counts", None) is not None:
            self._put_counts()


class TeacherHandle:
    """A :class:`Teacher` that is asked through its Serve deployment; picklable by name."""

    def __init__(
        self,
        app: str,
        fingerprint: str,
        prompt_version: str,
        show_admissible: bool = False,
        counts: Any = None,
    ) -> None:
        self.app = app
        self.fingerprint = fingerprint
        self.prompt_version = prompt_version
        self.show_admissible = show_admissible
        self._counts = counts
        self._handle: Any = None

    async def review(self, request: ReviewRequest) -> Review:
        """Asks the deployment; an error of the teacher stays a TeacherError. A request whose
        replica dies goes to another one."""
        for wait in _WAITS:
            with contextlib.suppress(ray.exceptions.RayActorError):
                return await self._review(request)
            await asyncio.sleep(wait)
        try:
            return await self._review(request)
        except ray.exceptions.RayActorError as died:
            raise TeacherUnavailable(f"teacher {self.app}: {died}") from died

    async def _review(self, request: ReviewRequest) -> Review:
        """Asks once; RayActorError if the replica died."""
        if self._handle is None:
            self._handle = serve.get_app_handle(self.app)
        try:
            review: Review = await self._handle.review.remote(request)
        except ray.exceptions.RayTaskError as failed:
            if isinstance(failed.cause, TeacherError):
                raise type(failed.cause)(str(failed.cause)) from None
            raise TeacherUnavailable(f"teacher {self.app}: {failed}") from failed
        except ray.exceptions.RayActorError:
            raise
        except (ray.exceptions.RayError, serve.exceptions.RayServeException) as failed:
            raise TeacherUnavailable(f"teacher {self.app}: {failed}") from failed
        return review

    def counts(self) -> dict[str, float]:
        """What all replicas have to say for a line of progress, a second old at most; after
        it is withdrawn the final sums."""
        if self._counts is None:
            return {}
        return dict(ray.get(self._counts.total.remote()))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


def start_teacher(
    replicas: int,
    cpus: float = 0.1,
    make: Callable[[], Teacher] = ExpertTeacher,
    name: str = TEACHER,
    patience: Patience = PATIENT,
) -> TeacherHandle:
    """Deploys a teacher on the running cluster as the application ``name`` and asks it one real
    question.

    ``make`` is called in every replica; what the teacher needs of the environment, such as a key,
    has to be there. Raises ModelError if the cluster has no room for it, RuntimeError if the
    deployment does not become healthy, TeacherError if the teacher's model does not answer.
    """
    near = cast(Any, Counts).options(scheduling_strategy=beside_driver())
    counts = None if make is ExpertTeacher else near.remote()
    deployment = cast(Any, TeacherDeployment).options(
        num_replicas=replicas, ray_actor_options={"num_cpus": cpus}
    )
    handle = start(deployment.bind(make, counts), name, patience)
    try:
        fingerprint, prompt_version, shows = handle.identity.remote().result()
    except ray.exceptions.RayTaskError as failed:
        withdraw(name)
        if isinstance(failed.cause, TeacherError):
            raise TeacherError(str(failed.cause)) from None
        raise
    return TeacherHandle(name, fingerprint, prompt_version, shows, counts)


def teacher(args: dict[str, Any]) -> serve.Application:
    """The language model of a config's teacher, as an application for Serve's own tools.

    ``serve run step_ray.models.serving:teacher config=FILE``, or in a RayService's serveConfigV2 as
    ``import_path`` with ``args``: ``config`` is the path of a YAML file, or all of it; everything
    else overrides one of its fields, such as ``teacher.model.replicas: 2``. Requests have to carry
    the token of ``serve.token_env``, which has to be set where the application runs.
    ``serve.host`` and ``serve.port`` are those of the cluster's Serve. Raises ConfigError or
    ModelError for what cannot be served.
    """
    return application(_config(args), ["teacher"])


def student(args: dict[str, Any]) -> serve.Application:
    """The same with a config's student, and with the adapters of ``serve.adapters``."""
    return application(_config(args), ["student"])


def _config(args: Mapping[str, Any]) -> RunConfig:
    rest = dict(args)
    given = rest.pop("config", None)
    overrides = [f"{field}={_as_text(value)}" for field, value in rest.items()]
    if isinstance(given, str):
        return load_config(given, overrides)
    if not isinstance(given, Mapping):
        raise ConfigError(["config: missing -> add it: the path of a YAML file, or all of it"])
    raw = json.loads(json.dumps(given))
    found = apply_overrides(raw, overrides)
    return parse_config(raw, "config", found)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_teacher(handle: TeacherHandle) -> Teacher:  # a check of the type checker, nothing more
    return handle
