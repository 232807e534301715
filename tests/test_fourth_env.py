"""An environment in one file is all that synthesis, the teacher and golden play need."""

from __future__ import annotations

import asyncio

import pytest
from doubles import assert_replays, saying, spec_of
from fourth_env import RECIPES, SOURCES, Crafting

from step_ray.config_deadlines import Deadlines
from step_ray.envs import make_env
from step_ray.envs.base import EnvError, Task
from step_ray.models.base import Sampling
from step_ray.synthesis.episode import EpisodeResult, run_episode
from step_ray.synthesis.golden import golden_episode
from step_ray.teacher.expert import ExpertTeacher

NAME = "fourth_env:Crafting"


def monitored(task: Task, *actions: str, spare: int = 2) -> EpisodeResult:
    env = make_env(NAME, spare=spare)
    spec, student = spec_of(task), saying(*actions)
    teacher, sampling = ExpertTeacher(), Sampling(0.7, 1.0, 16)
    return asyncio.run(run_episode(spec, env, task, student, teacher, sampling, Deadlines()))


def task_of(kind: str, split: str = "train") -> Task:
    return next(task for task in Crafting().tasks(split) if task.type == kind)


@pytest.mark.parametrize("split", Crafting.splits)
def test_golden_play(split: str) -> None:
    env = make_env(NAME)
    for task in env.tasks(split):
        made = golden_episode(spec_of(task, teacher="", student=""), env, task)
        assert (made.outcome, made.reward) == ("success", 1.0)
        assert_replays(made, make_env(NAME), task)


def test_a_monitored_episode() -> None:
    """A student that gathers for ever: the teacher stops it whenever that is of no use."""
    task = task_of("raft")
    made = monitored(task, "gather").trajectory
    assert made.success
    assert {turn.verdict for turn in made.turns} == {"correct", "error", "correction"}
    assert {turn.review.kind for turn in made.turns if turn.review} == {"invalid", "wrong_object"}
    assert made.provenance.env_build == "crafting-1"
    assert_replays(made, make_env(NAME), task)


def test_what_would_spoil_the_task_is_vetoed() -> None:
    """There is nothing to spare, so a plank made into a torch is missing for the bridge."""
    task = task_of("bridge", "test")
    env = make_env(NAME, spare=0)
    golden = golden_episode(spec_of(task, teacher="", student=""), env, task).executed_actions
    begun = golden[: golden.index("make plank") + 1]
    made = monitored(task, *begun, "make torch", spare=0).trajectory
    assert made.success
    done = [turn.action for turn in made.turns if turn.executed and turn.valid]
    assert done == golden, "the teacher says what the expert does"
    vetoed = [turn for turn in made.turns if not turn.executed]
    assert vetoed
    assert {(turn.action, turn.verdict) for turn in vetoed} == {("make torch", "error")}
    env.reset(task)
    for action in [*begun, "make torch"]:
        end = env.step(action)
    assert (end.observation, end.reward, end.terminated) == ("What is left is not enough.", 0, True)


def test_its_recipes_need_what_its_places_have() -> None:
    for parts in RECIPES.values():
        assert set(parts) <= {*RECIPES, *SOURCES.values()}


def test_it_refuses_what_it_does_not_have() -> None:
    with pytest.raises(EnvError, match="no data"):
        make_env(NAME, "somewhere")
    with pytest.raises(EnvError, match="wood"):
        make_env(NAME, wood=3)
    with pytest.raises(EnvError, match="no task 'castle'"):
        make_env(NAME).reset(Task("castle", "crafting", "train", "castle"))
