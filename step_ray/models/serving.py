"""Ray Serve applications. In the cluster they are called by handle, never by HTTP."""

from __future__ import annotations

from typing import Any, cast

import ray
from ray import serve

from step_ray.teacher.base import ReviewRequest, Teacher, TeacherError
from step_ray.teacher.expert import ExpertTeacher
from step_ray.trajectory import Review

TEACHER = "step-ray-teacher"


@serve.deployment(max_ongoing_requests=256)
class ExpertTeacherDeployment:
    """The teacher made of the environment's own expert."""

    def __init__(self) -> None:
        self._teacher = ExpertTeacher()

    async def review(self, request: ReviewRequest) -> Review:
        return await self._teacher.review(request)

    async def identity(self) -> tuple[str, str]:
        """(fingerprint, prompt version)."""
        return self._teacher.fingerprint, self._teacher.prompt_version


class TeacherHandle:
    """A :class:`Teacher` that is asked through its Serve deployment; picklable by name."""

    def __init__(self, app: str, fingerprint: str, prompt_version: str) -> None:
        self.app = app
        self.fingerprint = fingerprint
        self.prompt_version = prompt_version
        self._handle: Any = None

    async def review(self, request: ReviewRequest) -> Review:
        """Asks the deployment; an error of the teacher stays a TeacherError."""
        if self._handle is None:
            self._handle = serve.get_app_handle(self.app)
        try:
            review: Review = await self._handle.review.remote(request)
        except ray.exceptions.RayError as failed:
            raise TeacherError(f"teacher {self.app}: {failed}") from failed
        return review

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


def start_teacher(replicas: int, cpus: float = 0.1) -> TeacherHandle:
    """Deploys the expert teacher on the running cluster and asks it one real question.

    Raises RuntimeError if the deployment does not become healthy.
    """
    deployment = cast(Any, ExpertTeacherDeployment).options(
        num_replicas=replicas, ray_actor_options={"num_cpus": cpus}
    )
    handle = serve.run(deployment.bind(), name=TEACHER, route_prefix=None)
    fingerprint, prompt_version = handle.identity.remote().result(timeout_s=60)
    return TeacherHandle(TEACHER, fingerprint, prompt_version)


def stop_teacher() -> None:
    """Takes the teacher off the cluster."""
    serve.delete(TEACHER)


def _is_teacher(handle: TeacherHandle) -> Teacher:  # a check of the type checker, nothing more
    return handle
