"""Which task of an environment a record means, by the names that other projects give tasks."""

from __future__ import annotations

import re
from collections.abc import Iterator

from step_ray.envs.base import EnvError, Task, TextEnv
from step_ray.envs.terminal import splits_of
from step_ray.exchange.chats import Recorded
from step_ray.exchange.records import Rejected

_GAME = re.compile(r"([\w-]+/trial_\w+)")  # .../<goal's folder>/<trial>/game.tw-pddl
_NUMBERED = re.compile(r"(\d{1,2})[_-](\d{1,4})")
_LAST_NUMBER = re.compile(r"(?:[a-z]+_)?(\d{1,6})")
# ETO numbers ScienceWorld's tasks by the alphabet of an older release's names.
_ETO_TASKS = (
    "boil",
    "change-the-state-of-matter-of",
    "freeze",
    "melt",
    "measure-melting-point-known-substance",
    "measure-melting-point-unknown-substance",
    "use-thermometer",
    "power-component",
    "power-component-renewable-vs-nonrenewable-energy",
    "test-conductivity",
    "test-conductivity-of-unknown-substances",
    "find-animal",
    "find-living-thing",
    "find-non-living-thing",
    "find-plant",
    "grow-fruit",
    "grow-plant",
    "chemistry-mix",
    "chemistry-mix-paint-secondary-color",
    "chemistry-mix-paint-tertiary-color",
    "lifespan-longest-lived",
    "lifespan-longest-lived-then-shortest-lived",
    "lifespan-shortest-lived",
    "identify-life-stages-1",
    "identify-life-stages-2",
    "inclined-plane-determine-angle",
    "inclined-plane-friction-named-surfaces",
    "inclined-plane-friction-unnamed-surfaces",
    "mendelian-genetics-known-plant",
    "mendelian-genetics-unknown-plant",
)
# What other projects put around a first observation.
_AROUND = re.compile(r"-= Welcome to TextWorld, ALFRED! =-|AVAILABLE ACTIONS:.*", re.DOTALL)
_WORD = re.compile(r"\w+")


def words(text: str) -> tuple[str, ...]:
    """The words of an observation in alphabetical order, without what others put around it."""
    return tuple(sorted(_WORD.findall(_AROUND.sub("", text))))


class Tasks:
    """The tasks of an environment, by id, and by the words they begin with.

    The latter only where an episode's beginning is a short computation (``env.inline``); the table
    is made when the first record names no task.
    """

    def __init__(self, env: TextEnv) -> None:
        self._env = env
        self._by_id = {task.id: task for split in splits_of(env) for task in _listed(env, split)}
        self._by_words: dict[tuple[str, ...], Task] | None = None

    def find(self, recorded: Recorded) -> Task:
        """The task of a record. Raises Rejected if the environment has none that fits."""
        for name in recorded.names:
            for candidate in _ids(name):
                if candidate in self._by_id:
                    return self._by_id[candidate]
        if getattr(self._env, "inline", False):
            beginnings = self._beginnings()
            for text in (recorded.first, f"{recorded.instruction}\n\n{recorded.first}"):
                if words(text) in beginnings:
                    return beginnings[words(text)]
        named = ", ".join(recorded.names) or "no name"
        raise Rejected("unknown_task", f"{named:.200}: {self._env.name} has no such task here")

    def _beginnings(self) -> dict[tuple[str, ...], Task]:
        if self._by_words is None:
            self._by_words = {}
            for task in self._by_id.values():
                try:
                    self._by_words.setdefault(words(self._env.reset(task).text), task)
                except EnvError:  # a game that cannot be played has no beginning
                    continue
        return self._by_words


def _ids(name: str) -> Iterator[str]:
    """The ids that a task may have here which is called ``name`` elsewhere."""
    yield name
    if game := _GAME.search(name):
        yield game[1]
    if (pair := _NUMBERED.fullmatch(name)) and int(pair[1]) < len(_ETO_TASKS):
        yield f"{_ETO_TASKS[int(pair[1])]}_{int(pair[2])}"
    if number := _LAST_NUMBER.fullmatch(name):  # WebShop's index of a goal
        yield f"human-{int(number[1])}"
        yield f"synthetic-{int(number[1])}"


def _listed(env: TextEnv, split: str) -> list[Task]:
    try:
        return list(env.tasks(split))
    except EnvError:  # official data need not hold every split
        return []
