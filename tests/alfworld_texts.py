"""Situations of an ALFWorld agent, told by the texts it would have seen."""

from __future__ import annotations

from step_ray.envs.alfworld.belief import Belief

ROOM = (
    "You are in the middle of a room. Looking quickly around you, you see a cabinet 2, "
    "a cabinet 1, a countertop 2, a countertop 1, a fridge 1, a microwave 1, a sidetable 1, "
    "and a sinkbasin 1.\n\nYour task is to: {task}."
)


def situation(task: str, *steps: tuple[str, str]) -> Belief:
    belief = Belief.from_reset(ROOM.format(task=task))
    for action, text in steps:
        belief.update(action, text)
    return belief


def at(place: str, things: str) -> tuple[str, str]:
    return f"go to {place}", f"You arrive at {place}. On the {place}, you see {things}."


def shut(place: str) -> tuple[str, str]:
    return f"go to {place}", f"You arrive at {place}. The {place} is closed."


def opened(place: str, things: str) -> tuple[str, str]:
    text = f"You open the {place}. The {place} is open. In it, you see {things}."
    return f"open {place}", text


def took(item: str, place: str) -> tuple[str, str]:
    return f"take {item} from {place}", f"You pick up the {item} from the {place}."


def put(item: str, place: str) -> tuple[str, str]:
    return f"move {item} to {place}", f"You move the {item} to the {place}."


def did(verb: str, item: str, place: str) -> tuple[str, str]:
    return f"{verb} {item} with {place}", f"You {verb} the {item} using the {place}."


HOLDS_EGG = (at("countertop 1", "a egg 1"), took("egg 1", "countertop 1"))
