"""Every environment keeps the contract, and the check of it notices every kind of breach."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from fourth_env import Crafting

from step_ray.envs import ENVIRONMENTS, make_env
from step_ray.envs.base import EnvError, Judgement, Observation, StepResult, Task
from step_ray.envs.contract import ContractError, check_contract
from step_ray.trajectory import Turn

GAMES = {"train": 12, "valid_seen": 0, "valid_unseen": 0}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEP_RAY_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


# name -> (options, amount). ScienceWorld plays all actions again to fork, so little is played.
BUILT_IN: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "alfworld": ({"games": GAMES}, {"tasks": 6, "steps": 20}),
    "scienceworld": (
        {"types": ["lifespan-longest-lived"], "variations": 1},
        {"tasks": 1, "steps": 2},
    ),
    "webshop": ({}, {"tasks": 4, "steps": 12}),
}
WIDELY: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "alfworld": ({"games": dict.fromkeys(GAMES, 60)}, {"tasks": 60, "steps": 25}),
    "scienceworld": (
        {"types": ["find-plant"], "variations": 1},
        {"tasks": 1, "steps": 4},
    ),
    "webshop": ({"mode": "text_rich"}, {"tasks": 30, "steps": 12}),
}


def test_all_are_checked() -> None:
    assert set(BUILT_IN) == set(WIDELY) == set(ENVIRONMENTS)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in(name: str) -> None:
    options, amount = BUILT_IN[name]
    check_contract(lambda: make_env(name, **options), **amount)


@pytest.mark.slow
@pytest.mark.parametrize("name", WIDELY)
def test_built_in_widely(name: str) -> None:
    options, amount = WIDELY[name]
    for split in getattr(make_env(name, **options), "splits", ()):
        check_contract(lambda: make_env(name, **options), split, **amount)


def test_the_fourth_environment() -> None:
    for split in Crafting.splits:
        check_contract(Crafting, split, tasks=6, steps=20)


# -- breaches --------------------------------------------------------------------------------------

Breach = Callable[..., Any]


def broken(**methods: Breach) -> Callable[[], Crafting]:
    return type("Broken", (Crafting,), methods)


def result(**changes: Any) -> Breach:
    """A step whose answer is another."""

    def step(self: Crafting, action: str) -> StepResult:
        return dataclasses.replace(Crafting.step(self, action), **changes)

    return step


def judged(judgement: Judgement) -> Breach:
    """A judge with one judgement for everything."""

    def judge(self: Crafting, action: str) -> Judgement:
        self._check_playing()
        return judgement

    return judge


def stumbling(self: Crafting, action: str) -> StepResult:
    action.encode()  # fails for half of a surrogate pair
    return Crafting.step(self, action)


def wearing_off(self: Crafting, action: str) -> StepResult:
    """An unknown action costs material."""
    if action not in self.admissible():
        self._supply -= {"log": 1, "grass": 1, "stone": 1}
    return Crafting.step(self, action)


def going_on(self: Crafting, action: str) -> StepResult:
    answer = Crafting.step(self, action)
    return dataclasses.replace(answer, terminated=answer.valid and answer.terminated)


def shared(self: Crafting) -> Crafting:
    child = Crafting.fork(self)
    child._bag, child._supply = self._bag, self._supply
    return child


def elsewhere(self: Crafting) -> Crafting:
    child = Crafting.fork(self)
    child._place = "hut"
    return child


def spoiling(self: Crafting, action: str) -> Judgement:
    found = Crafting.judge(self, action)
    self._place = "hut"
    return found


def forgetful_reset(self: Crafting, task: Task, seed: int = 0) -> Observation:
    kept = getattr(self, "_bag", None)
    first = Crafting.reset(self, task, seed)
    self._bag = kept or self._bag
    return first


def numbered_reset(self: Crafting, task: Task, seed: int = 0) -> Observation:
    first = Crafting.reset(self, task, seed)
    return Observation(first.instruction, f"{id(self)} {first.text}")


def any_split(self: Crafting, split: str) -> list[Task]:
    self._check_open()
    if split not in Crafting.splits:
        raise EnvError("unknown split")
    return [Task("axe-1", self.name, split, "axe")]


def growing(self: Crafting, split: str) -> list[Task]:
    self.__dict__["asked"] = self.__dict__.get("asked", 0) + 1
    return list(Crafting.tasks(self, split))[self.__dict__["asked"] % 2 :]


def lazy(self: Crafting) -> Turn:
    self.admissible()
    place = "hut" if self._place != "hut" else "forest"
    return Turn("I walk about.", f"go to {place}", author="expert")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (broken(name=""), "its name is ''"),
        (broken(tasks=lambda self, split: []), r"tasks\(\) of an unknown split raises no EnvError"),
        (broken(splits=("dev",), tasks=any_split), "'train' is a split, but splits = "),
        (broken(tasks=growing), "another list the second time"),
        (broken(_check_playing=lambda self: None), r"step\(\) before the first reset raises"),
        (broken(step=result(reward=1.5)), r"the reward 1.5 is not in \[0, 1\]"),
        (broken(step=result(reward=1)), "the reward is no float"),
        (broken(step=result(truncated=0)), "a flag is no bool"),
        (broken(step=result(valid=False)), "is admissible, but not valid"),
        (broken(step=result(valid=True)), "is said to be valid"),
        (broken(step=stumbling), "raises UnicodeEncodeError"),
        (broken(step=wearing_off), "is not valid, but changes the world|odd texts change"),
        (broken(step=going_on), "ends the episode, but it goes on"),
        (broken(admissible=lambda self: Crafting.admissible(self)[::-1]), "is not sorted"),
        (broken(fork=shared), "(judging|a step of a fork) changes|in another state"),
        (broken(fork=elsewhere), "another result in a fork|admissible, but not valid"),
        (broken(judge=spoiling), "judging changes the state"),
        (broken(judge=judged(Judgement(False))), "does nothing, but is judged right"),
        (broken(judge=judged(Judgement(True, "x"))), "the expert's own .* is judged"),
        (broken(judge=judged(Judgement(False, "", (), True))), "judged right, and"),
        (broken(reset=forgetful_reset), "reset after anything is not reset"),
        (broken(reset=numbered_reset), "another instance plays otherwise"),
        (broken(expert=lazy), "the expert('s own| has not won)"),
        (broken(close=lambda self: None), r"reset\(\) after close\(\) raises no EnvError"),
    ],
)
def test_a_breach_is_noticed(make: Callable[[], Crafting], says: str) -> None:
    with pytest.raises(ContractError, match=says):
        check_contract(make, tasks=4)  # type: ignore[arg-type]
