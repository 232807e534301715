"""How far an ALFWorld state is from its goal: an exact search on the native engine.

The search knows everything, and leaves out only what can never shorten the way: looking, closing,
slicing, handling things the task does not name (but for putting one down), and going somewhere to
do nothing. So its moves are errands: go to a place, open what has to be open, do one thing there.
Of places that are alike in all that matters one is tried.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterator

from step_ray.envs.alfworld.engine import Game, State
from step_ray.envs.alfworld.expert import APPLIANCE
from step_ray.envs.alfworld.thoughts import VERB

FAR = 99


def distance(state: State, known: Collection[str] | None = None) -> int:
    """The least number of actions to the win; FAR if there is no way.

    ``known``: of the goal's objects and lamps, only these can be taken or used.
    """
    order = itertools.count()
    queue = [(_least(state), 0, next(order), state)]
    best = {state.key(): 0}
    while queue:
        _, cost, _, now = heapq.heappop(queue)
        if now.won():
            return cost
        if cost > best[now.key()]:
            continue
        for errand in _errands(now, known):
            after = now.fork()
            spent = 0
            for command in errand:
                _, valid = after.step(command)
                assert valid, (errand, command)
                spent += 1
                if after.won():
                    break
            total = cost + spent
            if total < best.get(after.key(), FAR):
                best[after.key()] = total
                heapq.heappush(queue, (total + _least(after), total, next(order), after))
    return FAR


def _least(state: State) -> int:
    """A bound from below. What is missing at a target has to be taken, put, brought into the
    wanted state, and one has to be where it is and where the target is."""
    game, goal = state.game, state.game.goal
    if goal.target is None or state.won():
        return 0
    targets = [place for place in game.receptacles if game.type_of[place] == goal.target]
    spots = {_spot(game, place) for place in targets}
    here = {_spot(game, place) for place in state.here}
    there, ready, lying = dict.fromkeys(targets, 0), False, set()
    for name in game.objects:
        if game.type_of[name] != goal.object:
            continue
        finished = _finished(state, name)
        ready = ready or finished
        for place in state.receptacles_of(name):
            lying.add(_spot(game, place))
            if place in there:
                there[place] += finished
    carried = state.holding is not None and game.type_of[state.holding] == goal.object
    far = not carried and lying.isdisjoint(here) and lying.isdisjoint(spots)
    actions = max(1, 2 * (goal.count - max(there.values(), default=0)) - carried)
    return actions + (not ready) + far + here.isdisjoint(spots)


def _finished(state: State, name: str) -> bool:
    asked = {"clean": state.is_clean, "hot": state.is_hot, "cool": state.is_cool}
    return state.game.goal.state is None or asked[state.game.goal.state](name)


def _errands(state: State, known: Collection[str] | None) -> Iterator[tuple[str, ...]]:
    game, goal, held = state.game, state.game.goal, state.holding
    usable = [
        name
        for name in game.objects
        if game.type_of[name] in (goal.object, goal.lamp) and (known is None or name in known)
    ]
    homes = {name: state.receptacles_of(name) for name in usable if name != held}
    for lamp in (name for name in usable if goal.lamp == game.type_of[name]):
        for place in _standing(game, homes.get(lamp, ())):
            yield (*_go(state, place), f"use {lamp}")
    if held is None:
        for name, places in homes.items():
            if game.type_of[name] == goal.object:
                for place in _standing(game, places):
                    yield (*_reach(state, place), f"take {name} from {place}")
        return
    if goal.state and game.type_of[held] == goal.object:
        for place in game.receptacles:
            command = f"{VERB[goal.state]} {held} with {place}"
            there = _go(state, place)
            if game.type_of[place] == APPLIANCE[goal.state] and _works(state, (*there, command)):
                yield (*there, command)
    special = {place for places in homes.values() for place in places}
    special |= {place for place in game.receptacles if game.type_of[place] in APPLIANCE.values()}
    spots = {_spot(game, place) for place in special} | {_spot(game, p) for p in state.here}
    tried = set()
    for place in _standing(game, game.receptacles):
        if not state.can_contain(place, held):
            continue
        spot = _spot(game, place)
        alike = (
            spot if spot in spots else None,
            state.is_open(place) is False,
            game.type_of[place] == goal.target,
            tuple(sorted(name for name, places in homes.items() if place in places)),
        )
        if alike not in tried:
            tried.add(alike)
            put = (
                f"put {held} in/on {place}" if game.dialect == "put" else f"move {held} to {place}"
            )
            yield (*_reach(state, place), put)


def _works(state: State, errand: tuple[str, ...]) -> bool:
    trial = state.fork()
    return all(trial.step(command)[1] for command in errand)


def _standing(game: Game, places: Collection[str]) -> list[str]:
    """Those that one can go to."""
    return [place for place in places if _spot(game, place) >= 0]


def _spot(game: Game, place: str) -> int:
    return game.world.place_of[game.world.receptacle_index[place]]


def _go(state: State, place: str) -> tuple[str, ...]:
    return () if place in state.here else (f"go to {place}",)


def _reach(state: State, place: str) -> tuple[str, ...]:
    opened = (f"open {place}",) if state.is_open(place) is False else ()
    return (*_go(state, place), *opened)
