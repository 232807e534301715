"""What becomes of a request to a teacher when its replica dies, without any Ray that runs."""

from __future__ import annotations

import asyncio

import pytest

ray = pytest.importorskip("ray")

from ray.serve._private.common import DeploymentID  # noqa: E402
from ray.serve.exceptions import DeploymentUnavailableError  # noqa: E402

from step_ray.models import serving  # noqa: E402
from step_ray.models.serving import TeacherHandle  # noqa: E402
from step_ray.teacher.base import ReviewRequest, TeacherUnavailable  # noqa: E402
from step_ray.trajectory import Review  # noqa: E402

REQUEST = ReviewRequest("u", "o", (), "t", "a", None, "key")


class Dying:
    """In place of a Serve handle: replicas that die, or are not to be had."""

    def __init__(self, *ends: Exception) -> None:
        self.ends, self.asked = list(ends), 0
        self.review = self

    async def remote(self, request: ReviewRequest) -> Review:
        self.asked += 1
        if self.ends:
            raise self.ends.pop(0)
        return Review(is_error=False)


@pytest.mark.parametrize(
    ("deaths", "asked", "answered"), [(0, 1, True), (2, 3, True), (3, 3, False)]
)
def test_a_request_whose_replica_dies_is_sent_again(
    monkeypatch: pytest.MonkeyPatch, deaths: int, asked: int, answered: bool
) -> None:
    monkeypatch.setattr(serving, "_WAITS", (0.0, 0.0))
    handle = TeacherHandle("app", "fingerprint", "prompts")
    handle._handle = dying = Dying(*(ray.exceptions.ActorDiedError() for _ in range(deaths)))
    if answered:
        assert not asyncio.run(handle.review(REQUEST)).is_error
    else:
        with pytest.raises(TeacherUnavailable, match="teacher app: "):
            asyncio.run(handle.review(REQUEST))
    assert dying.asked == asked


def test_a_deployment_that_is_not_to_be_had_is_a_teachers_error() -> None:
    handle = TeacherHandle("app", "fingerprint", "prompts")
    handle._handle = dying = Dying(DeploymentUnavailableError(DeploymentID("d", "app")))
    with pytest.raises(TeacherUnavailable, match="teacher app: "):
        asyncio.run(handle.review(REQUEST))
    assert dying.asked == 1
