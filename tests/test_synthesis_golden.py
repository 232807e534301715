"""The environment's own expert plays: golden trajectories."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from doubles import Corridor, assert_replays, spec_of, timeless

from step_ray._version import __version__
from step_ray.envs.alfworld.env import ALFWorldEnv
from step_ray.envs.base import EnvError, EnvTimeout, StepResult, Task
from step_ray.recipes.replay import replay
from step_ray.synthesis.filters import Filter, drop_reason
from step_ray.synthesis.golden import golden_episode
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.trajectory import Turn

TASK = Task("corridor-1", "corridor", "train", "leave")


def spec(task: Task = TASK, **settings: int) -> EpisodeSpec:
    return spec_of(task, student="", teacher="", **settings)


class Misled(Corridor):
    """Its expert's way is given."""

    def __init__(self, *way: str) -> None:
        super().__init__()
        self.way = list(way)

    def expert(self) -> Turn | None:
        return Turn("I go.", self.way.pop(0), author="expert") if self.way else None


def test_the_expert_wins() -> None:
    made = golden_episode(spec(seed=2), Corridor(), TASK)
    assert made.executed_actions == ["right"] * 3
    assert [turn.observation for turn in made.turns][-1] == "You are outside."
    assert {(turn.author, turn.verdict, turn.valid) for turn in made.turns} == {
        ("expert", "correct", True)
    }
    assert (made.outcome, made.success, made.reward) == ("success", True, 1.0)
    assert (made.id, made.task, made.env) == (spec(seed=2).id, "corridor-1", "corridor")
    assert (made.split, made.task_type) == ("train", "leave")
    found = made.provenance
    assert (found.env_build, found.data_hash) == ("corridor-1", "length 3")
    assert (found.student, found.teacher, found.seed) == ("", "", 2)
    assert found.code_version == __version__
    assert_replays(made, Corridor(), TASK)
    assert timeless(golden_episode(spec(seed=2), Corridor(), TASK)) == timeless(made)
    assert drop_reason(made, Filter(keep_clean=True)) == ""


def test_the_turn_budget() -> None:
    made = golden_episode(spec(max_steps=2), Corridor(), TASK)
    assert (len(made.turns), made.outcome, made.success) == (2, "step_limit", False)
    assert golden_episode(spec(max_steps=3), Corridor(), TASK).success


def test_an_expert_at_a_loss() -> None:
    made = golden_episode(spec(), Misled("right"), TASK)
    assert (made.executed_actions, made.outcome, made.success) == (["right"], "failure", False)
    assert "expert" in made.detail


def test_a_bad_end() -> None:
    made = golden_episode(spec(), Misled("right", "peek", "right"), TASK)
    assert made.executed_actions == ["right", "peek"]
    assert (made.outcome, made.success, made.reward) == ("failure", False, 0.5)


def test_an_expert_that_errs_is_a_defect() -> None:
    made = golden_episode(spec(), Misled("right", "fly"), TASK)
    assert (made.executed_actions, made.outcome, made.success) == (["right"], "env_error", False)
    assert "'fly'" in made.detail
    assert drop_reason(made, Filter(keep_clean=True)) == "env_error"


def test_a_task_that_cannot_be_played() -> None:
    env = Corridor()
    env.close()
    made = golden_episode(spec(), env, TASK)
    assert (made.turns, made.outcome, made.initial_observation) == ((), "env_error", "")
    assert "closed" in made.detail
    assert list(replay(made, Corridor())) == []


class Stuck(Corridor):
    """Answers too late."""

    def step(self, action: str) -> StepResult:
        raise EnvTimeout("no answer in 1 s")


def test_an_engine_that_does_not_answer() -> None:
    made = golden_episode(spec(), Stuck(), TASK)
    assert (made.turns, made.outcome, made.detail) == ((), "env_timeout", "no answer in 1 s")


@pytest.fixture
def alfworld(tmp_path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ALFWorldEnv]:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path))
    env = ALFWorldEnv(games={"train": 6, "valid_seen": 0, "valid_unseen": 0})
    try:
        env.tasks("train")
    except EnvError as error:
        pytest.skip(str(error))
    yield env
    env.close()


def test_the_expert_wins_real_games(alfworld: ALFWorldEnv) -> None:
    for task in alfworld.tasks("train"):
        made = golden_episode(spec(task), alfworld, task)
        assert made.success
        assert all(turn.thought for turn in made.turns)
        assert made.provenance.dialect in ("put", "move")
        assert_replays(made, alfworld, task)
