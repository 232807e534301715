"""A driver that can be killed: monitored episodes of a model, published in a folder.

python tests/drills/monitored.py FOLDER MODEL WORKERS EPISODES ON_ERROR
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from step_ray.config import RayConfig
from step_ray.envs import make_env
from step_ray.models.base import Sampling
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.serving import start_teacher
from step_ray.progress import Progress
from step_ray.recipes.cluster import cluster
from step_ray.recipes.students import local_student
from step_ray.synthesis.filters import Filter
from step_ray.synthesis.pipeline import Pool, run_episodes
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import WorkerSettings
from step_ray.trajectory import canonical_json

GAMES = {"train": 64, "valid_seen": 0, "valid_unseen": 0}


def synthesize(folder: Path, model: Path, workers: int, episodes: int, on_error: str) -> None:
    """Runs ``episodes`` monitored episodes and publishes them in ``folder``."""
    student, sampling = model_fingerprint(model), Sampling(0.7, 1.0, 24)
    tasks = make_env("alfworld", games=GAMES, seed=3).tasks("train")
    teacher = start_teacher(1)
    specs = [
        EpisodeSpec(
            env="alfworld",
            data="drill",
            split=task.split,
            task=task.id,
            task_type=task.type,
            seed=0,
            rollout=number // len(tasks),
            student=student,
            teacher=teacher.fingerprint,
            prompt_version=teacher.prompt_version,
            sampling=canonical_json({"temperature": 0.7, "top_p": 1.0, "max_tokens": 24}),
            on_error=on_error,  # type: ignore[arg-type]
            max_steps=30,
        )
        for number, task in ((n, tasks[n % len(tasks)]) for n in range(episodes))
    ]
    settings = WorkerSettings(
        env="alfworld",
        env_options={"games": GAMES, "seed": 3},
        students={student: str(model)},
        sampling=sampling,
        filter=Filter(max_errors=30),
        envs=8,
    )
    load = functools.partial(local_student, dtype="float32", slots=8, context=4096)
    pool = Pool(workers=workers, block_size=4, blocks_in_flight=2)
    with Progress(plain=True).stage("drill", len(specs), "episodes") as bar:
        run_episodes(specs, folder, settings, load, lambda: teacher, pool, bar, {})


if __name__ == "__main__":
    with cluster(RayConfig(num_cpus=4, object_store_mb=100)):
        synthesize(
            Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
        )
