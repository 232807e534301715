"""Real ALFWorld games, generated: same domain, grammar, goals and rooms, new placements.

A game is a scene of ALFRED, things scattered in it as the real games scatter them, and a goal of
the wheel's goal library. The files have the json_2.1.1 layout and play unchanged in the stock
engine. Everything depends on the arguments alone.

The train and valid_seen splits share scenes, but never a (task type, object, target, scene): each
such goal belongs to one of the two by its hash, whatever seeds and counts are asked for.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from step_ray.envs.alfworld.placement import (
    FIXTURES,
    STANDS_ON,
    Placement,
    goal_fits,
    nested,
    scatter,
)
from step_ray.envs.alfworld.problem import goal_text, problem_text
from step_ray.envs.alfworld.scenes import SCENES, Split, by_type, load_scene, seeded, tables
from step_ray.envs.base import EnvError

__all__ = ["SCENES", "TASK_TYPES", "Goal", "generate_game", "generate_games", "goals_of"]

GENERATOR = "1"  # part of every seed: raise it when the same arguments should give other games
TASK_TYPES = (
    "pick_and_place_simple",
    "look_at_obj_in_light",
    "pick_clean_then_place_in_recep",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_two_obj_and_place",
)
LAMP = "DeskLamp"  # floor lamps stand in no receptacle, so the domain cannot turn them on
NEEDS = {  # task type -> what the object must allow, and where that is done
    "pick_clean_then_place_in_recep": ("Cleanable", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("Heatable", "Microwave"),
    "pick_cool_then_place_in_recep": ("Coolable", "Fridge"),
}
# No real game asks for these: towels hang there already, and the basins are where one cleans.
NEVER_TARGET = frozenset(
    ("SinkBasin", "BathtubBasin", "TowelHolder", "HandTowelHolder", "LaundryHamper", "Toaster")
)
SEEN_SHARE = 10  # one goal in so many belongs to valid_seen, the others to train


class Goal(NamedTuple):
    """What a game asks for; for look_at_obj_in_light the target is the lamp."""

    task_type: str
    object: str
    target: str
    scene: int

    @property
    def folder(self) -> str:
        """Name of the task folder, as in json_2.1.1."""
        return f"{self.task_type}-{self.object}-None-{self.target}-{self.scene}"


@cache
def goals_of(scene_number: int, task_type: str) -> tuple[Goal, ...]:
    """All solvable goals of a task type in a scene, in a stable order."""
    if task_type not in TASK_TYPES:
        raise EnvError(f"unknown task type {task_type!r}; the types are {', '.join(TASK_TYPES)}")
    room, rules = load_scene(scene_number), tables()
    places = by_type(room)
    wanted = 2 if task_type == "pick_two_obj_and_place" else 1
    if task_type == "look_at_obj_in_light":
        lamp_stands = LAMP in room.object_types and goal_fits(room, LAMP, "", 1)
        targets = [LAMP] if lamp_stands else []
    else:
        targets = sorted(places.keys() - NEVER_TARGET)
    need, station = NEEDS.get(task_type, ("", ""))
    if station and station not in places:
        return ()
    return tuple(
        Goal(task_type, kind, target, scene_number)
        for kind in room.object_types
        if kind not in FIXTURES and kind not in STANDS_ON  # STANDS_ON: no place to put it back
        if not need or kind in rules.affords[need]
        for target in targets
        if target == LAMP or (kind in rules.contains.get(target, ()) and target != station)
        if goal_fits(room, kind, target, wanted)
    )


@cache
def _split_goals(split: Split, task_type: str) -> Mapping[int, tuple[Goal, ...]]:
    """The goals of a split by scene; scenes without any are left out."""
    found = {}
    for number in SCENES[split]:
        goals = goals_of(number, task_type)
        if split != "valid_unseen":
            wanted = split == "valid_seen"
            goals = tuple(g for g in goals if _for_validation(g) == wanted)
        if goals:
            found[number] = goals
    return found


def _for_validation(goal: Goal) -> bool:
    digest = hashlib.sha256(("valid_seen|" + goal.folder).encode()).digest()
    return int.from_bytes(digest[:8], "big") % SEEN_SHARE == 0


def _draw(goals: Sequence[Goal], rng: random.Random) -> Goal:
    """A goal, each object equally likely whatever number of places it may go to."""
    kind = rng.choice(sorted({goal.object for goal in goals}))
    return rng.choice([goal for goal in goals if goal.object == kind])


def generate_game(
    scene: int, task_type: str, rng: random.Random, goal: Goal | None = None
) -> dict[str, Any]:
    """One game in memory: ``{"game": dict, "initial_state": str, "traj_data": dict}``.

    Without a ``goal`` one of the scene's is drawn. Raises EnvError if the scene has none.
    """
    if goal is None:
        goals = goals_of(scene, task_type)
        if not goals:
            raise EnvError(f"FloorPlan{scene} has nothing for {task_type}; see goals_of()")
        goal = _draw(goals, rng)
    return _build(goal, rng)


def generate_games(
    out: Path,
    split: Split,
    count: int,
    seed: int,
    task_types: Sequence[str] | None = None,
    shares: Mapping[str, float] | None = None,
) -> list[Path]:
    """Writes ``count`` games below ``out/split`` and returns their game.tw-pddl paths.

    The first n games of a longer list are the list of length n. A game that is already there is
    left alone, a damaged one is replaced; a game appears complete or not at all. ``shares`` weighs
    the task types (default: equal). Raises EnvError if the wheel is missing or the split has no
    goal of a wanted type.
    """
    if split not in SCENES:
        raise EnvError(f"unknown split {split!r}; the splits are {', '.join(SCENES)}")
    chosen = tuple(task_types) if task_types is not None else TASK_TYPES
    weights = {kind: (shares or {}).get(kind, 0.0 if shares else 1.0) for kind in chosen}
    for kind, weight in weights.items():
        if weight > 0 and not _split_goals(split, kind):
            raise EnvError(f"no scene of {split} has a goal of type {kind}")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for goal, made in _sequence(split, count, seed, weights):
        home = out / split / goal.folder / made["traj_data"]["task_id"]
        contents = {
            "initial_state.pddl": made["initial_state"].encode(),
            "traj_data.json": json.dumps(made["traj_data"], indent=1).encode(),
            "game.tw-pddl": json.dumps(made["game"]).encode(),
        }
        _publish(home, contents, out)
        paths.append(home / "game.tw-pddl")
    return paths


def _sequence(
    split: Split, count: int, seed: int, weights: Mapping[str, float]
) -> Iterator[tuple[Goal, dict[str, Any]]]:
    """The games of a split in order; all differ."""
    seen: set[str] = set()
    for index, task_type in enumerate(_schedule(weights, count)):
        by_scene = _split_goals(split, task_type)
        for attempt in range(100):
            rng = seeded(GENERATOR, split, seed, index, task_type, attempt)
            goal = _draw(by_scene[rng.choice(sorted(by_scene))], rng)
            made = generate_game(goal.scene, task_type, rng, goal)
            if made["traj_data"]["task_id"] not in seen:  # a hash of goal and placement
                break
        else:
            raise EnvError(f"{split} has no {index + 1} different games of seed {seed}")
        seen.add(made["traj_data"]["task_id"])
        yield goal, made


def _schedule(weights: Mapping[str, float], count: int) -> Iterator[str]:
    """Task types in proportion to their weights, in every prefix of the list."""
    total = sum(weights.values())
    if count and (total <= 0 or min(weights.values()) < 0):
        raise EnvError(f"shares must be positive for at least one task type: {dict(weights)}")
    made: Counter[str] = Counter()
    for i in range(count):
        owed = {kind: weight / total * (i + 1) - made[kind] for kind, weight in weights.items()}
        kind = max(owed, key=lambda name: owed[name])  # ties: the first one
        made[kind] += 1
        yield kind


def _publish(home: Path, contents: Mapping[str, bytes], out: Path) -> None:
    """Makes the trial folder appear whole, by a rename; does nothing if it is there already."""
    if _complete(home, contents):
        return
    home.parent.mkdir(parents=True, exist_ok=True)
    # Next to the splits, not in them: loaders walk the split folders.
    temporary = Path(tempfile.mkdtemp(prefix=".making-", dir=out))
    try:
        fresh = temporary / home.name
        fresh.mkdir()
        for name, data in contents.items():
            (fresh / name).write_bytes(data)
        try:
            fresh.rename(home)
        except OSError:
            # Another process may have been first, with the same bytes; else it is damaged.
            if not _complete(home, contents):
                home.rename(temporary / "damaged")
                fresh.rename(home)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _complete(home: Path, contents: Mapping[str, bytes]) -> bool:
    try:
        return all((home / name).read_bytes() == data for name, data in contents.items())
    except OSError:
        return False


def _build(goal: Goal, rng: random.Random) -> dict[str, Any]:
    """Scatters the scene's things for a goal and words it."""
    room, rules = load_scene(goal.scene), tables()
    if goal.task_type == "pick_two_obj_and_place":
        copies = rng.choices((2, 3, 4), (5, 4, 3))[0]
    else:
        copies = rng.choices((1, 2, 3, 4), (4, 3, 2, 1))[0]
    # As in ALFRED, a thing to clean, heat or cool may have a twin in the target, but not done so.
    outside = 1 if goal.task_type in NEEDS else copies
    cool = goal.task_type == "pick_cool_then_place_in_recep"
    things = scatter(room, rng, goal.object, copies, goal.target, outside, cool)
    _check_solvable(goal, things)
    inside = nested(things, rng)
    start = rng.choice(room.starts)

    receptacle, lamp = ("", LAMP) if goal.target == LAMP else (goal.target, "")
    template = rng.choice(rules.goals[goal.task_type]["templates"])
    sentence = template.format(
        obj=goal.object.lower(), recep=receptacle.lower(), toggle=lamp.lower(), mrecep=""
    )
    wanted = goal_text(goal.task_type, goal.object, receptacle, lamp)
    # Named by its own content, so a name never stands for two games.
    nameless = problem_text("", room, things, inside, start, wanted)
    name = "trial_" + hashlib.sha256((sentence + nameless).encode()).hexdigest()[:16]
    problem = problem_text(name, room, things, inside, start, wanted)
    return {
        "game": {
            "pddl_domain": rules.domain,
            "grammar": rules.grammar.replace("UNKNOWN GOAL", sentence),
            "pddl_problem": problem,
            "solvable": True,
        },
        "initial_state": problem,
        "traj_data": {
            "task_id": name,
            "task_type": goal.task_type,
            "pddl_params": {
                "mrecep_target": "",
                "object_sliced": False,
                "object_target": goal.object,
                "parent_target": receptacle,
                "toggle_target": lamp,
            },
            "scene": {"floor_plan": f"FloorPlan{goal.scene}", "scene_num": goal.scene},
            "turk_annotations": {"anns": [{"task_desc": sentence, "high_descs": []}]},
        },
    }


def _check_solvable(goal: Goal, things: Sequence[Placement]) -> None:
    """Everything lies in a receptacle one can go to and open, so only these can be missing."""
    reachable = [thing for thing in things if thing.receptacle]
    outside = sum(
        thing.kind == goal.object and thing.receptacle.type != goal.target
        for thing in reachable
        if thing.receptacle
    )
    lamps = sum(thing.kind == LAMP for thing in reachable)
    needed = 2 if goal.task_type == "pick_two_obj_and_place" else 1
    if outside < needed or (goal.target == LAMP and not lamps):
        raise AssertionError(f"generated an unsolvable game: {goal}, {outside} objects in reach")
