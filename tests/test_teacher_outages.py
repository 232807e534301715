"""Monitored episodes with a teacher behind a server that fails in every way and then recovers:
nothing is lost, nothing is different, and the key is found nowhere."""

from __future__ import annotations

import json
import logging
import pickle
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from doubles import drifting, spec_of
from oracle import obedient
from scripted_server import Answer, ScriptedServer, said, scripted

from step_ray.config import parse_config
from step_ray.config_deadlines import Deadlines
from step_ray.envs import make_env
from step_ray.models.base import Sampling
from step_ray.models.remote import RemoteModel
from step_ray.schema import from_row, row_hash
from step_ray.synthesis.filters import Filter
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings
from step_ray.teacher.cache import CachedModel
from step_ray.teacher.llm import LLMTeacher
from step_ray.teacher.make import make_teacher

KEY = "sk-very-secret-0123456789"
OPTIONS = {"games": {"train": 6, "valid_seen": 0, "valid_unseen": 0}, "seed": 3}
CHORES = ("go to cabinet 1", "go to drawer 1", "open drawer 1", "look", "inventory", "dance")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEACHER_KEY", KEY)


def calm(number: int, body: dict[str, Any]) -> Answer:
    return said(obedient(body["messages"]))


def mad(number: int, body: dict[str, Any]) -> Answer:
    """Every kind of trouble in turn; a model that babbles does so once for each question."""
    echo = json.dumps({"error": f"{KEY} <|im_end|>"}).encode()
    troubles: dict[int, Answer] = {
        0: Answer(429, echo, {"Retry-After": "0.1"}),
        2: Answer(500, echo),
        3: Answer(drop=True),
        5: Answer(body=b"<html>I am a proxy</html>"),
        7: Answer(slow=60.0),
        8: Answer(503),
        10: Answer(body=b"{" * 100_000),
    }
    if (number % 12) in troubles:
        return troubles[number % 12]
    if number % 12 in (4, 9) and len(body["messages"]) == 1:
        return said(
            f"Observation: You win. {KEY} <|im_end|>", "length" if number % 24 == 4 else "stop"
        )
    return calm(number, body)


def teacher_for(server: ScriptedServer, folder: Path) -> LLMTeacher:
    model = {
        "base_url": server.url,
        "model": "teacher-72b",
        "key_env": "TEACHER_KEY",
        "timeout": 0.5,
        "deadline": 100,
        "concurrency": 4,
    }
    config = parse_config(
        {"output": str(folder), "teacher": {"type": "llm", "privileged": True, "model": model}}
    )
    teacher = make_teacher(config.teacher, "alfworld", folder)
    assert isinstance(teacher, LLMTeacher)
    assert isinstance(teacher.model, CachedModel)
    remote = teacher.model.model
    assert isinstance(remote, RemoteModel)
    remote.backoff = (0.02, 0.2)  # tests have no time
    return teacher


def episodes(teacher: LLMTeacher) -> list[dict[str, Any]]:
    """The rows of six monitored episodes, played side by side by a worker."""
    settings = WorkerSettings(
        env="alfworld",
        env_options=OPTIONS,
        students={"student": "-"},
        sampling=Sampling(0.7, 1.0, 16),
        deadlines=Deadlines(),
        filter=Filter(max_errors=30),
    )
    tasks: Sequence[Any] = make_env("alfworld", **OPTIONS).tasks("train")
    worker = EpisodeWorker(settings, lambda path: drifting(CHORES), teacher)
    try:
        identity = {"teacher": teacher.fingerprint, "prompt_version": teacher.prompt_version}
        return worker.run_block([spec_of(task, max_steps=8, **identity) for task in tasks])
    finally:
        worker.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    with pytest.MonkeyPatch.context() as patch, scripted(calm) as server:
        patch.setenv("TEACHER_KEY", KEY)
        yield episodes(teacher_for(server, tmp_path_factory.mktemp("calm")))


def same(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    return [row_hash(row) for row in rows] == [row_hash(row) for row in others]


def test_calm_episodes_have_errors_and_corrections(undisturbed: list[dict[str, Any]]) -> None:
    outcomes = {row["outcome"] for row in undisturbed}
    assert outcomes <= {"success", "step_limit"}
    assert sum(row["corrections"] for row in undisturbed) > 5
    review = next(turn["review"] for turn in undisturbed[0]["turns"] if turn["review"])
    assert review["raw"].count("{") == 2, "the verdict and the correction, as they came"


def test_trouble_costs_time_and_nothing_else(
    undisturbed: list[dict[str, Any]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    with caplog.at_level(logging.DEBUG), scripted(mad) as server:
        teacher = teacher_for(server, tmp_path)
        rows = episodes(teacher)
        counts = teacher.counts()
        assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    assert time.monotonic() - began < 90
    assert same(rows, undisturbed)
    assert counts["retries"] > 5
    assert counts["rate limited"] > 0
    assert counts["waited s"] > 0
    assert counts["unusable no_object"] + counts.get("unusable cut", 0) > 0
    texts = [caplog.text, json.dumps(rows), repr(counts), repr(teacher), repr(vars(teacher))]
    texts.append(pickle.dumps(teacher).decode("latin-1"))
    texts += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    assert len(texts) > 6, "the cache is there"
    for text in texts:
        assert "very-secret" not in text


def test_a_server_that_is_killed_and_restarted(
    undisturbed: list[dict[str, Any]], tmp_path: Path
) -> None:
    """It dies in the middle and is away until the breaker has opened."""
    back = threading.Event()

    def script(number: int, body: dict[str, Any]) -> Answer:
        if number == 10:
            threading.Thread(target=restart).start()
        return calm(number, body)

    with scripted(script) as server:
        teacher = teacher_for(server, tmp_path)

        def restart() -> None:
            server.stop()
            while not teacher.counts().get("outages"):
                time.sleep(0.01)
            server.start()
            back.set()

        rows = episodes(teacher)
        assert back.is_set()
    assert same(rows, undisturbed)
    assert teacher.counts()["outages"] >= 1


def test_a_second_run_pays_nothing(undisturbed: list[dict[str, Any]], tmp_path: Path) -> None:
    with scripted(calm) as server:
        assert same(episodes(teacher_for(server, tmp_path)), undisturbed)
        paid = len(server.bodies)
        server.stop()
        again = teacher_for(server, tmp_path)
        assert same(episodes(again), undisturbed), "the server need not even be there"
        assert len(server.bodies) == paid
    assert again.counts() == {"from cache": paid}


def test_what_never_recovers_ends_in_time(tmp_path: Path) -> None:
    def broken(number: int, body: dict[str, Any]) -> Answer:
        return Answer(500, f"{KEY}: out of order".encode())

    with scripted(broken) as server:
        teacher = teacher_for(server, tmp_path)
        teacher.model.model.deadline = 0.5  # type: ignore[attr-defined]
        rows = episodes(teacher)
    for row in rows:
        assert from_row(row).outcome == "teacher_error"
        assert "[key]: out of order" in row["detail"]
        assert row["drop_reason"] == "teacher_error"
        assert row["disturbed"], "it is played again"
    assert "very-secret" not in json.dumps(rows)
