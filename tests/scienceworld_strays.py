"""What tests of ScienceWorld's expert share: an agent that strays from the plan, harmlessly."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from step_ray.envs.scienceworld.commands import refusal
from step_ray.envs.scienceworld.expert import Expert
from step_ray.envs.scienceworld.transcript import Transcript, neighbours

Actions = tuple[str, ...]
POINTS = ((0.3, 3), (0.6, 5), (0.9, 2))  # share of the plan that was done, harmless actions then


def stray(expert: Expert, prefix: Sequence[str], count: int, rng: random.Random) -> Actions:
    """``count`` harmless things after ``prefix``: looks, waits, a door, a room and back."""
    done = tuple(prefix)
    for _ in range(count):
        now = expert.scratch.at(done)
        kind = rng.choice(("look around", "inventory", "examine", "wait1", "door", "trip"))
        room = rng.choice(neighbours(now.room))
        if kind == "examine":
            thing = rng.choice(sorted(expert.scratch.sim.possible_objects()))
            tried: tuple[str, ...] = (f"{rng.choice(('look at', 'look in'))} {thing}",)
        elif kind == "door":
            first, then = ("close", "open") if _open(now, room) else ("open", "close")
            tried = (f"{first} door to {room}", f"{then} door to {room}")
        elif kind == "trip":
            tried = (*_going(room), *_going(now.room))
        else:
            tried = (kind,)
        done = accepted(expert, done, tried)
    return done


def wander(expert: Expert, prefix: Sequence[str], rng: random.Random) -> Actions:
    """Three changes of room, without coming back."""
    done = tuple(prefix)
    for _ in range(3):
        room = rng.choice(neighbours(expert.scratch.at(done).room))
        done = accepted(expert, done, _going(room))
    return done


def accepted(expert: Expert, prefix: Actions, tried: Sequence[str]) -> Actions:
    """``prefix`` and those of the tried actions that are done; the first of several readings."""
    for action in tried:
        code = refusal(expert.scratch.at((*prefix, action)).events[-1].observation)
        if code in ("", "already"):
            prefix = (*prefix, action)
        elif code == "ambiguous":
            prefix = (*prefix, action, "0")
    return prefix


def strays(expert: Expert, seed: str) -> Iterator[tuple[str, Actions]]:
    """States after deviations at three points of the plan: "stray" or "wander", and the actions."""
    gold = expert.plan(()) or ()
    for share, count in POINTS:
        begun = gold[: int(share * len(gold))]
        rng = random.Random(f"{seed} {share}")
        yield "stray", stray(expert, begun, count, rng)
        yield "wander", wander(expert, begun, rng)


def _going(room: str) -> tuple[str, str]:
    return f"open door to {room}", f"go to {room}"


def _open(now: Transcript, room: str) -> bool:
    return frozenset({now.room, room}) in now.opened
