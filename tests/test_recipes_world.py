"""A run's world: its tasks, and environments that cannot take the driver along."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from alfworld_play import older
from doubles import Corridor
from hypothesis import given
from hypothesis import strategies as st
from rough_env import NAME

from step_ray.config import parse_config
from step_ray.envs.alfworld.generate import SCENES, generate_game, goals_of
from step_ray.envs.base import EnvError, EnvTimeout, Task
from step_ray.recipes.plan import plan
from step_ray.recipes.world import World, open_world


@pytest.mark.parametrize("isolated", [None, False])
def test_an_engine_of_somebodys_own_may_hang(tmp_path: Path, isolated: bool | None) -> None:
    raw = {
        "output": str(tmp_path / "run"),
        "env": {"name": NAME, "isolated": isolated},
        "evaluation": {"splits": ["train"]},
        "synthesis": {"deadlines": {"reset": 5, "step": 2}},
    }
    world = open_world(parse_config(raw))
    assert len(world.train) == 4
    env = world.make()
    env.reset(world.train[0])
    assert env.step("right").valid
    if isolated is None:
        with pytest.raises(EnvTimeout, match="did not answer in 5 s"):
            env.step("hang")
    env.close()


def test_other_worlds_come_along(tmp_path: Path) -> None:
    raw = {
        "output": str(tmp_path / "run"),
        "env": {"games": {"train": 4, "valid_seen": 2, "valid_unseen": 2}},
        "transfer": {"shop": {"env": {"name": "webshop", "products": 60}, "tasks": 3}},
    }
    config = parse_config(raw)
    world, plain = open_world(config), open_world(parse_config({**raw, "transfer": {}}))
    shop = world.transfer["shop"]
    assert (shop.name, shop.train, [*shop.held_out]) == ("webshop", (), ["test"])
    assert len(shop.held_out["test"]) == 3
    assert world.data == plain.data, "what the run's own stages are made of"
    assert shop.make().reset(shop.held_out["test"][0]).text
    said = plan(config)
    assert "evaluation_shop the same students x 3 episodes of webshop (test)" in said
    away = {"env": {"name": "webshop", "data": "/data/not-there"}, "splits": ["test"]}
    said = plan(parse_config({**raw, "transfer": {"shop": away}}, planning=True))
    assert "NOT THERE YET: transfer.shop.env.data: no such folder (/data/not-there)" in said
    assert "episodes of webshop (test)" in said


@pytest.mark.parametrize(
    ("env", "other"),
    [
        ({"name": "webshop", "products": 60}, {"mode": "text_rich"}),
        ({"name": "webshop", "products": 60}, {"page_size": 3}),
        ({"name": "webshop", "products": 60}, {"generator_seed": 1}),
        ({"name": "scienceworld", "task_types": ["boil"]}, {"simplifications": "none"}),
        ({"name": "scienceworld", "task_types": ["boil"]}, {"step_limits": "eto"}),
        ({"name": f"{__name__}:Corridor"}, {"arguments": {"length": 3}}),
        ({"games": {"train": 4, "valid_seen": 1, "valid_unseen": 1}}, {"generator_seed": 1}),
    ],
)
def test_whatever_changes_what_is_said_changes_the_identity(
    tmp_path: Path, env: dict[str, Any], other: dict[str, Any]
) -> None:
    def identity(env: dict[str, Any], splits: dict[str, Any]) -> str:
        return open_world(parse_config({"output": str(tmp_path), "env": env, **splits})).data

    own = ":" in env.get("name", "")
    splits = {"evaluation": {"splits": ["train"]}} if own else {}
    assert identity(env, splits) == identity(env, splits)
    assert identity(env, splits) != identity({**env, **other}, splits)


def test_the_same_data_elsewhere_is_the_same(tmp_path: Path) -> None:
    kind = "pick_and_place_simple"
    scene = next(n for n in SCENES["train"] if goals_of(n, kind))
    game = generate_game(scene, kind, random.Random(0))["game"]
    for name in ("here", "there"):
        for split in ("train", "valid_seen"):
            folder = tmp_path / name / split / "pick_and_place_simple-A-None-B-1" / "trial_1"
            folder.mkdir(parents=True)
            (folder / "game.tw-pddl").write_text(json.dumps(game))

    def identity(name: str) -> str:
        env = {"data": str(tmp_path / name)}
        raw = {"output": str(tmp_path), "env": env, "evaluation": {"splits": ["valid_seen"]}}
        return open_world(parse_config(raw)).data

    before = identity("here")
    assert before == identity("there")
    (folder / "game.tw-pddl").write_text(json.dumps(older(game)))
    assert before != identity("there"), "the same names, another release"


def tasks_of(kinds: dict[str, int]) -> tuple[Task, ...]:
    return tuple(
        Task(f"{kind}-{number}", "any", "train", kind)
        for kind, count in kinds.items()
        for number in range(count)
    )


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=3), st.integers(1, 9), min_size=1),
    st.floats(0.01, 0.99),
    st.integers(0, 3),
)
def test_the_first_half_has_its_fraction_of_all_and_nearly_of_each_type(
    kinds: dict[str, int], fraction: float, seed: int
) -> None:
    world = World("any", {}, tasks_of(kinds), {}, "data")
    total = round(fraction * len(world.train))
    if total in (0, len(world.train)):
        with pytest.raises(EnvError, match="leaves a half empty: give more"):
            world.halves(fraction, seed)
        return
    first, second = world.halves(fraction, seed)
    assert len(first) == total
    assert sorted(task.id for task in first + second) == sorted(task.id for task in world.train)
    for kind, number in kinds.items():
        assert abs(sum(task.type == kind for task in first) - fraction * number) <= 1


class Renamed(Corridor):
    """Its split ``dev`` is called ``test`` by the tasks."""

    def tasks(self, split: str) -> list[Task]:
        name = {"dev": "test"}.get(split, split)
        return [replace(task, split=name) for task in super().tasks("train")]


def test_tasks_of_another_split_are_refused_before_anything_is_played(tmp_path: Path) -> None:
    env = {"name": f"{__name__}:Renamed"}
    raw = {"output": str(tmp_path / "run"), "env": env, "evaluation": {"splits": ["dev"]}}
    with pytest.raises(EnvError, match="lists tasks of test in split dev; name"):
        open_world(parse_config(raw))
