"""The driver that drills disturb: python -m step_ray.drills.driver SCRATCH RUN [--pause]

Plays the monitored episodes that ``SCRATCH/drill.json`` asks for and publishes them as the stage
``reflected`` of the run folder ``RUN``. ``--pause``: once it holds the run it says ``held`` and
waits for a line.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

from step_ray.config import RunConfig, execution_fields
from step_ray.config_teacher import ExpertTeacherConfig, LLMTeacherConfig
from step_ray.drills.student import DrillStudent
from step_ray.manifest import StoreError
from step_ray.progress import Progress
from step_ray.recipes.cluster import cluster
from step_ray.recipes.playing import pool_of, spec_of, worker_settings
from step_ray.recipes.world import open_world
from step_ray.run import Run, RunError
from step_ray.synthesis.filters import Filter
from step_ray.synthesis.pipeline import run_episodes
from step_ray.synthesis.placement import PipelineError
from step_ray.teacher.make import make_teacher

STAGE = "reflected"
FILE = "drill.json"


def drive(plan: dict[str, Any], folder: Path, pause: bool) -> None:
    """Runs or continues the episodes of a drill."""
    config = RunConfig.model_validate(plan["config"])
    asked = plan["teacher"]
    teacher_config = LLMTeacherConfig.model_validate(asked) if asked else ExpertTeacherConfig()
    connect = functools.partial(make_teacher, teacher_config, config.env.name, folder)
    teacher, world = connect(), open_world(config)
    tasks = [world.train[number % len(world.train)] for number in range(plan["episodes"])]
    specs = [
        spec_of(
            world,
            task,
            seed=config.seed,
            rollout=number // len(world.train),
            student=DrillStudent.fingerprint,
            teacher=teacher.fingerprint,
            prompt_version=teacher.prompt_version,
            on_error=config.synthesis.on_error,
            max_steps=config.env.max_steps,
        )
        for number, task in enumerate(tasks)
    ]
    keep = Filter(max_errors=config.env.max_steps, min_reward=0.0, keep_clean=True)
    settings = worker_settings(config, world, {DrillStudent.fingerprint: ""}, keep)
    pool = pool_of(config, config.synthesis.workers)
    progress = Progress(plain=True)
    with Run.open(folder, config.resolved(), ignore=execution_fields()) as run:
        if pause:
            print("held", flush=True)
            sys.stdin.readline()
        with cluster(config.ray), run.stage(STAGE, {"specs": [spec.id for spec in specs]}) as stage:
            if stage.done:
                return
            with progress.stage(STAGE, len(specs), "episodes") as bar:
                made = run_episodes(
                    specs, stage.path, settings, DrillStudent, connect, pool, bar, {"drill": True}
                )
            stage.finish({"data": stage.path}, made.seconds)


def main(arguments: list[str]) -> int:
    """Exit status 2, and what is wrong on stderr, for what a person can put right."""
    scratch, folder, pause = Path(arguments[0]), Path(arguments[1]), "--pause" in arguments
    plan = json.loads((scratch / FILE).read_text(encoding="utf-8"))
    try:
        drive(plan, folder, pause)
    except (RunError, StoreError, PipelineError) as error:
        print(f"step-ray: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
