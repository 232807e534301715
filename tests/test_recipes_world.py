"""A run's world: its tasks, and environments that cannot take the driver along."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from doubles import Corridor
from rough_env import NAME

from step_ray.config import parse_config
from step_ray.envs.base import EnvError, EnvTimeout, Task
from step_ray.recipes.plan import plan
from step_ray.recipes.world import open_world


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
    assert "/data/not-there is NOT THERE YET" in said
    assert "episodes of webshop (test)" in said


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
