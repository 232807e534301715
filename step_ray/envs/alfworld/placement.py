"""Where things lie in a generated scene.

The containment rules of the wheel say what may lie where; the small tables below say how likely.
They were tuned by hand until rooms look like ALFRED's: full tables, mostly empty drawers.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from step_ray.envs.alfworld.scenes import Receptacle, Scene, load_scene, object_id, tables

# How strongly one receptacle of a type attracts things that may lie there (a counter top is 1).
ATTRACTION: Mapping[str, float] = {
    "CounterTop": 1.0,
    "DiningTable": 1.9,
    "CoffeeTable": 1.4,
    "SideTable": 0.7,
    "Desk": 1.5,
    "Dresser": 1.5,
    "Bed": 3.0,
    "Sofa": 1.4,
    "ArmChair": 0.45,
    "Ottoman": 0.5,
    "TVStand": 2.0,
    "Cart": 1.0,
    "Toilet": 0.6,
    "Fridge": 1.4,
    "Microwave": 0.4,
    "SinkBasin": 0.45,
    "BathtubBasin": 1.9,
    "GarbageCan": 0.4,
    "StoveBurner": 2.4,
    "CoffeeMachine": 0.6,
    "Shelf": 0.3,
    "Cabinet": 0.19,
    "Drawer": 0.2,
    "Safe": 0.4,
    "TowelHolder": 9.0,
    "HandTowelHolder": 30.0,
    "ToiletPaperHanger": 0.4,
    "LaundryHamper": 0.0,
    "Toaster": 0.0,
}
# Where some things lie more, or less, often than that; 0 means never at the start.
FONDNESS: Mapping[tuple[str, str], float] = {
    ("Apple", "CounterTop"): 0.6,
    ("Bowl", "Cabinet"): 1.3,
    ("Bread", "Fridge"): 0.35,
    ("Bread", "GarbageCan"): 0.0,
    ("Bread", "Microwave"): 0.0,
    ("ButterKnife", "Drawer"): 0.4,
    ("CellPhone", "Bed"): 0.6,
    ("Cloth", "Cabinet"): 3.0,
    ("Egg", "CounterTop"): 0.6,
    ("Egg", "DiningTable"): 0.6,
    ("Kettle", "CounterTop"): 1.9,
    ("Laptop", "SideTable"): 0.25,
    ("Lettuce", "GarbageCan"): 0.1,
    ("Pan", "CounterTop"): 2.2,
    ("Plate", "Cabinet"): 1.6,
    ("Plate", "Microwave"): 0.1,
    ("Pot", "Cabinet"): 0.4,
    ("Potato", "CounterTop"): 0.7,
    ("SoapBottle", "Drawer"): 0.1,
    ("SprayBottle", "Drawer"): 0.05,
    ("Statue", "Shelf"): 1.5,
    ("Television", "Dresser"): 6.0,
    ("Television", "TVStand"): 20.0,
    ("Tomato", "Microwave"): 0.0,
    ("Vase", "Shelf"): 1.8,
    ("WineBottle", "Fridge"): 0.1,
}
# Receptacles that hold one thing at a time.
SINGLE = frozenset(
    ("StoveBurner", "CoffeeMachine", "TowelHolder", "HandTowelHolder", "ToiletPaperHanger")
)
# Furnishings the containment rules do not name, as no task moves them, and where they stand.
STANDS_ON: Mapping[str, tuple[str, ...]] = {
    "DeskLamp": ("Desk", "SideTable", "Dresser", "Shelf", "CoffeeTable"),
    "HousePlant": ("CounterTop", "SideTable", "DiningTable", "Shelf", "CoffeeTable", "Dresser"),
    "Television": ("TVStand", "Dresser", "CoffeeTable", "SideTable"),
    "PaperTowelRoll": ("CounterTop", "DiningTable", "Shelf", "GarbageCan"),
    "TeddyBear": ("Bed",),
}
# Cannot be picked up.
# fmt: off
FIXTURES = frozenset((
    "Bathtub", "Blinds", "Chair", "Curtains", "DeskLamp", "FloorLamp", "Footstool", "HousePlant",
    "LaundryHamperLid", "LightSwitch", "Mirror", "Painting", "Poster", "ShowerCurtain",
    "ShowerDoor", "ShowerGlass", "ShowerHead", "Sink", "StoveKnob", "Television", "Window",
))
# fmt: on
# Could be picked up, but lie on the floor, where the text game cannot reach them.
ON_THE_FLOOR = frozenset(
    ("BaseballBat", "BasketBall", "Boots", "Plunger", "ScrubBrush", "TennisRacket")
)
# How many of a kind, one of these; others 1 to 3 as in ALFRED's scene randomisation.
COPIES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("Pan", "Pot", "Bread", "Laptop", "Pillow", "Kettle"), (1, 1, 2)),
    **dict.fromkeys(("Box", "HandTowel", "Towel", "WateringCan"), (1, 1, 1, 2)),
    **dict.fromkeys(STANDS_ON, (1,)),
    "Vase": (2, 2, 3),
}
MANY = (1, 2, 3)
COLD = 0.05  # of the coolable things in a fridge that count as cold from the start
NESTED = 0.02  # of the things beside a bowl, cup, pan, ... that also count as lying in it


@dataclass(frozen=True, slots=True)
class Placement:
    """One thing: in a receptacle, or only at a location (fixtures, things on the floor)."""

    id: str
    kind: str
    receptacle: Receptacle | None
    location: str
    cold: bool = False


@cache
def _hosts(number: int, kind: str) -> tuple[tuple[Receptacle, ...], tuple[float, ...]]:
    """The receptacles of a scene that a kind may start in, with their weights."""
    found: list[tuple[Receptacle, float]] = []
    contains = tables().contains
    for receptacle in load_scene(number).receptacles:
        name = receptacle.type
        if name in STANDS_ON.get(kind, ()) or kind in contains.get(name, ()):
            weight = ATTRACTION[name] * FONDNESS.get((kind, name), 1.0)
            if weight > 0 and kind not in ON_THE_FLOOR:
                found.append((receptacle, weight))
    return tuple(r for r, _ in found), tuple(w for _, w in found)


def goal_fits(room: Scene, kind: str, target: str, wanted: int) -> bool:
    """Whether ``wanted`` things of a kind can start outside the receptacles of the target type."""
    outside = [r for r in _hosts(room.number, kind)[0] if r.type != target]
    return sum(1 if r.type in SINGLE else wanted for r in outside) >= wanted


class _Room:
    """The state of one scattering."""

    def __init__(self, room: Scene, rng: random.Random) -> None:
        self.room, self.rng = room, rng
        self.things: list[Placement] = []
        self.used: set[str] = set()
        self.occupied: set[str] = set()

    def _name(self, kind: str, near: tuple[float, float, float], spread: float) -> str:
        uniform = self.rng.uniform
        while True:
            x, y, z = near
            name = object_id(
                kind,
                x + uniform(-spread, spread),
                y + uniform(0.0, 0.3),
                z + uniform(-spread, spread),
            )
            if name not in self.used:
                self.used.add(name)
                return name

    def put(self, kind: str, avoid: str = "", may_be_cold: bool = True) -> bool:
        """Lays a thing into a likely receptacle; False if no place is left for it."""
        hosts, weights = _hosts(self.room.number, kind)
        for _ in range(2):
            if not hosts:
                return False
            receptacle = self.rng.choices(hosts, weights)[0]
            if receptacle.type != avoid and receptacle.id not in self.occupied:
                break
            free = [
                (r, w)
                for r, w in zip(hosts, weights, strict=True)
                if r.type != avoid and r.id not in self.occupied
            ]
            hosts, weights = tuple(r for r, _ in free), tuple(w for _, w in free)
        if receptacle.type in SINGLE:
            self.occupied.add(receptacle.id)
        coolable = receptacle.type == "Fridge" and kind in tables().affords["Coolable"]
        cold = coolable and may_be_cold and self.rng.random() < COLD
        name = self._name(kind, receptacle.position, 0.35)
        self.things.append(Placement(name, kind, receptacle, receptacle.location, cold))
        return True

    def leave(self, kind: str) -> None:
        """Leaves a thing somewhere in the room, in no receptacle."""
        near = self.rng.choice(self.room.receptacles)
        name = self._name(kind, near.position, 1.5)
        self.things.append(Placement(name, kind, None, near.location))


def scatter(
    room: Scene, rng: random.Random, kind: str, copies: int, target: str, outside: int, cool: bool
) -> list[Placement]:
    """Fills a scene. The first ``outside`` of the goal's ``copies`` stay out of the target type.

    ``cool``: the goal is to cool the thing, so none of its kind may be cold from the start.
    """
    filled = _Room(room, rng)
    for i in range(copies):
        if not filled.put(kind, avoid=target if i < outside else "", may_be_cold=not cool):
            break
    for other in room.object_types:
        if other == kind:
            continue
        for _ in range(rng.choice(COPIES.get(other, (1,) if other in FIXTURES else MANY))):
            placed = (other not in FIXTURES or other in STANDS_ON) and filled.put(other)
            if not placed:
                filled.leave(other)
                break  # one on the floor is enough
    return filled.things


def nested(things: list[Placement], rng: random.Random) -> list[tuple[Placement, Placement]]:
    """Some (inner, outer) pairs of things that lie in the same receptacle."""
    rules = tables()
    return [
        (inner, outer)
        for outer in things
        if outer.kind in rules.movable_receptacles and outer.receptacle
        for inner in things
        if inner.receptacle is outer.receptacle
        and inner.kind in rules.contains.get(outer.kind, ())
        and rng.random() < NESTED
    ]
