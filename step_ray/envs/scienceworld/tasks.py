"""ScienceWorld's 30 tasks, their variations and splits, and ETO's presets.

The engine divides the variations of a task in order: two quarters for training, one for
development, the rest for testing. Here these are ``train``, ``valid_seen`` and ``valid_unseen``;
``dev`` and ``test`` mean the latter two as well. A task's id is ``<name>_<variation>``.

ETO (Song et al. 2024, "Trial and Error: Exploration-Based Trajectory Optimization for LLM
Agents") plays 24 of the tasks, all simplifications switched on, with a step limit for each, and
has lists of ``[name, variation]`` as splits, with the names of an older release.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from step_ray.envs.base import EnvError, Task
from step_ray.envs.lists import read_list

ENV = "scienceworld"
VARIATIONS = {
    "boil": 30,
    "melt": 30,
    "freeze": 30,
    "change-the-state-of-matter-of": 30,
    "use-thermometer": 540,
    "measure-melting-point-known-substance": 436,
    "measure-melting-point-unknown-substance": 300,
    "power-component": 20,
    "power-component-renewable-vs-nonrenewable-energy": 20,
    "test-conductivity": 900,
    "test-conductivity-of-unknown-substances": 600,
    "find-living-thing": 300,
    "find-non-living-thing": 300,
    "find-plant": 300,
    "find-animal": 300,
    "grow-plant": 126,
    "grow-fruit": 126,
    "chemistry-mix": 32,
    "chemistry-mix-paint-secondary-color": 36,
    "chemistry-mix-paint-tertiary-color": 36,
    "lifespan-longest-lived": 125,
    "lifespan-shortest-lived": 125,
    "lifespan-longest-lived-then-shortest-lived": 125,
    "identify-life-stages-1": 14,
    "identify-life-stages-2": 10,
    "inclined-plane-determine-angle": 168,
    "inclined-plane-friction-named-surfaces": 1386,
    "inclined-plane-friction-unnamed-surfaces": 162,
    "mendelian-genetics-known-plant": 120,
    "mendelian-genetics-unknown-plant": 480,
}
"""Number of variations by task, in the order of the benchmark's table."""
SPLITS = ("train", "valid_seen", "valid_unseen")
_ALIASES = {"dev": "valid_seen", "test": "valid_unseen"}
_FILES = {"train": "train", "valid_seen": "dev", "valid_unseen": "test"}
SIMPLIFICATIONS = (
    "teleportAction",
    "openDoors",
    "selfWateringFlowerPots",
    "noElectricalAction",
    "openContainers",
)
_STEP_LIMITS = {
    "boil": 100,
    "change-the-state-of-matter-of": 80,
    "freeze": 80,
    "melt": 80,
    "measure-melting-point-known-substance": 120,
    "use-thermometer": 30,
    "power-component": 20,
    "power-component-renewable-vs-nonrenewable-energy": 30,
    "test-conductivity": 30,
    "test-conductivity-of-unknown-substances": 30,
    "find-animal": 15,
    "find-living-thing": 15,
    "find-non-living-thing": 15,
    "find-plant": 15,
    "grow-fruit": 60,
    "grow-plant": 30,
    "chemistry-mix": 60,
    "chemistry-mix-paint-secondary-color": 15,
    "chemistry-mix-paint-tertiary-color": 30,
    "lifespan-longest-lived": 10,
    "lifespan-longest-lived-then-shortest-lived": 12,
    "lifespan-shortest-lived": 10,
    "identify-life-stages-1": 30,
    "identify-life-stages-2": 30,
}
StepLimits = str | Mapping[str, int]  # "eto", "none" or by task


def split_name(split: str) -> str:
    """Our name of a split. Raises EnvError for an unknown one."""
    name = _ALIASES.get(split, split)
    if name not in SPLITS:
        raise EnvError(
            f"ScienceWorld has no split {split!r}; it has {', '.join((*SPLITS, *_ALIASES))}"
        )
    return name


def variations(task: str, split: str) -> range:
    """A task's variations in a split. Raises EnvError for an unknown task or split."""
    total, quarter = VARIATIONS[known(task)], VARIATIONS[task] // 4
    parts = (range(2 * quarter), range(2 * quarter, 3 * quarter), range(3 * quarter, total))
    return parts[SPLITS.index(split_name(split))]


def known(task: str) -> str:
    """The name itself. Raises EnvError when no task has it."""
    if task not in VARIATIONS:
        raise EnvError(f"ScienceWorld has no task {task!r}; it has {', '.join(VARIATIONS)}")
    return task


def engine_name(name: str) -> str:
    """The task's present name for one of an older release: ``task-1-boil`` is ``boil``."""
    name = name.replace("mendellian", "mendelian")
    return known(re.sub(r"^task-\d+[ab]?-|[()]", "", name))


def make_task(name: str, variation: int, split: str) -> Task:
    """The task of a variation."""
    return Task(f"{name}_{variation}", ENV, split, name)


def parse_id(task: Task) -> tuple[str, int]:
    """(name, variation) of a task. Raises EnvError when there is no such variation."""
    name, _, number = task.id.rpartition("_")
    known(name)
    if not re.fullmatch(r"0|[1-9][0-9]{0,5}", number) or int(number) >= VARIATIONS[name]:
        raise EnvError(f"{task.id!r} is no ScienceWorld task; ids are like boil_3")
    return name, int(number)


def all_tasks(types: Sequence[str], split: str, limit: int | None, seed: int) -> list[Task]:
    """The tasks of a split; of each type at most ``limit`` variations, drawn by ``seed``."""
    split = split_name(split)
    made = []
    for name in types:
        chosen: Sequence[int] = variations(name, split)
        if limit is not None and limit < len(chosen):
            chosen = sorted(random.Random(f"{seed} {split} {name}").sample(chosen, limit))
        made += [make_task(name, variation, split) for variation in chosen]
    return made


def listed_tasks(folder: Path, split: str) -> list[Task]:
    """The tasks of ETO's list for a split, in its order.

    The list is ``train_indices.json``, ``dev_indices.json`` or ``test_indices.json`` in the folder,
    perhaps with something before, and holds ``[[name, variation], ...]``. Raises EnvError when it
    is missing, malformed or names a variation that does not exist.
    """
    split = split_name(split)
    path, values = read_list(folder, _FILES[split])
    try:
        pairs = [(str(name), int(number)) for name, number in values]
    except (ValueError, TypeError) as error:
        raise EnvError(f"{path} is not a list of [task name, variation]: {error}") from error
    made = [make_task(engine_name(name), number, split) for name, number in pairs]
    for task in made:
        parse_id(task)
    return made


def simplifications_for(task: str, chosen: str | Sequence[str]) -> str:
    """What to load a task with: ``eto``, ``none``, or names, comma-separated or in a list.

    ``eto`` is every simplification there is, but electricity where the task needs it. The engine
    drops all of them when it does not know one, and means fewer by its own word ``easy`` than it
    did in ETO's time, so names are checked and spelled out. Raises EnvError for an unknown one.
    """
    if chosen == "none":
        return ""
    electrical = "power-component" in task or "conductivity" in task
    if chosen == "eto":
        return ",".join(s for s in SIMPLIFICATIONS if not electrical or s != "noElectricalAction")
    names = [part for part in chosen.split(",") if part] if isinstance(chosen, str) else chosen
    for name in names:
        if name not in SIMPLIFICATIONS:
            raise EnvError(
                f"unknown simplification {name!r}; known are eto, none, or some of "
                f"{', '.join(SIMPLIFICATIONS)}"
            )
    if electrical and "noElectricalAction" in names:
        raise EnvError(f"{task} cannot be done with the simplification noElectricalAction")
    return ",".join(names)


def step_limit(task: str, limits: StepLimits) -> int | None:
    """Most actions of an episode, None for no limit: ETO's, none, or given by task."""
    if limits == "none":
        return None
    table = _STEP_LIMITS if limits == "eto" else limits
    if isinstance(table, str):
        raise EnvError(f"step_limits={limits!r}; it is eto, none or a mapping from task to number")
    for name, limit in table.items():
        if known(name) and limit < 1:
            raise EnvError(f"the step limit of {name} is {limit}; it must be at least 1")
    return table.get(task)
