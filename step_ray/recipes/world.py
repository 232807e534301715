"""What every recipe needs to know of its world: the tasks, how they are shared out, the models."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from step_ray.config import RunConfig
from step_ray.config_env import MEMORY_MB, EnvConfig
from step_ray.envs import make_env
from step_ray.envs.base import EnvError, Task, TextEnv
from step_ray.envs.process import ProcessEnv
from step_ray.models.fingerprint import model_fingerprint
from step_ray.models.make import PACKAGED_MODEL as PACKAGED_MODEL
from step_ray.models.make import original_model as original_model
from step_ray.trajectory import content_hash


@dataclass(frozen=True, slots=True)
class World:
    """The environment of a run: how to make it, and its tasks.

    ``data`` is the identity of the data set (from the ids of all tasks of its splits, chosen or
    not, not from paths). ``isolated``: it is
    made in a process of its own, where a call may take ``seconds`` and which is replaced when it
    takes over ``memory_mb``. ``transfer``: others, in which the students are evaluated too.
    """

    name: str
    options: dict[str, Any]
    train: tuple[Task, ...]
    held_out: dict[str, tuple[Task, ...]]
    data: str
    isolated: bool = False
    seconds: float = 60.0
    memory_mb: int = MEMORY_MB
    transfer: Mapping[str, World] = field(default_factory=dict)

    def make(self) -> TextEnv:
        if self.isolated:
            return ProcessEnv(self.name, self.options, start=self.seconds, seconds=self.seconds)
        return make_env(self.name, **self.options)

    def halves(self, fraction: float, seed: int) -> tuple[list[Task], list[Task]]:
        """U_1 and U_2: the training tasks split at random, the first getting ``fraction``.

        Drawn within each task type, so both halves hold the same mixture.
        """
        first: list[Task] = []
        for kind in sorted({task.type for task in self.train}):
            tasks = [task for task in self.train if task.type == kind]
            random.Random(f"halves-{seed}-{kind}").shuffle(tasks)
            first += tasks[: round(fraction * len(tasks))]
        chosen = {task.id for task in first}
        return (
            [task for task in self.train if task.id in chosen],
            [task for task in self.train if task.id not in chosen],
        )


def open_world(config: RunConfig) -> World:
    """Lists the tasks of a run's splits, in the other environments of its section ``transfer``
    too. Raises EnvError if a split it needs is empty, or an environment is not to be had."""
    test = config.evaluation
    transfer = {
        name: _open(one.env, one.splits, one.tasks, config) for name, one in config.transfer.items()
    }
    key = f"train-{config.seed}"
    world = _open(config.env, test.splits, test.tasks, config, key)
    return replace(world, transfer=transfer)


def _open(
    env_config: EnvConfig,
    splits: Sequence[str],
    limit: int | None,
    config: RunConfig,
    train_key: str = "",
) -> World:
    """``limit``: of tasks of each split. With a ``train_key``, which the training tasks are drawn
    by, it has some."""
    data = env_config.data and env_config.data.expanduser().resolve()
    options = {"data": data and str(data), **env_config.options()}
    env = make_env(env_config.name, **options)
    listed = {split: env.tasks(split) for split in (*(["train"] if train_key else []), *splits)}
    env.close()
    for split, tasks in listed.items():
        if not tasks:
            raise EnvError(f"{env_config.name} has no solvable task in split {split}")
        if others := {task.split for task in tasks} - {split}:
            raise EnvError(
                f"{env_config.name} lists tasks of {', '.join(sorted(others))} in split {split}; "
                "name the split as its tasks do"
            )
    train = _some(listed["train"], env_config.train_tasks, train_key) if train_key else ()
    limits = config.synthesis.deadlines
    return World(
        name=env_config.name,
        options=options,
        train=train,
        held_out={split: _some(listed[split], limit, split) for split in splits},
        data=content_hash([task.id for tasks in listed.values() for task in tasks], 16),
        isolated=env_config.in_processes,
        seconds=max(limits.reset, limits.step),
        memory_mb=env_config.memory_mb or MEMORY_MB,
    )


def _some(tasks: Sequence[Task], limit: int | None, key: str) -> tuple[Task, ...]:
    """All tasks, or ``limit`` of them drawn at random, in their order."""
    if limit is None or limit >= len(tasks):
        return tuple(tasks)
    return tuple(tasks[i] for i in sorted(random.Random(key).sample(range(len(tasks)), limit)))


def fingerprints(models: Sequence[Path]) -> dict[str, str]:
    """Fingerprint -> folder."""
    return {model_fingerprint(model): str(model) for model in models}
