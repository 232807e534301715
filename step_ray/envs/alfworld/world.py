"""The unchanging part of a game as integers and bit masks, made once for all its episodes.

Receptacles, objects and locations are numbered in ascending order of their ids, the order of all
listings; a set of objects is an int whose bit i stands for object i.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from step_ray.envs.alfworld.dialect import Dialect
from step_ray.envs.alfworld.pddl import CorruptGame, Goal, Problem, UnsolvableGame

__all__ = ["Start", "World", "bits", "human_names"]


class Start(NamedTuple):
    """What holds at first, in the form the state keeps it."""

    location: int
    held: int  # object, -1: nothing
    contents: tuple[int, ...]  # by receptacle: mask of the objects in it
    located: tuple[int, ...]  # by location: mask of the objects said to be there
    opened: int  # mask of receptacles
    clean: int
    hot: int
    cool: int
    toggled: int
    sliced: int


def bits(mask: int) -> Iterator[int]:
    """The numbers in a mask, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def human_names(ids: Iterable[str], shuffle: bool = False) -> dict[str, str]:
    """``cabinet_bar__minus_00...`` -> ``cabinet 3``, as ALFWorld's demangler numbers them.

    The last id of a base name is number 1. ``shuffle`` draws the numbering from the global
    generator, as the original does: every id counts, also those that never get a name.
    """
    order = sorted(ids)
    if shuffle:
        random.shuffle(order)
    count: Counter[str] = Counter()
    names = {}
    for name in reversed(order):
        base, bar, _ = name.partition("_bar_")
        if bar:
            if "basin" in name:
                base += "basin"
            count[base] += 1
            names[name] = f"{base} {count[base]}"
    return names


class World:
    """Names, places, affordances and the grounded goal of a game. Never changes once made."""

    def __init__(self, problem: Problem, dialect: Dialect, shuffle: bool) -> None:
        ids = {name for atoms in problem.facts.values() for atom in atoms for name in atom}
        named = human_names(ids, shuffle)
        by_kind: dict[str, list[str]] = {"receptacle": [], "object": [], "location": []}
        for name in sorted(ids):
            by_kind.setdefault(problem.kinds[name], []).append(name)
        receptacles, objects, places = (by_kind[k] for k in ("receptacle", "object", "location"))
        for name in (*receptacles, *objects, *places):
            if name not in named:
                raise CorruptGame(f"the PDDL problem has an id without position: {name}")
        self.verb, self.help = dialect.verb, dialect.help
        self.goal: Goal = problem.goal
        self.receptacle_names = tuple(named[name] for name in receptacles)
        self.object_names = tuple(named[name] for name in objects)
        self.place_names = tuple(named[name] for name in places)
        self.receptacle_index = {name: i for i, name in enumerate(self.receptacle_names)}
        self.object_index = {name: i for i, name in enumerate(self.object_names)}
        self._receptacle_ids = {name: i for i, name in enumerate(receptacles)}
        self._object_ids = {name: i for i, name in enumerate(objects)}
        self._place_ids = {name: i for i, name in enumerate(places)}

        self._read_places(problem)
        self._read_affordances(problem, dialect)
        self.start = self._read_start(problem)
        self._ground_goal()
        self._check_solvable()
        self.go_commands = tuple(  # by location: the receptacles elsewhere
            tuple(
                f"go to {name}"
                for name, at in zip(self.receptacle_names, self.place_of, strict=True)
                if at >= 0 and at != here
            )
            for here in range(len(places))
        )

    # --- reading the facts ------------------------------------------------------------------

    def _read_places(self, problem: Problem) -> None:
        self.place_of = [-1] * len(self.receptacle_names)  # location of a receptacle
        for name, place in problem.of("receptacleatlocation"):
            receptacle = _index(self._receptacle_ids, name, "receptacle")
            if self.place_of[receptacle] >= 0:
                raise CorruptGame(f"receptacle {name} stands at two locations")
            self.place_of[receptacle] = _index(self._place_ids, place, "location")
        self.receptacles_at: tuple[tuple[int, ...], ...] = tuple(
            tuple(r for r, at in enumerate(self.place_of) if at == place)
            for place in range(len(self.place_names))
        )
        self.listed = tuple(r for r, at in enumerate(self.place_of) if at >= 0)

    def _read_affordances(self, problem: Problem, dialect: Dialect) -> None:
        def mask(predicate: str) -> int:
            return _mask(self._object_ids, (atom[0] for atom in problem.of(predicate)))

        self.openable = _mask(self._receptacle_ids, (a[0] for a in problem.of("openable")))
        self.pickupable, self.toggleable = mask("pickupable"), mask("toggleable")
        self.cleanable, self.heatable = mask("cleanable"), mask("heatable")
        self.coolable, self.sliceable = mask("coolable"), mask("sliceable")
        self.is_receptacle = mask("isreceptacleobject")
        self.inner = [0] * len(self.object_names)  # what a receptacle object shows; never changes
        for name, outer in problem.of("inreceptacleobject"):
            if name != outer:  # an object inside itself is not listed
                o = _index(self._object_ids, outer, "object")
                self.inner[o] |= 1 << _index(self._object_ids, name, "object")
        self.receptacle_type = _types(
            self._receptacle_ids, problem.of("receptacletype"), "receptacle"
        )
        self.object_type = _types(self._object_ids, problem.of("objecttype"), "object")
        self.of_type: dict[str, int] = {}  # object type -> mask
        for o, kind in enumerate(self.object_type):
            self.of_type[kind] = self.of_type.get(kind, 0) | 1 << o
        fits: dict[str, int] = {}
        for receptacle_type, kind in problem.of("cancontain"):
            fits[receptacle_type] = fits.get(receptacle_type, 0) | self.of_type.get(kind, 0)
        self.fits = tuple(fits.get(kind, 0) for kind in self.receptacle_type)
        self.knives = self.of_type.get("knifetype", 0) | self.of_type.get("butterknifetype", 0)
        self.cleaners = _having(self.receptacle_type, dialect.cleaners)
        self.heaters = _having(self.receptacle_type, ("microwavetype",))
        self.coolers = _having(self.receptacle_type, ("fridgetype",))

    def _read_start(self, problem: Problem) -> Start:
        if len(problem.of("atlocation")) != 1 or len(problem.of("holds")) > 1:
            raise CorruptGame("the agent must be at one location and hold at most one object")
        contents = [0] * len(self.receptacle_names)
        for name, receptacle in problem.of("inreceptacle"):
            r = _index(self._receptacle_ids, receptacle, "receptacle")
            contents[r] |= 1 << _index(self._object_ids, name, "object")
        located = [0] * len(self.place_names)
        for name, place in problem.of("objectatlocation"):
            at = _index(self._place_ids, place, "location")
            located[at] |= 1 << _index(self._object_ids, name, "object")
        held = [_index(self._object_ids, name, "object") for _, name in problem.of("holds")]

        def mask(predicate: str) -> int:
            return _mask(self._object_ids, (atom[0] for atom in problem.of(predicate)))

        return Start(
            _index(self._place_ids, problem.of("atlocation")[0][1], "location"),
            held[0] if held else -1,
            tuple(contents),
            tuple(located),
            _mask(self._receptacle_ids, (atom[0] for atom in problem.of("opened"))),
            *map(mask, ("isclean", "ishot", "iscool", "istoggled", "issliced")),
        )

    # --- the goal ---------------------------------------------------------------------------

    def _ground_goal(self) -> None:
        """The goal's static conditions as masks, so that a win is a few integer operations."""
        goal = self.goal
        self.goal_objects = self.of_type.get(f"{goal.object}type", 0)
        if goal.state:
            able = {"clean": self.cleanable, "hot": self.heatable, "cool": self.coolable}
            self.goal_objects &= able[goal.state]
        self.goal_receptacles = tuple(bits(_having(self.receptacle_type, (f"{goal.target}type",))))
        self.goal_lamps = self.of_type.get(f"{goal.lamp}type", 0) & self.toggleable

    def _check_solvable(self) -> None:
        """Refuses a goal out of reach even if nothing an action undoes were ever undone.

        As the original does, except that it does not notice when one of two objects is missing.
        """
        start, goal = self.start, self.goal
        lying = 0  # in a receptacle one can go to; all of those can be opened
        for r in self.listed:
            lying |= start.contents[r]
        holdable = lying & self.pickupable
        if start.held >= 0:
            holdable |= 1 << start.held
        if goal.target is None:
            usable = lying
            for r in self.listed:
                usable |= holdable & self.fits[r]
            solvable = bool(self.goal_lamps & usable and self.goal_objects & holdable)
        else:
            wanted = self.goal_objects
            if goal.state:
                doers, done = {
                    "clean": (self.cleaners, start.clean),
                    "hot": (self.heaters, start.hot),
                    "cool": (self.coolers, start.cool),
                }[goal.state]
                here = any(doers >> r & 1 for r in self.listed)
                wanted &= done | (holdable if here else 0)
            solvable = any(
                (
                    wanted
                    & (
                        start.contents[r]
                        | (holdable & self.fits[r] if self.place_of[r] >= 0 else 0)
                    )
                ).bit_count()
                >= goal.count
                for r in self.goal_receptacles
            )
        if not solvable:
            raise UnsolvableGame(
                f"the goal ({goal.task_type} of {goal.object}, {goal.target or goal.lamp}) is out "
                'of reach in this room; skip the game, as for files marked "solvable": false'
            )


def _index(ids: Mapping[str, int], name: str, kind: str) -> int:
    try:
        return ids[name]
    except KeyError:
        raise CorruptGame(f"the PDDL problem uses {name} as a {kind}, which it is not") from None


def _mask(ids: Mapping[str, int], names: Iterable[str]) -> int:
    mask = 0
    for name in names:
        mask |= 1 << _index(ids, name, "thing of that kind")
    return mask


def _types(ids: Mapping[str, int], atoms: Iterable[Sequence[str]], kind: str) -> tuple[str, ...]:
    types = [""] * len(ids)
    for name, type_name in atoms:
        i = _index(ids, name, kind)
        if types[i] not in ("", type_name):
            raise CorruptGame(f"{kind} {name} has two types")
        types[i] = type_name
    return tuple(types)


def _having(types: Sequence[str], wanted: Sequence[str]) -> int:
    mask = 0
    for i, kind in enumerate(types):
        if kind in wanted:
            mask |= 1 << i
    return mask
