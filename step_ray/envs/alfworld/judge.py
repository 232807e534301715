"""Which proposed ALFWorld actions are errors, judged by what the agent can know.

=============  =====================================================================================
kind           when
=============  =====================================================================================
invalid        Nothing would happen: no such command or name, not at that place, a closed or already
               open receptacle, hands full, not holding the thing, ...
loop           Nothing new would come of it: going again to a receptacle that was seen and holds
               nothing needed; look, inventory or examine a second time without a change between;
               opening what was looked into already; cleaning what is clean.
wrong_object   Taking, cleaning, heating, cooling or using a thing the task has no use for.
misplaced      Putting the goal's object where it does not belong, or before it is clean, hot or
               cool, or away from its twin when two have to be together.
undo           Regress: taking a finished object out of the target, cooling what should be hot (and
               the reverse), closing what has to be open next.
detour         Going or doing elsewhere although it is known where the needed thing is, or the agent
               holds what it needs.
=============  =====================================================================================

No error: going to any receptacle not yet seen, plausible or not, and opening it, while the needed
thing's place is unknown; the first look, inventory or examine; every other instance that serves as
well (another mug, another sink, another drawer as the target, another lamp); putting down a thing
that the task does not need, anywhere; closing a receptacle that is not needed; turning the lamp on
before the object is fetched.

Only one error is irreversible: taking a thing that no receptacle accepts (a teddy bear in some
rooms), because the hands are full for ever then.

``facts`` are phrases for the teacher's sentences: ``cause`` (a code), ``why`` (a clause in the
present tense that holds before and after the action), ``do`` and ``did`` (the action as an
infinitive and in the past tense).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from step_ray.envs.alfworld.belief import Belief, Command, kind_of, parse_action
from step_ray.envs.alfworld.expert import (
    APPLIANCE,
    Accepts,
    Stage,
    candidates,
    gathering_place,
    plan,
    reachable,
    stage_of,
)
from step_ray.envs.alfworld.thoughts import VERB, article, preposition
from step_ray.envs.base import Judgement

if TYPE_CHECKING:
    from step_ray.envs.alfworld.engine import Goal

_RIGHT = Judgement(False)
_SEARCHES = ("search", "lamp_search")
_MADE = {"clean": "clean", "heat": "hot", "cool": "cool"}
_PAST = {
    "go": "went",
    "open": "opened",
    "close": "closed",
    "take": "took",
    "put": "put",
    "move": "moved",
    "clean": "cleaned",
    "heat": "heated",
    "cool": "cooled",
    "slice": "sliced",
    "use": "used",
    "examine": "examined",
}


def judge(
    belief: Belief, goal: Goal, action: str, admissible: Collection[str], accepts: Accepts
) -> Judgement:
    """Judges an action (in the game's dialect) proposed in the present state.

    ``admissible``: what the world would accept; ``accepts(receptacle, item)``: what fits where.
    """
    action = action.strip()
    command = parse_action(action)
    if action not in admissible:
        cause, why = _why_invalid(belief, command, reachable(belief, admissible))
        return _error("invalid", action, cause, why)
    if action == plan(belief, goal, admissible, accepts).action:
        return _RIGHT
    stage = stage_of(belief, goal, admissible, accepts)
    found = _FINDERS[command.verb](belief, goal, stage, command, action)
    if not found:
        return _RIGHT
    stuck = command.verb == "take" and not any(accepts(r, command.item) for r in belief.places)
    return replace(_error(found[0], action, found[1], found[2]), irreversible=stuck)


_Found = tuple[str, str, str] | None  # kind, cause, why


def _error(kind: str, action: str, cause: str, why: str) -> Judgement:
    first, _, rest = action.partition(" ")
    did = f"{_PAST[first]} {rest}" if first in _PAST else ""
    do = action if did else ""
    return Judgement(True, kind, (("cause", cause), ("why", why), ("do", do), ("did", did)))


# -- what cannot be done ---------------------------------------------------------------------------


def _why_invalid(belief: Belief, command: Command, reach: frozenset[str]) -> tuple[str, str]:
    """(cause, clause) of an action that is not admissible."""
    verb, item, name = command.verb, command.item, command.place
    if not verb:
        return "no_command", "that is not a command I can use here"
    place = belief.places.get(name)
    if verb == "use":
        where = belief.located.get(item)
        if where and where not in reach:
            return "not_there", f"{item} is {preposition(where)} {where} and I am not there"
        return "no_such_thing", f"there is no {item} here that I can turn on"
    if verb == "slice":
        return "no_knife", f"I do not hold a knife or {item} is not here"
    if verb == "examine":
        return "not_in_sight", f"I am not at {name} and do not hold it"
    if verb == "take" and belief.held:
        return "hands_full", f"I hold {belief.held} and can carry only one thing"
    if verb in ("put", "clean", "heat", "cool") and belief.held != item:
        holding = f"I hold {belief.held}, not {item}" if belief.held else f"I do not hold {item}"
        return "not_held", holding
    if place is None:
        return "no_such_place", f"there is no {name} in this room"
    if verb == "go":
        if name == belief.here:
            return "already_there", f"I am at {name} already"
        return "within_reach", f"{name} is within reach from where I am"
    if name not in reach:
        return "not_there", f"I am not at {name}"
    return _why_not_here(belief, verb, item, name)


def _why_not_here(belief: Belief, verb: str, item: str, name: str) -> tuple[str, str]:
    place = belief.places[name]
    if verb == "open":
        if place.closed is False:
            return "already_open", f"{name} is open already"
        return "cannot_open", f"{name} cannot be opened"
    if verb == "close":
        if place.closed:
            return "already_closed", f"{name} is closed already"
        return "cannot_close", f"{name} cannot be closed"
    if verb in ("take", "put") and place.closed:
        return "closed", f"{name} is closed"
    if verb == "take":
        if place.seen and item not in place.contents:
            return "no_such_thing", f"there is no {item} {preposition(name)} {name}"
        return "cannot_take", f"{item} cannot be taken from {name}"
    if verb == "put":
        return "does_not_fit", f"{item} cannot be put {preposition(name)} {name}"
    return "wrong_tool", f"{name} cannot {verb} {item}"


# -- what can be done but should not ---------------------------------------------------------------


def _go(belief: Belief, goal: Goal, stage: Stage, command: Command, action: str) -> _Found:
    name = command.place
    place = belief.places[name]
    if stage.need in _SEARCHES or not stage.places:
        if not place.seen:
            if place.closed and action in belief.idle:
                return "loop", "still_closed", f"I was at {name} before and left it closed"
            return None
        return "loop", "seen", f"I have seen {name} already"
    if stage.need == "drop":
        wanted = {spot for _, spot in candidates(belief, goal)}
        if not place.seen or name in stage.places or name in wanted:
            return None
        return "detour", "holding_useless", f"I should first put {stage.item} down"
    if name in _serving(belief, goal, stage):
        return None
    return "detour", f"known_{stage.need}", _known(belief, goal, stage)


def _open(belief: Belief, goal: Goal, stage: Stage, command: Command, action: str) -> _Found:
    name = command.place
    if name in _serving(belief, goal, stage):
        return None
    if belief.places[name].seen:
        return "loop", "seen", f"I have looked into {name} already"
    if stage.need in (*_SEARCHES, "drop") or not stage.places:
        return None
    return "detour", f"known_{stage.need}", _known(belief, goal, stage)


def _close(belief: Belief, goal: Goal, stage: Stage, command: Command, action: str) -> _Found:
    name = command.place
    if stage.need == "fetch" and name in _serving(belief, goal, stage):
        return "undo", "closes_source", f"{stage.item} is in {name} and I have to take it out"
    if stage.need == "deliver" and name == stage.places[0]:
        return "undo", "closes_target", f"{stage.item} has to go in {name}"
    return None


def _take(belief: Belief, goal: Goal, stage: Stage, command: Command, action: str) -> _Found:
    item, name = command.item, command.place
    kind = kind_of(item)
    if kind != goal.object:
        asked = f"the task needs {article(goal.object)}, not {article(kind)}"
        return "wrong_object", "not_asked_for", asked
    finished = not goal.lamp and belief.has_state(item, goal.state)
    if finished and name == gathering_place(belief, goal):
        return "undo", "takes_finished", f"{item} was where it has to stay, {_at(name)}"
    return None


def _put(belief: Belief, goal: Goal, stage: Stage, command: Command, action: str) -> _Found:
    item, name = command.item, command.place
    if kind_of(item) != goal.object:
        return None
    if goal.lamp:
        held = f"I have to hold {item} while I turn on {article(goal.lamp)}"
        return "misplaced", "needed_in_hand", held
    if stage.need == "process":
        return "misplaced", "unprocessed", f"{item} is not {goal.state} yet"
    if kind_of(name) != goal.target:
        return "misplaced", "wrong_place", f"{item} belongs {_at(article(goal.target or ''))}"
    gathered = gathering_place(belief, goal)
    if goal.count > 1 and gathered and gathered != name:
        together = f"the first {goal.object} is {_at(gathered)} and both have to be together"
        return "misplaced", "apart", together
    return None


def _process(belief: Belief, goal: Goal, stage: Stage, command: Command, action: str) -> _Found:
    item, state = command.item, _MADE[command.verb]
    if kind_of(item) != goal.object:
        asked = f"the task needs {article(goal.object)}, not {item}"
        return "wrong_object", "not_asked_for", asked
    if state == goal.state:
        if belief.has_state(item, state):
            return "loop", "already_done", f"{item} is {state} already"
        return None
    if {state, goal.state} == {"hot", "cool"}:
        return "undo", "opposite", f"{item} has to be {goal.state}, not {state}"
    return "detour", "not_asked_for", f"the task does not ask for {article(state)} {goal.object}"


def _use(belief: Belief, goal: Goal, stage: Stage, command: Command, action: str) -> _Found:
    item = command.item
    if kind_of(item) != goal.lamp:
        return "wrong_object", "not_asked_for", f"the task has no use for {item}"
    if item in belief.used:
        return "loop", "already_done", f"{item} was turned on already"
    return None


def _slice(belief: Belief, goal: Goal, stage: Stage, command: Command, action: str) -> _Found:
    return "wrong_object", "not_asked_for", "the task does not ask for anything sliced"


def _observe(belief: Belief, goal: Goal, stage: Stage, command: Command, action: str) -> _Found:
    if action in belief.idle:
        return "loop", "nothing_changed", "nothing has changed since I did that before"
    return None


_FINDERS = {
    "go": _go,
    "open": _open,
    "close": _close,
    "take": _take,
    "put": _put,
    "clean": _process,
    "heat": _process,
    "cool": _process,
    "use": _use,
    "slice": _slice,
    "examine": _observe,
    "look": _observe,
    "inventory": _observe,
    "help": _observe,
}


def _serving(belief: Belief, goal: Goal, stage: Stage) -> frozenset[str]:
    """Every receptacle where the present need can be met."""
    if stage.need == "fetch":
        return frozenset(place for _, place in candidates(belief, goal))
    if stage.need == "deliver" and goal.count > 1 and gathering_place(belief, goal):
        return frozenset(stage.places[:1])
    return frozenset(stage.places)


def _known(belief: Belief, goal: Goal, stage: Stage) -> str:
    """Why a detour is one: what is known and should be used."""
    place = stage.places[0]
    if stage.need == "fetch":
        return f"I know that {stage.item} is {_at(place)}"
    if stage.need == "process" and goal.state:
        return f"I hold {stage.item} and have to {VERB[goal.state]} it at a {APPLIANCE[goal.state]}"
    if stage.need == "lamp":
        return f"I hold {stage.item} and know that a {goal.lamp} is {_at(place)}"
    return f"I hold {stage.item} and it belongs {_at(place)}"


def _at(place: str) -> str:
    kind = place.removeprefix("a ").removeprefix("an ")
    return f"{preposition(kind)} {place}"
