"""Runs whose trainings make samples as ever and leave the model as it is; no Ray."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from step_ray import store
from step_ray.config import parse_config
from step_ray.config_training import TrainConfig
from step_ray.models.make import PACKAGED_MODEL
from step_ray.progress import Progress
from step_ray.recipes import stages
from step_ray.recipes.calibration import weighted
from step_ray.recipes.workshop import Workshop
from step_ray.recipes.world import open_world
from step_ray.run import Run, Stage
from step_ray.synthesis.calibrate import Chosen
from step_ray.synthesis.chosen import CHOSEN, write_chosen
from step_ray.training.prepare import TrainResult, prepare
from step_ray.trajectory import Trajectory

ENV = {
    "games": {"train": 4, "valid_seen": 1, "valid_unseen": 1},
    "task_types": ["pick_and_place_simple"],
}
CHANGES = {"loss": "reward_weighted", "normalize": "turn"}


def untrained(
    start: Path, data: Any, output: Path, config: TrainConfig, bar: object, wait: float
) -> TrainResult:
    """What a training leaves, of no steps."""
    made = prepare(start, data, output, config)
    shutil.copytree(start, output / "model")
    return TrainResult(output / "model", {}, 0.0, made.facts)


@contextmanager
def opened(
    folder: Path, patch: pytest.MonkeyPatch, **sections: Mapping[str, Any]
) -> Iterator[tuple[Workshop, Stage, list[Trajectory]]]:
    """A workshop with its stage golden, and the trajectories of that."""
    patch.setattr(stages, "train_model", untrained)
    config = parse_config({"output": str(folder), "env": ENV, **sections})
    with Run.open(config.output, config.resolved()) as run:
        shop = Workshop(run, config, open_world(config), Progress())
        expert = stages.golden(shop)
        yield shop, expert, list(store.read(expert.path))


def model_of(folder: Path, positions: int) -> Path:
    """The packaged model, with another limit of its own."""
    shutil.copytree(PACKAGED_MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "max_position_embeddings": positions})
    )
    return folder


def steca(folder: Path, patch: pytest.MonkeyPatch) -> Path:
    """A run that is shaped like STeCa's: trained from some turn on, and one trajectory twice."""
    with opened(folder, patch) as (shop, expert, shown):
        base = stages.train(shop, "golden_only", PACKAGED_MODEL, shown, {"golden": expert})
        some = [
            Chosen(shown[0].id, "expert", 1, 0.5),
            Chosen(shown[0].id, "expert", 2, 1.5),
            Chosen(shown[1].id, "expert", 0, 0.75),
        ]
        with shop.run.stage("chosen", {"golden": expert}) as chosen:
            write_chosen(chosen.path / CHOSEN, some)
            chosen.finish({"chosen": chosen.path / CHOSEN})
        known = {one.id: one for one in shown}
        data: Sequence[Any] = [weighted(known[one.id], one) for one in some]
        inputs = {"chosen": chosen, "base": base}
        stages.train(shop, "steca", base.outputs["model"], data, inputs, CHANGES)
    return folder
