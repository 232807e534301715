"""What a config says of the episodes of a stage: their specs, and who plays them where."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from step_ray.config import RunConfig
from step_ray.envs.base import Task
from step_ray.models.base import Sampling
from step_ray.recipes.cluster import patience
from step_ray.recipes.world import World
from step_ray.synthesis.filters import Filter
from step_ray.synthesis.pipeline import Pool
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import WorkerSettings
from step_ray.trajectory import canonical_json


def spec_of(world: World, task: Task, **settings: Any) -> EpisodeSpec:
    """The spec of an episode of ``task``; ``settings`` are its other fields."""
    return EpisodeSpec(
        env=world.name,
        data=world.data,
        split=task.split,
        task=task.id,
        task_type=task.type,
        **settings,
    )


def sampling_text(sampling: Sampling) -> str:
    """Sampling as a spec holds it; its seed is the spec's own."""
    return canonical_json(
        {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
        }
    )


def worker_settings(
    config: RunConfig,
    world: World,
    students: Mapping[str, str],
    keep: Filter,
    sampling: Sampling | None = None,
) -> WorkerSettings:
    """What the workers of a stage share; ``students`` maps a fingerprint to a model folder."""
    rules = config.synthesis
    return WorkerSettings(
        env=world.name,
        env_options=world.options,
        students=students,
        sampling=sampling or Sampling(),
        deadlines=rules.deadlines,
        filter=keep,
        envs=rules.envs_per_worker,
        isolated=world.isolated,
        memory_mb=world.memory_mb,
    )


def pool_of(config: RunConfig, workers: int) -> Pool:
    """The workers themselves, and the nodes they may be on."""
    return Pool(
        workers,
        block_size=config.synthesis.block_size,
        labels=config.ray.env_nodes,
        wait=patience(config.ray),
    )
