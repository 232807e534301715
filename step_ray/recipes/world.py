"""What every recipe needs to know of its world: the tasks, how they are shared out, the models."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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

    ``data`` is the identity of all that is said in it: of the ids of all tasks of its splits,
    chosen or not, of its options, and of what its engine says of itself; not of paths, which differ
    per machine. ``isolated``: it is made in a process of its own, where a call may take ``seconds``
    and which is replaced when it takes over ``memory_mb``. ``transfer``: others, in which the
    students are evaluated too.
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
        return _make(self.name, self.options, self.seconds if self.isolated else None)

    def halves(self, fraction: float, seed: int) -> tuple[list[Task], list[Task]]:
        """U_1 and U_2: the training tasks split at random, the first getting ``fraction``.

        Drawn within each task type, so both halves hold the same mixture, as far as types divide:
        what is left over goes to the largest remainders, so the total is right. Raises EnvError if
        a half is empty.
        """
        total = round(fraction * len(self.train))
        if not 0 < total < len(self.train):
            raise EnvError(
                f"golden.fraction {fraction:g} of {len(self.train)} training tasks is {total}, "
                "which leaves a half empty: give more training tasks, or another fraction"
            )
        kinds = Counter(task.type for task in self.train)
        counts = {kind: int(fraction * number) for kind, number in kinds.items()}

        def remainder(kind: str) -> tuple[float, bool, str]:
            exact = round(fraction * kinds[kind] - counts[kind], 9)
            return -exact, counts[kind] % 2 == 0, kind  # halves to even, as round() does

        for kind in sorted(kinds, key=remainder)[: total - sum(counts.values())]:
            counts[kind] += 1
        first: list[Task] = []
        for kind in sorted(kinds):
            tasks = [task for task in self.train if task.type == kind]
            random.Random(f"halves-{seed}-{kind}").shuffle(tasks)
            first += tasks[: counts[kind]]
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
    limits = config.synthesis.deadlines
    seconds = max(limits.reset, limits.step)
    env = _make(env_config.name, options, seconds if env_config.in_processes else None)
    try:
        listed = {split: env.tasks(split) for split in (*(["train"] if train_key else []), *splits)}
        _check(env_config.name, listed)
        builds = [_build(env, tasks) for tasks in listed.values()]
    finally:
        env.close()
    said = {name: value for name, value in options.items() if name not in env_config.folders()}
    ids = [task.id for tasks in listed.values() for task in tasks]
    train = _some(listed["train"], env_config.train_tasks, train_key) if train_key else ()
    return World(
        name=env_config.name,
        options=options,
        train=train,
        held_out={split: _some(listed[split], limit, split) for split in splits},
        data=content_hash([ids, said, builds], 16),
        isolated=env_config.in_processes,
        seconds=seconds,
        memory_mb=env_config.memory_mb or MEMORY_MB,
    )


def _make(name: str, options: Mapping[str, Any], isolated: float | None) -> TextEnv:
    """``isolated``: the seconds that a call may take in a process of its own."""
    if isolated is None:
        return make_env(name, **options)
    return ProcessEnv(name, options, start=isolated, seconds=isolated)


def _check(name: str, listed: Mapping[str, Sequence[Task]]) -> None:
    for split, tasks in listed.items():
        if not tasks:
            raise EnvError(f"{name} has no solvable task in split {split}")
        if others := {task.split for task in tasks} - {split}:
            raise EnvError(
                f"{name} lists tasks of {', '.join(sorted(others))} in split {split}; "
                "name the split as its tasks do"
            )


def _build(env: TextEnv, tasks: Sequence[Task]) -> dict[str, str]:
    """What the engine says of itself in the first of ``tasks`` that it can play."""
    broken: EnvError | None = None
    for task in tasks:
        try:
            env.reset(task)
        except EnvError as error:
            broken = broken or error
        else:
            return asdict(env.build())
    raise EnvError(f"{env.name} can play no task of split {tasks[0].split}: {broken}")


def _some(tasks: Sequence[Task], limit: int | None, key: str) -> tuple[Task, ...]:
    """All tasks, or ``limit`` of them drawn at random, in their order."""
    if limit is None or limit >= len(tasks):
        return tuple(tasks)
    return tuple(tasks[i] for i in sorted(random.Random(key).sample(range(len(tasks)), limit)))


def fingerprints(models: Sequence[Path]) -> dict[str, str]:
    """Fingerprint -> folder."""
    return {model_fingerprint(model): str(model) for model in models}
