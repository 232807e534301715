"""A whole environment in one file: gather what a recipe needs, then make it at the workbench.

Every place has a limited supply, so that making the wrong thing can spoil a task for good.
"""

from __future__ import annotations

import copy
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from step_ray.envs.base import Build, EnvError, Judgement, Observation, StepResult, Task
from step_ray.trajectory import Turn, content_hash

SOURCES = {"forest": "log", "meadow": "grass", "quarry": "stone"}
RECIPES = {
    "plank": ("log",),
    "rope": ("grass", "grass"),
    "axe": ("plank", "stone"),
    "torch": ("plank", "grass"),
    "raft": ("plank", "plank", "rope"),
    "bridge": ("raft", "stone", "rope"),
}
INSTRUCTION = f"""\
You make things. Actions: go to PLACE, gather, and in the hut make THING.
Places: {", ".join(SOURCES)}, hut.
{"; ".join(f"{thing} = {' + '.join(parts)}" for thing, parts in RECIPES.items())}
Answer in this form:
Thought: your reasoning
Action: your action"""


class Crafting:
    """Make one thing. ``spare``: how much of each material there is beyond what is needed."""

    name = "crafting"
    splits = ("train", "test")
    inline = True

    def __init__(self, data: str | Path | None = None, *, spare: int = 2) -> None:
        if data is not None:
            raise EnvError("crafting has no data; leave data out")
        self._spare, self._goal, self._closed = spare, "", False

    def tasks(self, split: str) -> Sequence[Task]:
        self._check_open()
        if split not in self.splits:
            raise EnvError(f"unknown split {split!r}; the splits are {', '.join(self.splits)}")
        goals = ("axe", "raft", "torch") if split == "train" else ("axe", "bridge", "torch")
        return [
            Task(f"{split}/{goal}-{n}", self.name, split, goal) for goal in goals for n in (1, 2)
        ]

    def reset(self, task: Task, seed: int = 0) -> Observation:
        if task not in self.tasks(task.split):
            raise EnvError(f"there is no task {task.id!r}; see tasks({task.split!r})")
        rng = random.Random(f"{task.id} {seed}")
        self._goal, self._over, self._score = task.type, False, 0.0
        self._bag: Counter[str] = Counter()
        self._place = rng.choice([*SOURCES, "hut"])
        needed = Counter(_leaves(task.type))
        self._supply = Counter(
            {k: needed[k] + rng.randint(0, self._spare) for k in SOURCES.values()}
        )
        return Observation(INSTRUCTION, f"{self._look()}\n\nYour task is to: make one {task.type}.")

    def step(self, action: str) -> StepResult:
        if action not in self.admissible():
            return StepResult("Nothing happens.", self._score, self._over, False, False)
        verb, _, rest = action.rpartition(" ")
        if verb == "go to":
            self._place = rest
        elif action == "gather":
            self._supply[SOURCES[self._place]] -= 1
            self._bag[SOURCES[self._place]] += 1
        else:
            self._bag = self._bag - Counter(RECIPES[rest]) + Counter([rest])
        self._score = float(self._bag[self._goal] > 0)
        self._over = bool(self._score) or not self._possible()
        text = self._look() if self._score or not self._over else "What is left is not enough."
        return StepResult(text, self._score, self._over, False, True)

    def admissible(self) -> list[str]:
        self._check_playing()
        if self._over:
            return []
        found = [f"go to {place}" for place in (*SOURCES, "hut") if place != self._place]
        if self._place == "hut":
            found += [f"make {t}" for t, parts in RECIPES.items() if Counter(parts) <= self._bag]
        elif self._supply[SOURCES[self._place]]:
            found.append("gather")
        return sorted(found)

    def expert(self) -> Turn | None:
        self._check_playing()
        if self._over:
            return None
        missing, here = self._missing(), SOURCES.get(self._place)
        if here in missing:
            return Turn(f"I need {here}, and here it is.", "gather", author="expert")
        for place, material in SOURCES.items():
            if material in missing:
                return Turn(
                    f"I need {material}, so I go to {place}.", f"go to {place}", author="expert"
                )
        if self._place != "hut":
            return Turn("I have all I need, so I go to hut.", "go to hut", author="expert")
        part = next(
            p for p in _parts(self._goal, Counter(self._bag)) if f"make {p}" in self.admissible()
        )
        return Turn(f"I have what {part} needs, so I make {part}.", f"make {part}", author="expert")

    def judge(self, action: str) -> Judgement:
        if action not in self.admissible():
            return Judgement(True, "invalid", (("why", "that is not possible here"),))
        turn, missing = self.expert(), self._missing()
        verb, _, what = action.rpartition(" ")
        if verb == "go to":
            useful = SOURCES.get(what) in missing or (what == "hut" and not missing)
            kind, why = "detour", f"nothing I need is at {what}"
        elif verb == "make":
            useful = what in _parts(self._goal, Counter(self._bag))
            kind, why = "wrong_object", f"{what} is more than I need"
        else:
            useful = SOURCES[self._place] in missing
            kind, why = "wrong_object", f"{SOURCES[self._place]} is more than I need"
        if useful or (turn and action == turn.action):
            return Judgement(False)
        fatal = self.fork().step(action).terminated
        return Judgement(True, kind, (("why", why),), irreversible=fatal)

    def build(self) -> Build:
        self._check_playing()
        return Build("crafting-1", content_hash([RECIPES, SOURCES, self._spare]), "make")

    def fork(self) -> Crafting:
        self._check_playing()
        child = copy.copy(self)
        child._bag, child._supply = Counter(self._bag), Counter(self._supply)
        return child

    def close(self) -> None:
        self._closed = True

    def _look(self) -> str:
        bag = ", ".join(sorted(self._bag.elements())) or "nothing"
        material = SOURCES.get(self._place)
        here = (
            f"There is {self._supply[material]} {material} left"
            if material
            else "Here is a workbench"
        )
        return f"You are in the {self._place}. {here}. You carry {bag}."

    def _missing(self) -> list[str]:
        return list(_leaves(self._goal, Counter(self._bag)))

    def _possible(self) -> bool:
        return Counter(self._missing()) <= self._supply

    def _check_open(self) -> None:
        if self._closed:
            raise EnvError("this environment is closed; make a new one")

    def _check_playing(self) -> None:
        self._check_open()
        if not self._goal:
            raise EnvError("no task is being played; call reset(task) first")


def _leaves(thing: str, bag: Counter[str] | None = None) -> Iterator[str]:
    """The materials still needed for a thing, given (and using up) what is in the bag."""
    if bag and bag[thing]:
        bag[thing] -= 1
    elif thing not in RECIPES:
        yield thing
    else:
        for part in RECIPES[thing]:
            yield from _leaves(part, bag)


def _parts(thing: str, bag: Counter[str]) -> list[str]:
    """The things still to be made for a thing, itself included, parts first."""
    if bag[thing]:
        bag[thing] -= 1
        return []
    made = [part for p in RECIPES.get(thing, ()) for part in _parts(p, bag)]
    return [*made, thing] if thing in RECIPES else []
