"""A run's world: its tasks, and environments that cannot take the driver along."""

from __future__ import annotations

from pathlib import Path

import pytest
from rough_env import NAME

from step_ray.config import parse_config
from step_ray.envs.base import EnvTimeout
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
