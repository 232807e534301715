"""The PDDL problem of a generated game, written as ALFRED's own files are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from step_ray.envs.alfworld.placement import FIXTURES, Placement
from step_ray.envs.alfworld.scenes import Scene, tables

AFFORDANCES = (  # predicate, the wheel's name of the table
    ("cleanable", "Cleanable"),
    ("heatable", "Heatable"),
    ("coolable", "Coolable"),
    ("toggleable", "Toggleable"),
    ("sliceable", "Sliceable"),
)


def goal_text(task_type: str, kind: str, target: str, lamp: str) -> str:
    """The goal library's goal for one object and target, closing the whole problem."""
    text: str = tables().goals[task_type]["pddl"]
    # The library writes # for the typing dash.
    return text.format(obj=kind, recep=target, toggle=lamp, mrecep="").replace("#", "-")


def problem_text(
    name: str,
    room: Scene,
    things: Sequence[Placement],
    inside: Sequence[tuple[Placement, Placement]],
    start: str,
    goal: str,
) -> str:
    """The whole problem: objects, initial facts and goal."""
    objects = "\n        ".join(_objects(room, things, start))
    facts = "\n        ".join(_facts(room, things, inside, start))
    return (
        f"\n(define (problem plan_{name})\n(:domain alfred)\n"
        f"(:objects\n        {objects}\n        )\n\n(:init\n        {facts}\n        )\n{goal}"
    )


def _objects(room: Scene, things: Sequence[Placement], start: str) -> Iterable[str]:
    yield "agent1 - agent"
    for kind in sorted({thing.kind for thing in things}):
        yield f"{kind}Type - otype"
    for kind in sorted({receptacle.type for receptacle in room.receptacles}):
        yield f"{kind}Type - rtype"
    for thing in things:
        yield f"{thing.id} - object"
    for receptacle in room.receptacles:
        yield f"{receptacle.id} - receptacle"
    for location in sorted({receptacle.location for receptacle in room.receptacles} | {start}):
        yield f"{location} - location"


def _facts(
    room: Scene,
    things: Sequence[Placement],
    inside: Sequence[tuple[Placement, Placement]],
    start: str,
) -> Iterable[str]:
    rules = tables()
    kinds = sorted({thing.kind for thing in things})
    for receptacle in room.receptacles:
        yield f"(receptacleType {receptacle.id} {receptacle.type}Type)"
    for thing in things:
        yield f"(objectType {thing.id} {thing.kind}Type)"
    for name in sorted({receptacle.type for receptacle in room.receptacles}):
        allowed = rules.contains.get(name, frozenset())
        for kind in kinds:
            if kind in allowed:
                yield f"(canContain {name}Type {kind}Type)"
    for thing in things:
        if thing.kind not in FIXTURES:
            yield f"(pickupable {thing.id})"
        if thing.kind in rules.movable_receptacles:
            yield f"(isReceptacleObject {thing.id})"
        for predicate, table in AFFORDANCES:
            if thing.kind in rules.affords[table]:
                yield f"({predicate} {thing.id})"
        if thing.cold:
            yield f"(isCool {thing.id})"
    for receptacle in room.receptacles:
        if receptacle.openable:
            yield f"(openable {receptacle.id})"
        yield f"(receptacleAtLocation {receptacle.id} {receptacle.location})"
    yield f"(atLocation agent1 {start})"
    for thing in things:
        if thing.receptacle:
            yield f"(inReceptacle {thing.id} {thing.receptacle.id})"
        yield f"(objectAtLocation {thing.id} {thing.location})"
    for inner, outer in inside:
        yield f"(inReceptacleObject {inner.id} {outer.id})"
