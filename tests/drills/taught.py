"""A driver that can be killed: the synthesis of a recipe, by itself, with the packaged student.

python tests/drills/taught.py CONFIG
"""

from __future__ import annotations

import sys

from step_ray import store
from step_ray.config import load_config
from step_ray.progress import Progress
from step_ray.recipes.results import asked_models
from step_ray.recipes.stages import synthesis_summary, synthesize
from step_ray.recipes.workshop import opened
from step_ray.recipes.world import open_world, original_model
from step_ray.report.page import build_report

if __name__ == "__main__":
    config = load_config(sys.argv[1])
    world = open_world(config)
    student = original_model(config)
    assert student is not None
    with opened(config, world, Progress(plain=True), fresh=False) as shop:
        run = shop.run
        reflected = synthesize(shop, "reflected", student, world.train, student)
        rows = store.read_rows(reflected.path, kept_only=False)
        run.write_results(
            {
                "synthesis": synthesis_summary(rows),
                "models": asked_models(run.path),
                "seconds": run.seconds(),
            }
        )
        build_report(run.path)
