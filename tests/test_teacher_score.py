"""A teacher against the expert, on turns that a student really took."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from doubles import Corridor, Critic, drifting, saying, spec_of
from oracle import Chat, obedient
from scripted_server import said, scripted
from typer.testing import CliRunner

from step_ray import store
from step_ray.cli import app
from step_ray.config import parse_config
from step_ray.config_deadlines import Deadlines
from step_ray.envs.alfworld.env import ALFWorldEnv
from step_ray.envs.base import EnvError, Task
from step_ray.models.base import Sampling
from step_ray.recipes.world import open_world
from step_ray.schema import to_row
from step_ray.synthesis.episode import run_episode
from step_ray.teacher.base import ReviewRequest, TeacherError
from step_ray.teacher.expert import ExpertTeacher
from step_ray.teacher.score import as_text, score, summary
from step_ray.trajectory import Review, Trajectory

TASK = Task("corridor-0", "corridor", "train", "leave")


def played(env: Any, student: Any, task: Task = TASK, **settings: Any) -> Trajectory:
    spec = spec_of(task, **settings)
    done = run_episode(spec, env, task, student, ExpertTeacher(), Sampling(), Deadlines())
    return asyncio.run(done).trajectory


def corridor(*actions: str) -> Trajectory:
    return played(Corridor(), saying(*actions))


def scored(
    judge: Callable[[ReviewRequest], Review], *made: Trajectory, **options: Any
) -> dict[str, Any]:
    return summary(asyncio.run(score(made, Corridor, Critic(judge), **options)))


# right, left (error), right (corrected), wait (error), right (corrected), right
EPISODE = ("right", "left", "wait", "right")


def test_the_expert_agrees_with_itself() -> None:
    found = asyncio.run(score([corridor(*EPISODE)] * 3, Corridor, ExpertTeacher(), at_once=2))
    result = summary(found)
    assert (result["turns"], result["no_review"], result["corrections"]) == (12, 0, 6)
    for name in ("precision", "recall", "accuracy", "agreement", "valid", "progress"):
        assert result[name] == 1.0
    assert result["recall_by_kind"] == {
        "loop": {"errors": 3, "recall": 1.0},
        "undo": {"errors": 3, "recall": 1.0},
    }


def test_who_finds_nothing_and_who_finds_everything() -> None:
    blind = scored(lambda request: Review(False), corridor(*EPISODE))
    assert (blind["precision"], blind["recall"], blind["accuracy"]) == (None, 0.0, 0.5)
    assert blind["valid"] is blind["agreement"] is None
    harsh = scored(lambda request: Review(True, action="wait"), corridor(*EPISODE))
    assert (harsh["precision"], harsh["recall"]) == (0.5, 1.0)
    assert (harsh["valid"], harsh["progress"], harsh["agreement"]) == (1.0, 0.0, 0.0)
    assert "50.0 %" in as_text(harsh)
    assert re.search(r"precision +- ", as_text(blind))


def test_what_becomes_of_corrections() -> None:
    actions = {"left": "Right", "wait": "fly"}

    def judge(request: ReviewRequest) -> Review:
        found = actions.get(request.action)
        return Review(found is not None, action=found or "")

    result = scored(judge, corridor(*EPISODE))
    assert (result["corrections"], result["agreement"]) == (2, 0.5)
    assert result["valid"] == result["progress"] == 0.0, "names are exact in a corridor"


def test_a_teacher_is_asked_as_in_the_episode() -> None:
    made = corridor(*EPISODE)
    asked: list[ReviewRequest] = []

    def judge(request: ReviewRequest) -> Review:
        asked.append(request)
        if request.action == "wait":
            raise TeacherError("no idea")
        return Review(False)

    critic = Critic(judge)
    critic.show_admissible = True  # type: ignore[attr-defined]
    result = summary(asyncio.run(score([made], Corridor, critic)))
    assert (result["turns"], result["no_review"]) == (4, 1)
    assert [len(request.turns) for request in asked] == [0, 1, 3, 5]
    assert asked[1].turns == made.turns[:1]
    assert asked[1].admissible == ("jump", "leap", "left", "peek", "right", "wait")
    assert (asked[2].instruction, asked[2].executed) == ("Leave.", False)


def test_an_episode_of_another_world_is_refused() -> None:
    made = corridor(*EPISODE)
    turns = (replace(made.turns[0], observation="Fog."), *made.turns[1:])
    for other, problem in (
        (replace(made, turns=turns), "turn 1: 'right' has another result"),
        (replace(made, initial_observation="Fog."), "begins differently"),
    ):
        with pytest.raises(EnvError, match=problem):
            scored(lambda request: Review(False), other)


# --- the command, on the folder of a run


CHORES = ("go to cabinet 1", "go to drawer 1", "open drawer 1", "look", "inventory", "dance")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As much of a run as is needed: its config, and monitored episodes."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "run"
    raw = {"output": str(folder), "env": {"games": {"train": 4}, "max_steps": 6}}
    config = parse_config(raw)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.resolved()))
    world = open_world(config)
    env, rows = world.make(), []
    assert isinstance(env, ALFWorldEnv)
    for task in world.train:
        spec = spec_of(task, max_steps=6)
        rows.append(to_row(played(env, drifting(CHORES), task, max_steps=6), spec.to_dict()))
    store.publish(folder / "reflected", rows)
    return folder


def command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["teacher-score", *map(str, arguments)])
    return result.exit_code, result.output


def test_the_command_with_the_expert(run: Path) -> None:
    code, output = command(run)
    assert code == 0, output
    assert re.search(r"precision +100\.0 %", output)
    (file,) = (run / "teacher-scores").iterdir()
    found = json.loads(file.read_text())
    assert (found["teacher"], found["episodes"], found["recall"]) == ("expert", 4, 1.0)


def test_the_command_with_a_language_model(run: Path) -> None:
    """Behind a server; the second time the cache answers."""

    def script(number: int, body: dict[str, Any]) -> Any:
        chat: Chat = body["messages"]
        return said(obedient(chat))

    settings = ["--set", "teacher.type=llm", "--set", "teacher.privileged=true"]
    settings += [
        "--set",
        "teacher.model.model=m",
        "--set",
        "teacher.model.price={prompt: 1, completion: 1}",
    ]
    with scripted(script) as server:
        settings += ["--set", f"teacher.model.base_url={server.url}"]
        found = []
        for _ in range(2):
            code, output = command(run, *settings, "--json", "--episodes", 3)
            assert code == 0, output
            found.append(json.loads(output.splitlines()[-1]))
        asked = len(server.bodies)
    first, second = found
    assert (first["precision"], first["recall"], first["agreement"]) == (1.0, 1.0, 1.0)
    assert first["episodes"] == 3
    assert first["counts"]["asked"] == second["counts"]["from cache"] == asked
    assert first["counts"]["cost"] == pytest.approx(asked * 110 / 1e6, abs=1e-4)
    assert {k: v for k, v in first.items() if k != "counts"} == {
        k: v for k, v in second.items() if k != "counts"
    }


def test_the_command_says_what_is_wrong(run: Path, tmp_path: Path) -> None:
    for arguments, problem in (
        ([tmp_path / "none"], "no config.json"),
        ([run, "--stage", "golden"], "no dataset"),
        ([run, "--set", "teacher.type=llm"], "teacher.model: missing"),
    ):
        code, output = command(*arguments)
        assert code == 2
        assert problem in output
