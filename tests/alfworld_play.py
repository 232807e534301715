"""Ways to play an ALFWorld game in tests: a biased random walk, a plain solution, odd starts."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from step_ray.envs.alfworld.engine import State
from step_ray.envs.alfworld.world import bits

# How often a kind of command is drawn, relative to the others that are possible.
WEIGHTS = {
    "take": 5.0,
    "put": 4.0,
    "move": 4.0,
    "open": 4.0,
    "close": 1.0,
    "clean": 6.0,
    "heat": 6.0,
    "cool": 6.0,
    "use": 3.0,
    "slice": 8.0,
    "examine": 1.5,
    "look": 1.5,
    "inventory": 0.5,
    "help": 0.5,
}
GO = 6.0  # all "go to" together


def draw(admissible: Sequence[str], rng: random.Random, wrong: float = 0.14) -> str:
    """A command for a walk that meets rare rules often; a share of them is wrong on purpose."""
    stations = ("go to sinkbasin", "go to microwave", "go to fridge")
    moves = [5.0 if c.startswith(stations) else 1.0 for c in admissible if c.startswith("go ")]
    share = GO / sum(moves) if moves else 0.0
    weights = [
        WEIGHTS.get(c.split()[0], share * (5 if c.startswith(stations) else 1)) for c in admissible
    ]
    command = rng.choices(admissible, weights)[0]
    return spoil(command, rng) if rng.random() < wrong else command


def spoil(command: str, rng: random.Random) -> str:
    """A command that is near a valid one, and mostly invalid."""
    words = command.split()
    return rng.choice(
        (
            command.upper(),
            command.capitalize(),
            command.replace(" ", "  ", 1),
            f"  {command}\n",  # valid: outer white space does not count
            f"{command} please",
            f"{command} 1",
            " ".join(words[:-1]),
            words[0],
            "",
            " ",
            "dance",
            "go to loc 1",
            "examine agent1",
            "take nothing 1 from nowhere 1",
            command.replace("put ", "move ").replace(" in/on ", " to "),
            command.replace("move ", "put ").replace(" to ", " in/on "),
            re.sub(r"\d+", lambda m: str(int(m[0]) + rng.choice((-1, 1, 10))), command),
            re.sub(r"(\d+)", r"0\1", command),
        )
    )


def solution(state: State) -> Iterator[str]:
    """Commands that win a game, found by looking into all receptacles; steps the state itself."""
    game, goal = state.game, state.game.goal
    joint = " in/on " if game.dialect == "put" else " to "

    def do(command: str) -> str:
        _, valid = state.step(command)
        assert valid, (command, state.admissible())
        return command

    def approach(place: str) -> Iterator[str]:
        if place not in state.here:
            yield do(f"go to {place}")
        if state.is_open(place) is False:
            yield do(f"open {place}")

    def of_type(names: Sequence[str], kind: str | None) -> list[str]:
        return [name for name in names if game.type_of[name] == kind]

    stations = {"clean": "sinkbasin", "hot": "microwave", "cool": "fridge"}
    verbs = {"clean": "clean", "hot": "heat", "cool": "cool"}
    targets = of_type(game.receptacles, goal.target)
    target = targets[0] if targets else ""
    for name in of_type(game.objects, goal.object):
        if state.won():
            return
        places = state.receptacles_of(name)
        if not places or target in places:
            continue
        yield from approach(places[0])
        if f"take {name} from {places[0]}" not in state.admissible():
            continue
        yield do(f"take {name} from {places[0]}")
        if goal.lamp:
            lamp = next(n for n in of_type(game.objects, goal.lamp) if state.receptacles_of(n))
            yield from approach(state.receptacles_of(lamp)[0])
            yield do(f"use {lamp}")
            return
        if goal.state:
            station = of_type(game.receptacles, stations[goal.state])[0]
            yield from approach(station)
            yield do(f"{verbs[goal.state]} {name} with {station}")
        yield from approach(target)
        yield do(f"{'put' if game.dialect == 'put' else 'move'} {name}{joint}{target}")


def crossing(state: State) -> Iterator[str]:
    """Moves a thing between two open receptacles with one view point: the only thing that shows
    "next to it". Steps the state; gives nothing where the room has no such pair."""
    game = state.game
    verb, joint = ("put", "in/on") if game.dialect == "put" else ("move", "to")

    def do(command: str) -> str:
        assert state.step(command)[1], (command, state.admissible())
        return command

    if state.holding:
        return
    for place in game.receptacles:
        trial = state.fork()
        if place not in trial.here and not trial.step(f"go to {place}")[1]:
            continue
        for other in trial.here:
            for name in trial.contents(place):
                movable = f"take {name} from {place}" in _opened(trial).admissible()
                if other == place or not movable or not state.can_contain(other, name):
                    continue
                if place not in state.here:
                    yield do(f"go to {place}")
                for shut in (place, other):
                    if state.is_open(shut) is False:
                        yield do(f"open {shut}")
                for command in (
                    "look",
                    f"take {name} from {place}",
                    "look",
                    f"{verb} {name} {joint} {other}",
                    "look",
                    f"examine {place}",
                    f"take {name} from {other}",
                    "look",
                ):
                    yield do(command)
                if state.can_contain(place, name):
                    yield do(f"{verb} {name} {joint} {place}")
                    yield do("look")
                return


def chores(state: State) -> Iterator[str]:
    """Uses, heats, cools, cleans and slices something, and looks at the result. Steps the state;
    leaves out what the room does not allow."""
    world, names = state.game.world, state.game.objects

    def try_(command: str) -> Iterator[str]:
        if state.step(command)[1]:
            yield command

    def go(place: str) -> Iterator[str]:
        yield from try_(f"go to {place}")
        yield from try_(f"open {place}")

    def put(place: str) -> Iterator[str]:
        yield from try_(f"put {state.holding} in/on {place}")
        yield from try_(f"move {state.holding} to {place}")

    def first(mask: int) -> tuple[str, str] | None:
        for o in bits(mask & world.pickupable):
            for place in state.receptacles_of(names[o]):
                r = world.receptacle_index[place]
                if world.place_of[r] >= 0 and world.fits[r] >> o & 1:
                    return names[o], place
        return None

    nested = sum(1 << o for o, inner in enumerate(world.inner) if inner)
    warm = world.heatable & world.coolable
    for mask, commands in (
        (world.toggleable, []),
        (nested or world.is_receptacle, []),
        (warm & world.cleanable or warm, ["heat", "cool", "heat", "clean", "cool"]),
        (world.sliceable & ~warm or world.cleanable, ["clean"]),
    ):
        found = first(mask)
        if state.holding or found is None:
            continue
        name, home = found
        yield from go(home)
        yield from try_(f"use {name}")
        yield from try_(f"use {name}")
        yield from try_(f"take {name} from {home}")
        yield from try_(f"examine {name}")
        for verb in commands:
            station = {"heat": "microwave 1", "cool": "fridge 1", "clean": "sinkbasin 1"}[verb]
            yield from try_(f"go to {station}")
            yield from try_(f"{verb} {name} with {station}")
            yield from try_(f"examine {name}")
        yield from go(home)
        yield from put(home)
    knife, victim = first(world.knives), first(world.sliceable)
    if state.holding or knife is None or victim is None:
        return
    yield from go(knife[1])
    yield from try_(f"take {knife[0]} from {knife[1]}")
    yield from go(victim[1])
    yield from try_(f"slice {victim[0]} with {knife[0]}")
    yield from go(knife[1])
    yield from put(knife[1])
    yield from go(victim[1])
    yield from try_(f"take {victim[0]} from {victim[1]}")
    yield from try_(f"examine {victim[0]}")
    yield from put(victim[1])


def _opened(state: State) -> State:
    copy = state.fork()
    for place in copy.here:
        copy.step(f"open {place}")
    return copy


def older(data: Mapping[str, Any], grammar: bool = True, sink: bool = True) -> dict[str, Any]:
    """A game of today's wheel in the words of json_2.1.1; ``sink``: its more frequent domain."""
    domain, text = str(data["pddl_domain"]), str(data["grammar"])
    domain = domain[: domain.index("(:action help")].rstrip() + "\n)\n"
    if sink:
        domain = domain.replace(";(receptacleType ?r SinkType)", "(receptacleType ?r SinkType)")
    if grammar:
        text = text[: text.index("action help {")]
        text = text.replace("You arrive at {r.name}. ", "You arrive at {lend.name}. ")
        text = text.replace(
            '"You move the {o.name} to the {r.name}."', '"You put the {o.name} in/on the {r.name}."'
        )
        text = text.replace("move {o} to {r}", "put {o} in/on {r}")
    return {**data, "pddl_domain": domain, "grammar": text}


def odd_start(data: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """The same game with facts at the start that are rare or absent in real files."""
    problem: str = data["pddl_problem"]
    init = problem[problem.index("(:init") : problem.index("(:goal")]

    def facts(predicate: str) -> list[list[str]]:
        return [f.split() for f in re.findall(rf"\({predicate} ([^()]*)\)", init)]

    def some(names: Sequence[str], share: float) -> list[str]:
        return [name for name in names if rng.random() < share]

    agent, start = facts("atLocation")[0]
    things = [thing for thing, _ in facts("objectType")]
    portable = [thing for (thing,) in facts("pickupable")]
    where = facts("receptacleAtLocation")
    extra = [f"(opened {r})" for r in some([r for (r,) in facts("openable")], 0.3)]
    for predicate in ("isClean", "isHot", "isCool", "isSliced", "isToggled", "isOn"):
        # "isOn" shows nowhere, and things hot and cool at once do not occur: fine as noise.
        extra += [f"({predicate} {thing})" for thing in some(things, 0.15)]
    for thing in some(portable, 0.2):
        receptacle, place = rng.choice(where)
        extra.append(f"(inReceptacle {thing} {receptacle})")
        if rng.random() < 0.7:
            extra.append(f"(objectAtLocation {thing} {place})")
    outer = [thing for (thing,) in facts("isReceptacleObject")]
    for thing in some(outer, 0.3):
        extra.append(f"(inReceptacleObject {rng.choice(things)} {thing})")
        extra.append(f"(inReceptacleObject {thing} {thing})")
    if portable and rng.random() < 0.5:
        held = rng.choice(portable)
        init = re.sub(rf"\(inReceptacle {held} [^()]*\)", "", init)
        extra = [fact for fact in extra if not fact.startswith(f"(inReceptacle {held} ")]
        extra += [f"(holds {agent} {held})", f"(holdsAny {agent})"]
    if rng.random() < 0.6:
        place = rng.choice(where)[1]
        init = init.replace(f"(atLocation {agent} {start})", f"(atLocation {agent} {place})")
    # Some neighbours share a view point, so that things can be seen "next to it".
    for (_, place), (other, old) in itertools.pairwise(where):
        if rng.random() < 0.25 and place != old:
            init = init.replace(
                f"(receptacleAtLocation {other} {old})", f"(receptacleAtLocation {other} {place})"
            )
    init = init.replace("(:init", "(:init\n" + "\n".join(extra) + "\n", 1)
    before, after = problem[: problem.index("(:init")], problem[problem.index("(:goal") :]
    return {**data, "pddl_problem": before + init + after}
