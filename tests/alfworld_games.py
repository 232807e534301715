"""Games for tests: generated ones in memory, and the official ones where they are at hand."""

from __future__ import annotations

import hashlib
import os
import random
import tarfile
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest

from step_ray.envs.alfworld.engine import Game
from step_ray.envs.alfworld.generate import SCENES, TASK_TYPES, generate_game, goals_of
from step_ray.envs.base import EnvError

ARCHIVE = "alfworld/json_2.1.1-part.tar.xz"


@lru_cache(maxsize=4)
def generated(per_type: int, seed: int = 0) -> tuple[Game, ...]:
    """The same number of games of every task type, in the training scenes."""
    games = []
    for task_type in TASK_TYPES:
        for index in range(per_type):
            rng = random.Random(f"{task_type}-{index}-{seed}")
            try:
                scene = rng.choice([n for n in SCENES["train"] if goals_of(n, task_type)])
            except EnvError as error:
                pytest.skip(str(error))
            games.append(Game.from_dict(generate_game(scene, task_type, rng)["game"]))
    return tuple(games)


@lru_cache(maxsize=1)
def official() -> Path:
    """A json_2.1.1 folder with the official validation games, unpacked once per machine."""
    named = os.environ.get("STEP_RAY_TEST_DATA")
    if not named or not (Path(named) / ARCHIVE).is_file():
        pytest.skip(f"set STEP_RAY_TEST_DATA to a folder that holds {ARCHIVE}")
    archive = Path(named) / ARCHIVE
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()[:12]
    home = Path(tempfile.gettempdir()) / f"step-ray-test-alfworld-{digest}"
    if not home.is_dir():
        making = Path(tempfile.mkdtemp(prefix=f"{home.name}-"))
        with tarfile.open(archive) as tar:
            members = (m for m in tar if "/valid_" in m.name and m.name.endswith("game.tw-pddl"))
            tar.extractall(making, members=members, filter="data")
        try:
            making.rename(home)
        except OSError:  # another process was first
            assert home.is_dir()
    return home / "json_2.1.1"
