"""Plans that reach the full score, from the start and from any state on the way.

The start's plan is the engine's gold path, without what has no effect and in words that an agent
can have read; making it takes seconds, so it is kept in the cache folder. After a deviation these
are tried in a scratch simulator, and the first that ends at the full score is the plan:

1. where one thing is to be found and brought to a place, and another was found that will do: that
   one, brought there;
2. the rest of the plan so far, after going back to where it goes on; the same after taking back
   what was done last, if that is shorter;
3. the rest without its waiting, which the deviation may have made too long;
4. the whole gold path again: what is done already is skipped;
5. the task's own script from the present state, then from the room where the episode began.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from step_ray.envs.cache import cache_folder
from step_ray.envs.scienceworld.commands import FREE, TRAVEL, bare, parse, refusal
from step_ray.envs.scienceworld.follow import Scratch, follow, replayed, same
from step_ray.envs.scienceworld.jvm import jar_hash
from step_ray.envs.scienceworld.transcript import Transcript
from step_ray.files import write_json_atomic

_VERSION = 2  # of what is kept
_NAMED = re.compile(r"You (?:focus on|move) the (.+?)(?: to the .+)?\.")
_FOCUSED = re.compile(r"You focus on the (.+?)\.")


def gold_plan(scratch: Scratch) -> tuple[str, ...]:
    """Actions from the start to the full score, all accepted; empty if the engine's gold path does
    not lead there, as with a few variations under some simplifications."""
    problem = scratch.problem
    name = re.sub(r"[^A-Za-z0-9,-]", "_", f"{problem.task}-{problem.variation}")
    kind = re.sub(r"[^A-Za-z0-9,-]", "_", problem.simplifications) or "none"
    path = cache_folder() / "scienceworld" / f"{_VERSION}-{jar_hash()[:12]}" / kind / f"{name}.json"
    try:
        kept = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        kept = None
    if isinstance(kept, list) and all(isinstance(action, str) for action in kept):
        return tuple(kept)
    path.parent.mkdir(parents=True, exist_ok=True)
    plan = next(filter(None, (follow(scratch, (), gold) for gold in _golds(scratch))), ())
    plan = worded(scratch, (), plan)
    write_json_atomic(path, list(plan))
    return plan


def _golds(scratch: Scratch) -> Iterator[tuple[str, ...]]:
    """The engine's gold paths: its script for plants loses its way when all containers are open,
    and what it does under fewer simplifications works under more."""
    for simplifications in dict.fromkeys((scratch.problem.simplifications, "easy", "")):
        yield scratch.gold(simplifications)


def worded(scratch: Scratch, prefix: Sequence[str], plan: Sequence[str]) -> tuple[str, ...]:
    """The plan from the state after ``prefix``, with names that an agent has read, or reads when it
    looks around, where the engine takes them: in its own scripts a pillow is an "object" and a
    mouse a "baby baby mouse"."""
    actions: list[str] = []
    for action in plan:
        item, read = parse(action).item, scratch.at((*prefix, *actions)).text
        if bare(item).lower() not in read:
            read += scratch.sim.look().lower()
        named = _NAMED.match(scratch.step(action).events[-1].observation)
        if named and bare(item).lower() not in read and named[1].lower() in read:
            answer, other = named.string, action.replace(item, named[1], 1)
            if scratch.at((*prefix, *actions, other)).events[-1].observation == answer:
                action = other
        actions.append(action)
    if actions == list(plan):
        return tuple(plan)
    return replayed(scratch, prefix, actions) or tuple(plan)


def search(
    scratch: Scratch, prefix: Sequence[str], rest: Sequence[str], room: str, gold: Sequence[str]
) -> tuple[str, ...]:
    """A plan from the state after ``prefix``; empty if none was found.

    ``rest``: what is left of the plan so far, which goes on in ``room``; ``gold``: the whole one.
    """
    now, teleport = scratch.at(prefix), scratch.problem.teleport
    for candidate in _with_another(now, gold, teleport):
        if plan := follow(scratch, prefix, candidate):
            return plan
    lead = ["0"] if now.ambiguous else []
    first = lead + resumed(now, rest, room, teleport)
    again = lead + resumed(now, _unfocused(now, gold), now.begun, teleport)
    back = taken_back(now.actions[-1]) if now.actions else []
    here = [first, [*back, *first]] if back else [first]
    if found := [plan for candidate in here if (plan := follow(scratch, prefix, candidate))]:
        return min(found, key=len)
    seen = list(here)
    for candidate in (_eager(first), again, _eager(again), [*back, *again]):
        if candidate not in seen and (plan := follow(scratch, prefix, candidate)):
            return plan
        seen.append(candidate)
    return _scripted(scratch, prefix, now.route(now.begun, teleport))


def _with_another(now: Transcript, gold: Sequence[str], teleport: bool) -> Iterator[list[str]]:
    """Ways to bring the thing that was focused on where the gold path brings another one."""
    focuses = [action for action in gold if parse(action).verb == "focus"]
    last = parse(gold[-1])
    found = [(_FOCUSED.match(event.observation), event.room) for event in now.events]
    things = [(match[1], room) for match, room in found if match]
    if len(focuses) != 1 or last.verb != "move" or len(things) != 1:
        return
    thing, home = things[0]
    if same(focuses[0], f"focus on {thing}"):
        return
    travels = [parse(action).item for action in gold if parse(action).verb in TRAVEL]
    goal = travels[-1] if travels else now.begun
    there = replace(now, room=home)
    if home == goal:
        yield [*now.route(home, teleport), f"move {thing} to {last.place}"]
    carry = f"move {thing} in inventory to {last.place}"
    yield [*now.route(goal, teleport), carry]
    yield [*now.route(home, teleport), f"pick up {thing}", *there.route(goal, teleport), carry]


def _scripted(scratch: Scratch, prefix: Sequence[str], home: Sequence[str]) -> tuple[str, ...]:
    """What the task's script does, from here or from the room where the episode began."""
    for way in ((), home) if home else ((),):
        scratch.at((*prefix, *way))
        if plan := follow(scratch, prefix, (*way, *scratch.scripted())):
            return plan
    return ()


def without(actions: Sequence[str], action: str) -> tuple[str, ...]:
    """The actions without the first that equals ``action``."""
    number = list(actions).index(action)
    return (*actions[:number], *actions[number + 1 :])


def _unfocused(now: Transcript, actions: Sequence[str]) -> Sequence[str]:
    """The actions without focusing on what was focused on: twice would fail some tasks."""
    for event in now.events:
        if parse(event.action).verb == "focus" and not refusal(event.observation):
            done = next((a for a in actions if same(a, event.action)), None)
            actions = without(actions, done) if done else actions
    return actions


def _eager(actions: Sequence[str]) -> list[str]:
    return [action for action in actions if parse(action).verb != "wait"]


def taken_back(action: str) -> list[str]:
    """Actions that undo an action; empty where there are none."""
    command = parse(action)
    item, place = bare(command.item), command.place
    if command.verb == "connect":
        return [f"disconnect {parent(command.item)}", f"disconnect {parent(place)}"]
    inverse = {
        "close": "open", "activate": "deactivate", "deactivate": "activate",
        "drop": "pick up", "move": "pick up",
    }  # fmt: skip
    return [f"{inverse[command.verb]} {item}"] if command.verb in inverse else []


def parent(terminal: str) -> str:
    """The electrical part that a terminal belongs to."""
    name = re.sub(r"^(?:anode|cathode|terminal \d) (?:on|in|of) (?:the )?", "", terminal)
    return re.sub(r" (?:anode|cathode|terminal \d)$", "", name)


def resumed(now: Transcript, rest: Sequence[str], room: str, teleport: bool) -> list[str]:
    """``rest``, which goes on in ``room``, from the room where the agent is.

    From elsewhere the agent goes to the first room where there is something to do.
    """
    if now.room == room:
        return list(rest)
    start = 0
    for number, action in enumerate(rest):
        command = parse(action)
        if command.verb in TRAVEL:
            room, start = command.item, number + 1
        elif command.verb not in FREE and not command.item.startswith("door to"):
            break
    return [*now.route(room, teleport), *rest[start:]]
