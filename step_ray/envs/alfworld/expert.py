"""A state-aware ALFWorld expert: the next sensible turn from any state of a :class:`Belief`.

It searches as an agent must: receptacle types in an order of plausibility, then in the order of
the first observation, skipping what was seen already. What the agent saw once is remembered.

:func:`stage_of` says what the task needs now, :func:`plan` turns that into one action, and
:func:`next_turn` adds the thought. Two optional arguments save it vain attempts and never tell
where an object is: ``admissible``, the actions the world would accept now (so, which receptacles
are within reach), and ``accepts(receptacle, item)``, whether a receptacle takes such an object.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from step_ray.envs.alfworld.belief import Belief, Place, kind_of
from step_ray.envs.alfworld.plausible import may_hold, rank
from step_ray.envs.alfworld.thoughts import VERB, thought_of

if TYPE_CHECKING:
    from step_ray.envs.alfworld.engine import Goal

APPLIANCE = {"clean": "sinkbasin", "hot": "microwave", "cool": "fridge"}

Accepts = Callable[[str, str], bool]
Need = Literal["search", "fetch", "process", "deliver", "drop", "lamp_search", "lamp"]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the task needs now.

    ``item`` is the object in question (an id; for the searches its type) and ``places`` are the
    receptacles where this need can be met, the best first; empty while searching.
    """

    need: Need
    item: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """One action, and the names that its thought speaks of."""

    case: str
    action: str
    item: str = ""
    place: str = ""


def reachable(belief: Belief, admissible: Collection[str] | None) -> frozenset[str]:
    """Receptacles at the present spot, as far as known."""
    if admissible is None:
        return belief.reach
    return belief.reach.union(name for name in belief.places if f"examine {name}" in admissible)


def gathering_place(belief: Belief, goal: Goal) -> str:
    """The target receptacle that holds most of the goal's objects; "" if none holds one.

    Two objects have to end up in one and the same receptacle.
    """
    counts: dict[str, int] = {}
    for item, place in belief.known(goal.object):
        if kind_of(place) == goal.target and belief.has_state(item, goal.state):
            counts[place] = counts.get(place, 0) + 1
    return max(counts, key=lambda place: counts[place]) if counts else ""


def candidates(belief: Belief, goal: Goal) -> list[tuple[str, str]]:
    """(item, place) of known objects that may still be fetched for the task."""
    gathered = gathering_place(belief, goal)
    return [
        (item, place)
        for item, place in belief.known(goal.object)
        if not (place == gathered and belief.has_state(item, goal.state))
        and f"take {item} from {place}" not in belief.refused
    ]


def stage_of(
    belief: Belief,
    goal: Goal,
    admissible: Collection[str] | None = None,
    accepts: Accepts | None = None,
) -> Stage:
    """What the task needs in the present state of knowledge."""
    reach = reachable(belief, admissible)
    held = belief.held
    if held and kind_of(held) != goal.object:
        return Stage("drop", held, _drop_places(belief, held, reach, accepts))
    if not held:
        known = candidates(belief, goal)
        if not known:
            return Stage("search", goal.object)
        known.sort(
            key=lambda found: (
                found[1] not in reach,
                not belief.has_state(found[0], goal.state),
                kind_of(found[1]) == goal.target,
            )
        )
        best = known[0][0]
        return Stage("fetch", best, tuple(place for item, place in known if item == best))
    if goal.lamp:
        lamps = [
            place for lamp, place in belief.known(goal.lamp) if f"use {lamp}" not in belief.refused
        ]
        lamps.sort(key=lambda place: place not in reach)
        return Stage("lamp", held, tuple(lamps)) if lamps else Stage("lamp_search", goal.lamp)
    if goal.state and not belief.has_state(held, goal.state):
        verb, kind = VERB[goal.state], APPLIANCE[goal.state]
        names = [
            place.name
            for place in belief.of_kind(kind)
            if f"{verb} {held} with {place.name}" not in belief.refused
        ]
        names.sort(key=lambda name: name not in reach)
        return Stage("process", held, tuple(names))
    return Stage("deliver", held, _targets(belief, goal, held, reach))


def plan(
    belief: Belief,
    goal: Goal,
    admissible: Collection[str] | None = None,
    accepts: Accepts | None = None,
) -> Plan:
    """The expert's next action."""
    stage = stage_of(belief, goal, admissible, accepts)
    reach = reachable(belief, admissible)
    if stage.need in ("search", "lamp_search"):
        return _search(belief, goal, stage.item, reach)
    if not stage.places:  # nothing known could help: see more of the room
        return _search(belief, goal, stage.item, reach)
    item, name = stage.item, stage.places[0]
    place = belief.places[name]
    if name not in reach:
        return Plan(f"{stage.need}_go", f"go to {name}", item, name)
    if stage.need == "process" and goal.state:  # works with a closed appliance as well
        return Plan("process", f"{VERB[goal.state]} {item} with {name}", item, name)
    if stage.need == "lamp":
        lamp = next(lamp for lamp, spot in belief.known(goal.lamp) if spot == name)
        return Plan("lamp", f"use {lamp}", lamp, name)
    if place.closed:
        return Plan(f"{stage.need}_open", f"open {name}", item, name)
    if stage.need == "fetch":
        redo = kind_of(name) == goal.target and not belief.has_state(item, goal.state)
        return Plan("redo" if redo else "fetch", f"take {item} from {name}", item, name)
    if place.openable is False and place.kind in _MAYBE_CLOSED and not place.visited:
        return Plan(f"{stage.need}_look", f"examine {name}", item, name)
    return Plan(stage.need, belief.put(item, name), item, name)


_MAYBE_CLOSED = frozenset({"cabinet", "drawer", "fridge", "microwave", "safe"})


def next_turn(
    belief: Belief,
    goal: Goal,
    admissible: Collection[str] | None = None,
    accepts: Accepts | None = None,
) -> tuple[str, str]:
    """(thought, action) from any state."""
    chosen = plan(belief, goal, admissible, accepts)
    return thought_of(belief, goal, chosen.case, chosen.item, chosen.place), chosen.action


def unexplored(belief: Belief, goal: Goal, kind: str) -> list[Place]:
    """Receptacles whose contents were never seen, in the order in which the expert looks."""
    places = [
        place
        for place in belief.places.values()
        if not place.seen and f"open {place.name}" not in belief.refused
    ]
    # What already lies at the target needs nothing more, so one looks there last.
    done = goal.target if kind == goal.object and goal.count == 1 and not goal.state else None
    places.sort(key=lambda place: (place.kind == done, rank(kind, place.kind)))
    return places


def _search(belief: Belief, goal: Goal, kind: str, reach: frozenset[str]) -> Plan:
    places = unexplored(belief, goal, kind)
    here = belief.places.get(belief.here)
    if here and here.closed and not here.seen and here in places:
        return Plan("search_open", f"open {here.name}", kind, here.name)
    if not places:
        return Plan("stuck", "look", kind)
    place = places[0]
    if place.name not in reach:
        return Plan("search_go", f"go to {place.name}", kind, place.name)
    if place.closed:
        return Plan("search_open", f"open {place.name}", kind, place.name)
    return Plan("search_look", f"examine {place.name}", kind, place.name)


def _targets(belief: Belief, goal: Goal, held: str, reach: frozenset[str]) -> tuple[str, ...]:
    gathered = gathering_place(belief, goal) if goal.count > 1 else ""
    names = [
        place.name
        for place in belief.of_kind(goal.target)
        if belief.put(held, place.name) not in belief.refused
    ]
    names.sort(
        key=lambda name: (
            name != gathered,
            name not in reach,
            belief.places[name].closed is not False,
        )
    )
    return tuple(names)


def _drop_places(
    belief: Belief, held: str, reach: frozenset[str], accepts: Accepts | None
) -> tuple[str, ...]:
    """Where to put a thing that the task does not need: here if possible, else whence it came."""
    kind, origin = kind_of(held), belief.origin.get(held, "")
    places = []
    for place in belief.places.values():
        if belief.put(held, place.name) in belief.refused:
            continue
        back = place.name == origin
        if accepts(place.name, held) if accepts else back or may_hold(kind, place.kind):
            here = place.name in reach and not place.closed
            places.append((not here, not back, rank(kind, place.kind), place.name))
    places.sort(key=lambda entry: entry[:3])
    return tuple(entry[3] for entry in places)
