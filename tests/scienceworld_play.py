"""What tests of ScienceWorld share: a walk through a world, and the recorded episodes."""

from __future__ import annotations

import json
import lzma
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from step_ray.envs.scienceworld.simulator import Simulator, Step

Walk = list[tuple[str, Step]]
WORLDS = (  # with bees and plants, electricity, liquids, animals
    ("grow-fruit", 3),
    ("test-conductivity", 5),
    ("chemistry-mix", 1),
    ("find-animal", 9),
)


def walk(simulator: Simulator, task: str, variation: int, steps: int) -> Walk:
    """A random walk of valid actions from the start; none that ends the episode by itself."""
    rng = random.Random(f"{task} {variation}")
    walked: Walk = [("look around", Step(simulator.load(task, variation), 0, False))]
    for _ in range(steps):
        valid = sorted(simulator.valid())
        verb = rng.choice(sorted({action.split()[0] for action in valid} - {"focus", "reset"}))
        action = rng.choice([action for action in valid if action.split()[0] == verb])
        walked.append((action, simulator.step(action)))
    return walked


def again(simulator: Simulator, task: str, variation: int, walked: Walk) -> Walk:
    """The same walk once more."""
    walked_now: Walk = [("look around", Step(simulator.load(task, variation), 0, False))]
    actions = [action for action, _ in walked[1:]]
    return walked_now + list(zip(actions, simulator.replay(actions), strict=True))


def data(name: str) -> Path:
    """A file or folder of real ScienceWorld data; skips without it."""
    folder = os.environ.get("STEP_RAY_TEST_DATA")
    path = Path(folder or ".") / "scienceworld" / name
    if not folder or not path.exists():
        pytest.skip(f"set STEP_RAY_TEST_DATA to a folder with scienceworld/{name}")
    return path


@dataclass(frozen=True)
class Episode:
    """A recorded oracle episode; its score is in 0..100."""

    task: str
    variation: int
    description: str
    turns: list[dict[str, Any]]

    @property
    def score(self) -> int:
        return round(100 * float(self.turns[-1]["score"]))


def recorded() -> Iterator[list[Episode]]:
    """The recorded oracle episodes, a list for each task."""
    for path in sorted(data("oracle_log").glob("*.json.xz")):
        with lzma.open(path, "rt", encoding="utf-8") as file:
            histories = [row["history"] for row in json.load(file).values()]
        yield [
            Episode(h["taskName"], int(h["variationIdx"]), h["taskDescription"], h["history"])
            for h in histories
        ]
