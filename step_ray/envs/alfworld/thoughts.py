"""The expert's thoughts: one short sentence or two that name the sub-goal and its evidence.

Several phrasings per case, chosen by a hash of task and turn number: varied, yet reproducible.
Every thought names the receptacle and the object of the action that follows it.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from step_ray.envs.alfworld.belief import Belief, kind_of

if TYPE_CHECKING:
    from step_ray.envs.alfworld.engine import Goal

VERB = {"clean": "clean", "hot": "heat", "cool": "cool"}  # wanted state -> what brings it about
_CONTAINERS = (
    "cabinet drawer fridge microwave safe garbagecan sinkbasin bathtubbasin laundryhamper "
    "coffeemachine toaster"
)
_IN = frozenset(_CONTAINERS.split())

# {obj} type of the thing · {need} what is sought, with article and state · {sought} without them
# {item} {place} ids · {at} "on"/"in"
# the place · {target} target type · {here} present receptacle, {at_here} its preposition
# {verb} clean/heat/cool · {state} clean/hot/cool · {nth} "first of two" and the like
_THOUGHTS: dict[str, tuple[str, ...]] = {
    "start": (
        "I need {need} for the {target}. I begin my search with {place}.",
        "The task asks for {need}. {Place_why}, so I look there first: {place}.",
        "First I have to find {need}. I start with {place}.",
    ),
    "search_go": (
        "I still need {need} and have not looked {at} {place} yet.",
        "I am still looking for {need}. The next place to check is {place}.",
        "I have not found {need} so far, so I go on to {place}.",
        "I do not know where to find {need}. I have not seen {place} yet.",
    ),
    "search_next": (
        "There is no {sought} {at_here} {here}. Next I check {place}.",
        "I see no {sought} {at_here} {here}, so I go on to {place}.",
        "Nothing {at_here} {here} is {need}. I have not looked {at} {place} yet.",
        "The {here} has no {sought} for me. The next place to check is {place}.",
    ),
    "search_open": (
        "The {place} is closed. There may be {need} inside, so I open {place}.",
        "I cannot see into {place} while it is closed. I open it to look for {need}.",
        "I am at {place}, but it is closed. I open it, because I still need {need}.",
    ),
    "search_look": (
        "I can reach {place} from where I stand. I examine it for {need}.",
        "The {place} is right here and I have not looked {at} it, so I examine {place} for {need}.",
        "I need not walk to see {place}. I examine it, looking for {need}.",
    ),
    "fetch": (
        "There is {item} {at} {place}, just what I need. I take {item}.",
        "I see {item} {at} {place}. The task needs {need}, so I take it.",
        "I found {item} {at} {place}. I pick it up for the task.",
        "The {item} lies {at} {place}. That is the {obj} I need, so I take it.",
    ),
    "redo": (
        "The {item} is already {at} {place}, but it is not {state} yet. I take it again.",
        "I must take {item} from {place} again, because it has to be {state} first.",
        "The {item} was put {at} {place} before it was {state}. I take it back to {verb} it.",
    ),
    "fetch_go": (
        "I need {need} and remember {item} {at} {place}, so I go there.",
        "I saw {item} {at} {place} earlier. I go to {place} to get it.",
        "I know that {item} is {at} {place}. I go back to {place} to take it.",
    ),
    "fetch_open": (
        "I know that {item} is in {place}, which is closed. I open {place}.",
        "The {item} is inside {place}. I have to open it before I can take {item}.",
        "To get {item} I must open {place} first.",
    ),
    "process_go": (
        "I hold {item}. It must be {state} before it goes to the {target}, so I go to {place}.",
        "I have {item} now. Next I {verb} it, and for that I go to {place}.",
        "The {item} is in my hand but not {state} yet. I can {verb} it at {place}.",
    ),
    "process": (
        "I am at {place} with {item}. I {verb} {item} with {place}.",
        "The {item} still has to be {state}. I {verb} it with {place} now.",
        "I hold {item} and {place} is here, so I can {verb} it.",
    ),
    "deliver_go": (
        "I hold {item}{ready} and it belongs {at} a {target}. I go to {place}.",
        "I have {item}{ready}. Now I bring it to {place}.",
        "The {item}{ready} is in my hand. The task wants it {at} a {target}, so I go to {place}.",
    ),
    "deliver_open": (
        "I want to put {item} in {place}, but it is closed. I open {place}.",
        "The {place} is closed. I open it so that I can put {item} inside.",
        "Before {item} can go in {place}, I have to open {place}.",
    ),
    "deliver": (
        "I am at {place} with {item}{ready}. I put {item} {at} {place}{nth}.",
        "The {item} belongs {at} {place}, so I put it there{nth}.",
        "This is {place}, where {item} has to go. I put it down here{nth}.",
    ),
    "drop_go": (
        "I hold {item}, but the task does not need it. I go to {place} to put it down.",
        "The {item} is of no use for this task. I bring it to {place} to free my hands.",
        "My hands are full with {item}, which I do not need. The {place} can take it.",
    ),
    "drop_open": (
        "I want to get rid of {item}, but {place} is closed. I open {place}.",
        "I do not need {item}. To put it back in {place} I open {place} first.",
    ),
    "drop": (
        "I hold {item}, but I need {need}. I put {item} {at} {place}.",
        "The {item} is not what the task asks for. I put it {at} {place} to free my hands.",
        "I do not need {item}, so I leave it {at} {place}.",
    ),
    "look": (
        "I want to put {item} {at} {place}, which is within reach. I examine it first.",
        "The {place} is right here. I examine it to see whether {item} can go there.",
    ),
    "lamp_go": (
        "I hold {item}. I saw a {lamp} {at} {place}, so I go there to look at it in the light.",
        "I have {item} and need light. There is a {lamp} {at} {place}.",
        "Now that I hold {item}, I go to {place}, where a {lamp} is.",
    ),
    "lamp": (
        "I hold the {object} and {item} is here {at} {place}. I use {item}.",
        "There is {item} {at} {place}. I turn it on to look at the {object}.",
        "The {object} is in my hand, so all I need is light. I use {item}.",
    ),
    "stuck": (
        "I have looked everywhere and still miss {need}. I look around once more.",
        "I have seen every place without finding {need}. I look around again.",
    ),
}


def article(noun: str) -> str:
    """The noun with ``a`` or ``an``."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def preposition(place: str) -> str:
    """``in`` or ``on`` for a receptacle's id or type."""
    return "in" if (kind_of(place) or place) in _IN else "on"


def need_phrase(belief: Belief, goal: Goal, kind: str) -> str:
    """What is sought, with article, count and state: "a second mug", "a mug to clean"."""
    if kind != goal.object:
        return article(kind)
    if _second(belief, goal, kind):
        return f"a second {kind}"
    verb = VERB[goal.state] if goal.state else ""
    return f"{article(kind)} to {verb}" if verb else article(kind)


def _second(belief: Belief, goal: Goal, kind: str) -> bool:
    """Whether the first of two such objects is at the target already."""
    return (
        goal.count > 1
        and kind == goal.object
        and any(kind_of(place) == goal.target for _, place in belief.known(kind))
    )


def variant(belief: Belief, case: str, size: int) -> int:
    """Which of ``size`` phrasings to use: a hash of the task, its room and the turn number."""
    seed = f"{belief.task}|{','.join(belief.places)}|{belief.turn}|{case}"
    return zlib.crc32(seed.encode()) % size


def thought_of(belief: Belief, goal: Goal, case: str, item: str, place: str) -> str:
    """The thought for a planned action."""
    case = _refine(belief, case, place)
    phrasings = _THOUGHTS[case]
    template = phrasings[variant(belief, case, len(phrasings))]
    kind = kind_of(item) or item
    here = belief.here
    words = {
        "obj": kind,
        "object": goal.object,
        "need": need_phrase(belief, goal, kind if kind == goal.lamp else goal.object),
        "sought": f"second {kind}" if _second(belief, goal, kind) else kind,
        "item": item,
        "place": place,
        "at": preposition(place),
        "here": here,
        "at_here": preposition(here),
        "target": goal.target or goal.lamp or "",
        "lamp": goal.lamp or "",
        "state": goal.state or "",
        "verb": VERB[goal.state] if goal.state else "",
        "ready": f", which is {goal.state} now," if goal.state else "",
        "nth": _nth(belief, goal),
        "Place_why": f"{article(kind)} is often {preposition(place)} a {kind_of(place)}",
    }
    words["Place_why"] = words["Place_why"][0].upper() + words["Place_why"][1:]
    return template.format_map(words).replace(",.", ".")


def _refine(belief: Belief, case: str, place: str) -> str:
    if case == "search_go":
        here = belief.places.get(belief.here)
        if here is None and belief.turn == 0:
            return "start"
        return "search_next" if here and here.seen and here.name != place else "search_go"
    return "look" if case.endswith("_look") and case != "search_look" else case


def _nth(belief: Belief, goal: Goal) -> str:
    if goal.count < 2:
        return ""
    return " as the second one" if _second(belief, goal, goal.object) else " as the first of two"
