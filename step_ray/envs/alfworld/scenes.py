"""The ALFRED scenes, goal templates and domain that ship in the alfworld wheel.

Only data is read: the wheel's JSON and PDDL as they are, and the tables in its Python modules as
literals of their syntax tree. Nothing of alfworld is imported, so its heavy and GPL dependencies
are not needed: ``pip install --no-deps alfworld==0.4.2`` is enough.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import math
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from step_ray.envs.base import EnvError

WHEEL = "alfworld==0.4.2"

Split = Literal["train", "valid_seen", "valid_unseen"]
# ALFRED's splits of its 120 rooms: per room type 30, of which the first number is given here.
UNSEEN_SCENES = (10, 219, 308, 424)
HIDDEN_SCENES = (9, 29, 215, 226, 315, 325, 404, 425)  # its unpublished test split: left alone
SEEN_SCENES = tuple(
    number
    for first in (1, 201, 301, 401)
    for number in range(first, first + 30)
    if number not in UNSEEN_SCENES + HIDDEN_SCENES
)
SCENES: Mapping[Split, tuple[int, ...]] = {
    "train": SEEN_SCENES,
    "valid_seen": SEEN_SCENES,
    "valid_unseen": UNSEEN_SCENES,
}

GRID = 0.25  # metres; a location id counts in these
EYE = 1.65  # metres above the floor, from where the agent looks down or up at a receptacle
# Receptacles without a view point in the layout files: how many a scene gets and at what height.
ADDED: Mapping[str, tuple[tuple[int, ...], float]] = {
    "StoveBurner": ((4,), 0.93),
    "CoffeeMachine": ((1,), 0.90),
    "Toaster": ((1,), 0.90),
    "GarbageCan": ((1,), 0.0),
    "TowelHolder": ((1, 1, 1, 1, 2), 1.55),
    "HandTowelHolder": ((1, 1, 2), 1.45),
    "ToiletPaperHanger": ((1,), 0.80),
    "Toilet": ((1,), 0.0),
    "SinkBasin": ((1,), 0.80),
    "LaundryHamper": ((1,), 0.0),
    "Ottoman": ((1,), 0.0),
    "Safe": ((1,), 0.40),
    "Shelf": ((2, 3, 4), 1.20),
    "Drawer": ((2, 3, 4), 0.45),
    "Cabinet": ((1, 2), 0.50),
}
ON_A_COUNTER = ("StoveBurner", "CoffeeMachine", "Toaster")
AHEAD = {0: (0.0, 0.65), 1: (0.65, 0.0), 2: (0.0, -0.65), 3: (-0.65, 0.0)}  # by quarter turn


@dataclass(frozen=True, slots=True)
class Receptacle:
    """A place of a scene; ``id`` and ``location`` are spelled as in PDDL."""

    id: str
    type: str
    location: str
    openable: bool
    position: tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Scene:
    """A room: its places, the kinds of things found in it and where an agent can stand."""

    number: int
    receptacles: tuple[Receptacle, ...]
    object_types: tuple[str, ...]
    starts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """What is common to all scenes."""

    domain: str
    grammar: str
    goals: Mapping[str, Mapping[str, Any]]  # task type -> {"pddl": ..., "templates": [...]}
    contains: Mapping[str, frozenset[str]]  # receptacle type -> object types
    affords: Mapping[str, frozenset[str]]  # Heatable, Coolable, ... -> object types
    openable: frozenset[str]
    movable_receptacles: frozenset[str]


def seeded(*parts: object) -> random.Random:
    """A generator that depends on the parts alone: same in every process and on every machine."""
    digest = hashlib.sha256("|".join(map(str, parts)).encode()).digest()
    return random.Random(int.from_bytes(digest[:16], "big"))


def wheel_root() -> Path:
    """Folder of the installed alfworld package, found without importing it."""
    spec = importlib.util.find_spec("alfworld")
    places = list(spec.submodule_search_locations or ()) if spec else []
    for place in places:
        if (Path(place) / "gen" / "layouts").is_dir():
            return Path(place)
    raise EnvError(
        "ALFWorld games are generated from the scenes in the alfworld wheel, and "
        + (f"{places[0]} does not have them" if places else "it is not installed")
        + f". Fix: pip install --no-deps {WHEEL} (MIT, 0.4 MB, no compiler)."
    )


def _read(*parts: str) -> str:
    path = wheel_root().joinpath(*parts)
    try:
        return path.read_text()
    except OSError as error:
        raise EnvError(
            f"cannot read {path} of the alfworld wheel ({error}). "
            f"Fix: pip install --no-deps --force-reinstall {WHEEL}"
        ) from error


def _literals(source: str) -> dict[str, Any]:
    """Top-level assignments whose value is a literal, also ``table["key"] = literal``.

    ``table["new"] = table["old"]`` is followed, since the wheel's tables use it for aliases.
    """
    found: dict[str, Any] = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.Assign):
            continue
        target = node.targets[0]
        try:
            if isinstance(node.value, ast.Subscript):
                value = found[ast.unparse(node.value.value)][ast.literal_eval(node.value.slice)]
            else:
                value = ast.literal_eval(node.value)
            if isinstance(target, ast.Subscript):
                found[ast.unparse(target.value)][ast.literal_eval(target.slice)] = value
            else:
                found[ast.unparse(target)] = value
        except (ValueError, KeyError, TypeError):
            continue  # computed values: none of those that are used here
    return found


@cache
def tables() -> Tables:
    """Domain, grammar, goals and containment rules of the wheel."""
    constants = _literals(_read("gen", "constants.py"))
    goals = _literals(_read("gen", "goal_library.py"))["gdict"]
    movable = frozenset(constants["MOVABLE_RECEPTACLES"])
    return Tables(
        domain=_read("data", "alfred.pddl"),
        grammar=_read("data", "alfred.twl2"),
        goals=goals,
        contains={
            receptacle: frozenset(things)
            for receptacle, things in constants["VAL_RECEPTACLE_OBJECTS"].items()
        },
        affords={
            name: frozenset(things) for name, things in constants["VAL_ACTION_OBJECTS"].items()
        },
        openable=frozenset(constants["OPENABLE_CLASS_LIST"]),
        movable_receptacles=movable,
    )


def mangle(name: str) -> str:
    """ALFRED's spelling of an id (``Cup|+01.20|...``) as a PDDL symbol."""
    for plain, spelled in (("|", "_bar_"), ("+", "_plus_"), ("-", "_minus_"), (".", "_dot_")):
        name = name.replace(plain, spelled)
    return name


def object_id(kind: str, x: float, y: float, z: float, suffix: str = "") -> str:
    """The PDDL symbol of a thing at a position."""
    return mangle(f"{kind}|{x:+06.2f}|{y:+06.2f}|{z:+06.2f}{suffix}")


def _location(column: int, row: int, turn: int, horizon: int) -> str:
    return mangle(f"loc|{column}|{row}|{turn}|{horizon}")


def _view(column: int, row: int, turn: int, at: tuple[float, float, float]) -> str:
    """The location id for looking at a position: the horizon is the angle down to it.

    The layouts store a coarser angle. Computed like this, location ids are those of 94 % of the
    receptacles in ALFRED's own games, and so is which receptacles share one.
    """
    ahead = abs(at[0] - column * GRID) if turn % 2 else abs(at[2] - row * GRID)
    angle = math.degrees(math.atan2(EYE - at[1], max(ahead, 0.01)))
    return _location(column, row, turn, max(-30, min(60, 15 * round(angle / 15))))


@cache
def load_scene(number: int) -> Scene:
    """A scene with all its receptacles; the same in every game that plays in it."""
    points = json.loads(_read("gen", "layouts", f"FloorPlan{number}-openable.json"))
    kinds = set(json.loads(_read("gen", "layouts", f"FloorPlan{number}-objects.json")))
    rules = tables()
    # A table that is listed as a receptacle only inside the movable ones (Bowl, Pot) is a thing.
    fixed = (set(rules.contains) | set(ADDED)) - rules.movable_receptacles
    rng = seeded("scene", number)

    receptacles: list[Receptacle] = []
    cells: list[tuple[int, int]] = []  # where an agent stands in front of receptacle i
    for name, (x, z, rotation, _) in sorted(points.items()):
        parts = name.split("|")
        kind = parts[4] if len(parts) > 4 else parts[0]  # Sink|x|y|z|SinkBasin
        column, row = round(x / GRID), round(z / GRID)
        at = (float(parts[1]), float(parts[2]), float(parts[3]))
        place = _view(column, row, round(rotation / 90) % 4, at)
        receptacles.append(Receptacle(mangle(name), kind, place, kind in rules.openable, at))
        cells.append((column, row))

    present = {r.type for r in receptacles}
    listed = list(zip(receptacles, cells, strict=True))
    for kind, (counts, height) in ADDED.items():
        if kind in kinds and kind not in present:
            near = [cell for r, cell in listed if kind in ON_A_COUNTER and r.type == "CounterTop"]
            receptacles += _added(kind, rng.choice(counts), height, near or cells, rng, receptacles)

    taken = {r.location for r in receptacles}
    starts = [
        place
        for column, row in sorted(set(cells))
        for turn in range(4)
        if (place := _location(column, row, turn, 30)) not in taken
    ]
    things = kinds - fixed - {"Faucet", "Lamp"}  # ALFRED's text games know neither
    return Scene(number, tuple(receptacles), tuple(sorted(things)), tuple(starts))


def _added(
    kind: str,
    count: int,
    height: float,
    near: Sequence[tuple[int, int]],
    rng: random.Random,
    others: Sequence[Receptacle],
) -> Iterator[Receptacle]:
    """Receptacles the layout has no view point for. Like real ones of that sort, they do not
    open, and two in a row are reached from the same spot."""
    column, row = rng.choice(near)
    taken = {r.location for r in others}
    for i in range(count):
        aside = 0.22 * (i % 2)
        while i % 2 == 0:
            cell = column + rng.randint(-2, 2), row + rng.randint(-2, 2)
            turn = rng.randrange(4)
            front = (cell[0] * GRID + AHEAD[turn][0], height, cell[1] * GRID + AHEAD[turn][1])
            place = _view(*cell, turn, front)
            if place not in taken:
                taken.add(place)
                break
        x, z = round(front[0] + aside, 2), round(front[2] + aside, 2)
        # Spelled Sink|...|SinkBasin: one that starts with the type is called sinkbasinbasin.
        name, suffix = ("Sink", "|SinkBasin") if kind == "SinkBasin" else (kind, "")
        yield Receptacle(object_id(name, x, height, z, suffix), kind, place, False, (x, height, z))


def by_type(room: Scene) -> dict[str, list[Receptacle]]:
    """The receptacles of a scene, grouped by type."""
    grouped: dict[str, list[Receptacle]] = defaultdict(list)
    for receptacle in room.receptacles:
        grouped[receptacle.type].append(receptacle)
    return grouped
