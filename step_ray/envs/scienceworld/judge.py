"""Which proposed ScienceWorld actions are errors, judged by trying them in a scratch simulator.

An action is compared with the expert's plan: what it does, whether the full score can still be
reached afterwards, and how many more actions that takes.

=============  =====================================================================================
kind           when
=============  =====================================================================================
invalid        Nothing is done: no such command or thing, a room that is not next to this one, a
               closed door or container, what is open or on already, what cannot be moved or used;
               no number where the simulator asks for one.
loop           Nothing new comes of it: the same look, inventory or examination again without a
               change between; a room seen before that leads nowhere new; to and fro between rooms.
wrong_focus    Focusing on what the task does not ask for (now). Nearly always this fails the task.
wrong_object   Picking up or handling a thing that neither the task nor the plan has a use for.
misplaced      Moving, pouring, mixing or connecting a needed thing so that more has to be done.
undo           Regress: dropping, turning off, disconnecting or eating what is needed, closing what
               has to be open next, resetting the task.
detour         Going away although the needed thing is here or known to be elsewhere; waiting where
               nothing needs time; using a thing too early.
harmful        The full score cannot be reached afterwards.
=============  =====================================================================================

No error: what the expert would do, and whatever shortens the way to the goal or raises the score,
but for a focus on a thing with which the rest cannot be done;
the first look, inventory, examination or reading of anything; opening doors and containers; a room
not seen yet while it is not known where the needed thing is; picking up useful things in another
order; waiting when the plan waits or measures, or something was just set going; putting down or
turning off what is not needed; a name that fits several things, and any number in answer that
leads to the goal.

Irreversible are actions that end the episode in failure, and harmful ones. ``facts`` are phrases
for the teacher's sentences: ``cause`` (a code), ``why`` (a clause in the present tense), ``do`` and
``did`` (the action as an infinitive and in the past tense).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from step_ray.envs.base import Judgement
from step_ray.envs.scienceworld.commands import (
    FREE,
    IDLE,
    TRAVEL,
    Command,
    Verb,
    bare,
    parse,
    refusal,
)
from step_ray.envs.scienceworld.expert import Expert, informed
from step_ray.envs.scienceworld.follow import FULL
from step_ray.envs.scienceworld.reasons import (
    alike,
    carried,
    is_door,
    known_in,
    leg,
    next_work,
    shown,
    thing_of,
)
from step_ray.envs.scienceworld.refused import why_refused
from step_ray.envs.scienceworld.simulator import Simulator
from step_ray.envs.scienceworld.transcript import Transcript, neighbours, way

_RIGHT = Judgement(False)
_Found = tuple[str, str, str] | None  # kind, cause, why
_PAST = (
    ("pick up", "picked up"), ("put down", "put down"), ("look around", "looked around"),
    ("look at", "looked at"), ("look in", "looked in"), ("focus on", "focused on"),
    ("turn on", "turned on"), ("turn off", "turned off"), ("go", "went"), ("take", "took"),
    ("get", "got"), ("put", "put"), ("read", "read"), ("eat", "ate"), ("drop", "dropped"),
    ("stir", "stirred"), ("mix", "mixed"), ("open", "opened"), ("pour", "poured"),
    ("walk", "walked"), ("flush", "flushed"), ("focus", "focused"), ("connect", "connected"),
    ("disconnect", "disconnected"), ("teleport", "teleported"), ("dunk", "dunked"),
    ("look", "looked around"), ("wait", "waited"), ("reset", "reset"), ("consume", "consumed"),
    ("move", "moved"), ("use", "used"), ("close", "closed"), ("activate", "activated"),
    ("deactivate", "deactivated"), ("examine", "examined"),
)  # fmt: skip
_SAID = {
    "inventory": ("check what I carry", "checked what I carry"),
    "task": ("read the task again", "read the task again"),
    "look": ("look around", "looked around"),
    "wait1": ("wait", "waited"),
}
_KINDS = frozenset(
    {"wire", "battery", "pot", "cup", "jug", "bowl", "jar", "generator", "panel", "turbine"}
)
_TAKING_BACK: frozenset[Verb] = frozenset({"drop", "deactivate", "disconnect", "pick"})
_STARTING: frozenset[Verb] = frozenset({"activate", "deactivate", "connect", "mix", "pour", "move"})
_PLACING: frozenset[Verb] = frozenset({"move", "pour", "dunk", "mix", "connect"})
_MEASURING: frozenset[Verb] = frozenset({"wait", "use", *IDLE})


@dataclass(frozen=True, slots=True)
class _Case:
    """A proposed action, the states before and after it, and the plan before it."""

    expert: Expert
    description: str
    command: Command
    before: Transcript
    after: Transcript
    plan: tuple[str, ...]

    def later(self) -> tuple[str, ...] | None:
        """The plan after the action; a search."""
        return self.expert.plan(self.after.actions)

    def useful(self, thing: str) -> bool:
        """Whether the plan or the task speaks of a thing, or of one of its kind."""
        thing = bare(shown(thing))
        words = thing.lower().split()
        if not words:
            return False
        if all(word in self.description.lower() for word in words):
            return True
        for action in self.plan:
            other = parse(action)
            for name in (shown(other.item), shown(other.place)):
                if alike(name, thing) or (
                    _kind(name) == _kind(thing) != "" and " of " not in thing
                ):
                    return True
        return False


def judge(expert: Expert, prefix: Sequence[str], sim: Simulator, action: str) -> Judgement:
    """Judges an action proposed after ``prefix``, the state of ``sim``, which is not changed.

    Raises EnvError as ``Expert.plan`` does.
    """
    prefix = tuple(prefix)
    action = " ".join(action.split())
    plan = expert.plan(prefix) or ()
    before = expert.scratch.at(prefix)
    if plan and action in (plan[0], informed(before, plan)[0]):
        return _RIGHT
    after = expert.scratch.at((*prefix, action))
    event = after.events[-1]
    command = parse(action)
    if before.ambiguous and command.verb == "number":
        command = parse(before.events[-1].action)
    case = _Case(expert, sim.task_description(), command, before, after, plan)
    code = refusal(event.observation)
    if before.ambiguous and (code or parse(action).verb != "number"):
        found: _Found = ("invalid", "asked_number", "I was asked for the number of what I mean")
    elif code == "ambiguous":
        found = _asked_again(case)
    elif code:
        found = ("invalid", *why_refused(code, command, event.observation, before, sim))
    elif after.score == FULL:
        found = None
    elif after.score > before.score:
        found = _dead_end(case)
    elif after.done:
        return _error(_failure(case), action, irreversible=True)
    else:
        found = _finder(command)(case)
    if not found:
        return _RIGHT
    return _error(found, action, irreversible=found[0] == "harmful")


def _error(found: tuple[str, str, str], action: str, *, irreversible: bool) -> Judgement:
    kind, cause, why = found
    do, did = _said(action)
    facts = (("cause", cause), ("why", why), ("do", do), ("did", did))
    return Judgement(True, kind, facts, irreversible)


def _said(action: str) -> tuple[str, str]:
    """The action as an infinitive and in the past tense; empty if it is no sentence."""
    if action in _SAID:
        return _SAID[action]
    for verb, past in _PAST:
        if action == verb or action.startswith(verb + " "):
            return action, past + action[len(verb) :]
    return "", ""


def _failure(case: _Case) -> tuple[str, str, str]:
    if case.command.verb == "focus":
        thing = shown(case.command.item)
        return "wrong_focus", "fails", f"focusing on the {thing} fails the task"
    return "harmful", "fails", "this ends the task in failure"


def _asked_again(case: _Case) -> _Found:
    events = case.before.events
    if len(events) > 1 and events[-2].action == case.after.actions[-1]:
        return "loop", "asked_again", "I was asked before which one I mean"
    return None


def _dead_end(case: _Case) -> _Found:
    """A focus that scores, on a thing with which the rest cannot be done."""
    if case.command.verb != "focus" or not case.plan or case.later() is not None:
        return None
    return "harmful", "no_way_on", f"the task cannot be done with the {shown(case.command.item)}"


# -- what can be done but should not ---------------------------------------------------------------


def _inform(case: _Case) -> _Found:
    """The same text again, with nothing done between that could have changed it."""
    event = case.after.events[-1]
    for past in reversed(case.before.events):
        if past.action == event.action and past.observation == event.observation:
            return "loop", "nothing_changed", "nothing has changed since I did that before"
        verb = parse(past.action).verb
        if verb not in IDLE and verb not in TRAVEL and not is_door(parse(past.action)):
            return None
    return None


def _travel(case: _Case) -> _Found:
    before, here, there = case.before, case.before.room, case.after.room
    if here == there:
        return "loop", "already_there", f"I am in the {here} already"
    work = next_work(case.plan, here)
    while work and not work.command.place and carried(before, thing_of(work.command)):
        work = next_work(work.rest, work.room)  # what it carries it can use anywhere
    if work is None:
        return _to_and_fro(case)
    goals = {work.room, leg(case.plan, here)} - {here}
    if any(len(way(there, goal)) < len(way(here, goal)) for goal in goals):
        return None
    thing = thing_of(work.command)
    if carried(before, thing) and work.command.place:
        thing = shown(work.command.place)
    known = known_in(before, case.description, thing, work.room)
    if work.room == here and here in before.looked and known == "seen":
        return "detour", "here", f"the {thing} that I need is here"
    if known == "seen":
        return "detour", "known", f"I saw the {thing} that I need in the {work.room}"
    if known == "task" and work.room != here:
        return "detour", "known", f"what I need is in the {work.room}, as the task says"
    return _to_and_fro(case)


def _to_and_fro(case: _Case) -> _Found:
    before, here, there = case.before, case.before.room, case.after.room
    if there not in before.looked:
        return None
    moves = [e for e in before.events if parse(e.action).verb in TRAVEL and e.room]
    if len(moves) > 1 and moves[-1].room == there and moves[-2].room == here:
        return "loop", "to_and_fro", f"I only go to and fro between the {here} and the {there}"
    rooms = neighbours(there)
    if parse(case.after.actions[-1]).verb == "go" and any(r not in before.looked for r in rooms):
        return None
    return "loop", "seen", f"I have seen the {there} already"


def _wait(case: _Case) -> _Found:
    coming = [parse(action).verb for action in case.plan if parse(action).verb not in FREE]
    later = case.later()
    if case.plan and later is None:
        return "harmful", "too_late", "too much time passes, and what I need is gone then"
    if "wait" in coming[:3] or (coming and coming[0] in _MEASURING) or _set_going(case.before):
        return None
    if not case.plan or (later is not None and _cost(later) < _cost(case.plan)):
        return None
    return "detour", "nothing_to_wait_for", "nothing here needs time at the moment"


def _set_going(now: Transcript) -> bool:
    """Whether the last things done, but for looks and waits, may take effect by and by."""
    verbs = [parse(action).verb for action in now.actions]
    done = [verb for verb in verbs if verb not in IDLE and verb != "wait"]
    return bool(done) and done[-1] in _STARTING and verbs[-5:] != ["wait"] * 5


def _close(case: _Case) -> _Found:
    later = case.later()
    if not case.plan or later is None or _cost(later) <= _cost(case.plan):
        return None
    return "undo", "has_to_be_open", f"the {shown(case.command.item)} has to be open next"


def _pick(case: _Case) -> _Found:
    item = shown(case.command.item)
    if "(disconnecting" in case.after.events[-1].observation:
        return _handle(case)
    if not case.plan or case.useful(item):
        return None
    return "wrong_object", "not_needed", _no_use(item)


def _no_use(thing: str) -> str:
    return f"the task has no use for the {thing}"


def _handle(case: _Case) -> _Found:
    """Whatever changes things: by what is left to do afterwards."""
    verb, item, place = case.command.verb, shown(case.command.item), shown(case.command.place)
    if verb == "reset" or case.after.score < case.before.score:
        return "undo", "gives_up", "what I have achieved no longer counts then"
    if not case.plan:
        return None
    later = case.later()
    if later is None:
        return "harmful", "spoils", f"the task cannot be done any more once I {_plain(verb)} that"
    if _cost(later) < _cost(case.plan):
        return None
    if verb == "focus":
        return "wrong_focus", "not_asked_for", f"the task does not ask for the {item} now"
    worse = _cost(later) > _cost(case.plan)
    if not case.useful(item) and not (verb in _TAKING_BACK and worse):
        return None if verb in _TAKING_BACK else ("wrong_object", "not_needed", _no_use(item))
    if not worse:
        return None
    if verb in _TAKING_BACK or verb == "eat":
        return "undo", "still_needed", f"I still need the {item} as it was"
    if verb in _PLACING:
        return "misplaced", "wrong_place", _where(case, item, place)
    return "detour", "too_early", f"the {item} is of no use at this point"


def _where(case: _Case, item: str, place: str) -> str:
    """Where a misplaced thing should go."""
    for action in case.plan:
        command = parse(action)
        if command.verb in ("move", "pour") and alike(shown(command.item), item):
            return f"the {item} has to go into the {shown(command.place)}"
    if case.command.verb == "mix":
        return f"what is in the {item} is not to be mixed yet"
    if case.command.verb == "connect":
        return f"the circuit does not need the {item} there"
    return f"I need the {item} elsewhere"


def _plain(verb: Verb) -> str:
    return {"use": "use", "reset": "reset", "mix": "mix", "eat": "eat"}.get(verb, verb or "do")


def _kind(name: str) -> str:
    """What a name says of things of which one serves as well as another: a wire, a cup; or ""."""
    return next((word for word in reversed(name.lower().split()) if word in _KINDS), "")


def _cost(plan: Sequence[str]) -> int:
    """How many actions of a plan take time."""
    return sum(parse(action).verb not in FREE for action in plan)


def _finder(command: Command) -> Callable[[_Case], _Found]:
    verb = command.verb
    if verb in IDLE:
        return _inform
    if verb in TRAVEL:
        return _travel
    if verb == "open":
        return lambda case: None
    return {"wait": _wait, "close": _close, "pick": _pick}.get(verb, _handle)
