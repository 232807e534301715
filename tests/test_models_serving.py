"""Teachers behind Ray Serve: any teacher, its errors, its counts, and replicas that die."""

from __future__ import annotations

import asyncio
import functools
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from oracle import obedient
from scripted_server import Answer, said, scripted

from step_ray.config import parse_config
from step_ray.envs.base import Judgement
from step_ray.models.applications import withdraw
from step_ray.models.served import app_of
from step_ray.models.serving import TEACHER, start_teacher
from step_ray.teacher.base import Hint, ReviewRequest, Teacher, TeacherError
from step_ray.teacher.expert import ExpertTeacher
from step_ray.teacher.make import make_teacher
from step_ray.trajectory import Review

pytestmark = pytest.mark.ray

HINT = Hint(Judgement(True, "loop", (("why", "nothing moves"),)), "I go.", "right")
REQUEST = ReviewRequest("Leave.", "Room 0.", (), "I wait.", "wait", HINT, "e:0")


@pytest.fixture(scope="module", autouse=True)
def served(ray_cluster: None) -> Iterator[None]:
    from ray import serve

    yield
    serve.shutdown()


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    yield
    withdraw(TEACHER)


def llm(url: str, folder: Path, deadline: float = 60) -> Callable[[], Teacher]:
    model = {"base_url": url, "model": "m", "deadline": deadline}
    teacher = {"type": "llm", "privileged": True, "show_admissible": True, "model": model}
    config = parse_config({"output": str(folder), "teacher": teacher})
    return functools.partial(make_teacher, config.teacher, "corridor", folder)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.05)


def test_the_expert() -> None:
    handle = start_teacher(1)
    assert (handle.fingerprint, handle.prompt_version, handle.show_admissible) == (
        "expert",
        "1",
        False,
    )
    assert asyncio.run(handle.review(REQUEST)) == asyncio.run(ExpertTeacher().review(REQUEST))
    assert handle.counts() == {}
    with pytest.raises(TeacherError, match=r"^the expert teacher needs"):
        asyncio.run(handle.review(ReviewRequest("", "", (), "", "", None, "k")))


def test_runs_on_one_cluster_have_teachers_of_their_own(tmp_path: Path) -> None:
    class Other(ExpertTeacher):  # in here, so that it travels to its replica by value
        def __init__(self) -> None:
            super().__init__()
            self.fingerprint = "other"

    mine, theirs = app_of(tmp_path / "mine", "teacher"), app_of(tmp_path / "theirs", "teacher")
    assert app_of(tmp_path / "x" / ".." / "mine", "teacher") == mine != theirs
    handle = start_teacher(1, name=mine)
    try:
        assert start_teacher(1, make=Other, name=theirs).fingerprint == "other"
        assert asyncio.run(handle.review(REQUEST)).is_error
        withdraw(theirs)
        assert asyncio.run(handle.review(REQUEST)).is_error
    finally:
        withdraw(mine)
        withdraw(theirs)


def test_a_language_model(tmp_path: Path) -> None:
    def script(number: int, body: dict[str, Any]) -> Answer:
        content = body["messages"][0]["content"]
        if "=== The question ===" not in content:
            return said("Word.")
        return Answer(500) if number in (1, 2) else said(obedient(body["messages"]))

    with scripted(script) as server:
        make = llm(server.url, tmp_path)
        handle = pickle.loads(pickle.dumps(start_teacher(1, make=make)))
        assert handle.fingerprint == make().fingerprint
        assert handle.prompt_version == make().prompt_version
        assert handle.show_admissible
        assert len(server.bodies) == 1, "it has answered a question before it counts as ready"
        review = asyncio.run(handle.review(REQUEST))
        assert (review.kind, review.action) == ("loop", "right")
        asyncio.run(asyncio.wait_for(until(lambda: handle.counts().get("asked") == 3), 60))
        assert handle.counts()["retries"] == 2
        asyncio.run(handle.review(replace(REQUEST, action="look", executed=False)))
        withdraw(TEACHER)
        assert handle.counts()["asked"] == len(server.bodies) - 2, "what is final is complete"


def test_a_model_that_does_not_answer_is_told_at_once(tmp_path: Path) -> None:
    with (
        scripted(lambda number, body: Answer(404, b"no such model")) as server,
        pytest.raises(TeacherError, match=r"m at http.*404: no such model"),
    ):
        start_teacher(1, make=llm(server.url, tmp_path))


def mortal(mark: Path) -> Callable[[], Teacher]:
    """Of a teacher that kills its own process at the first review that any replica gets."""

    class Mortal:  # in here, as replicas do not know this file
        fingerprint, prompt_version = "mortal", "1"

        async def review(self, request: ReviewRequest) -> Review:
            if not mark.exists():
                mark.write_text("")
                os.kill(os.getpid(), signal.SIGKILL)
            return Review(True, action="right")

        def counts(self) -> dict[str, float]:
            return {}

    return Mortal


@pytest.mark.slow
def test_a_replica_that_dies_loses_no_request(tmp_path: Path) -> None:
    handle = start_teacher(1, make=mortal(tmp_path / "mark"))
    assert asyncio.run(handle.review(REQUEST)).action == "right"
    assert (tmp_path / "mark").exists()
