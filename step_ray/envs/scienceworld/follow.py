"""Carrying out a list of actions in a scratch simulator, mending what the state has made obsolete.

A plan made for one state often still works in another when a closed door is opened first, a
life stage is waited for, or a thing is called by its present name. :func:`follow` tries that and
returns the actions that really lead to the full score, each of which the world accepts.
"""

from __future__ import annotations

import itertools
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from step_ray.envs.scienceworld.commands import Command, Verb, bare, parse, refusal
from step_ray.envs.scienceworld.simulator import Simulator
from step_ray.envs.scienceworld.transcript import Transcript

FULL = 100
"""The score of a task that is done."""
_MOST_WAITS = 20  # times two ticks
_MOST_NAMES = 5
_CLOSED = re.compile(r"[Tt]he (.+?) isn't open")
_STAGE = re.compile(
    r"\b(?:egg|seed|seedling|baby|hatchling|larva|tadpole|froglet|caterpillar|pupa|chrysalis|"
    r"juvenile|adult|reproducing)\b"
)
_ESSENTIAL: frozenset[Verb] = frozenset({"focus", "go", "teleport"})
_KEPT = ("", "ambiguous")


@dataclass(frozen=True, slots=True)
class Problem:
    """One task as the simulator knows it."""

    task: str
    variation: int
    simplifications: str

    @property
    def stages(self) -> bool:
        """Whether it matters in which stage of its life a thing is."""
        return self.task.startswith("identify-life-stages")

    @property
    def teleport(self) -> bool:
        """Whether the agent can teleport to any room."""
        words = self.simplifications.split(",")
        return "easy" in words or "teleportAction" in words


class Scratch:
    """A simulator that is put into any state of one problem by replay.

    What was executed last stays, so going on from there costs only the new actions.
    """

    def __init__(self, sim: Simulator, problem: Problem) -> None:
        self.sim = sim
        self.problem = problem
        self._known: Transcript | None = None

    @property
    def now(self) -> Transcript:
        """What was read on the way to the present state."""
        assert self._known is not None, "call at(prefix) first"
        return self._known

    def at(self, prefix: Sequence[str]) -> Transcript:
        """Puts the simulator into the state after ``prefix`` and returns what was read so far."""
        done = self._known.actions if self._known else ()
        if self._known is None or done != tuple(prefix[: len(done)]):
            problem = self.problem
            self._known, done = None, ()
            look = self.sim.load(problem.task, problem.variation, problem.simplifications)
            self._known = Transcript.begin(look)
        for action in prefix[len(done) :]:
            self.step(action)
        return self._known

    def step(self, action: str) -> Transcript:
        """One action from the present state."""
        self._known = self._then(self.now, action)
        return self._known

    def gold(self, simplifications: str) -> tuple[str, ...]:
        """The engine's gold path under some simplifications; takes seconds."""
        self._known = None
        self.sim.load(self.problem.task, self.problem.variation, simplifications, gold=True)
        return tuple(self.sim.gold_path())

    def scripted(self) -> tuple[str, ...]:
        """What the task's own script does from the present state."""
        actions = tuple(self.sim.scripted_path())
        self._known = None
        return actions

    def _then(self, known: Transcript, action: str) -> Transcript:
        step = self.sim.step(action)
        return known.then(action, step.observation, step.score, step.done)


def follow(scratch: Scratch, prefix: Sequence[str], actions: Sequence[str]) -> tuple[str, ...]:
    """Actions that lead from the state after ``prefix`` to the full score, along ``actions``.

    Empty if this does not work out. Every action of the result is accepted when its turn comes.
    """
    before = len(scratch.at(prefix).events)
    reached = _mending(scratch, actions)
    if reached.score != FULL:
        return ()
    tried = [(event.action, refusal(event.observation)) for event in reached.events[before:]]
    if all(code in _KEPT for _, code in tried):
        return tuple(action for action, _ in tried)
    # What was refused is left out; if the time it took was needed, it is waited for.
    taken = [action for action, code in tried if code in _KEPT]
    waited = [action if code in _KEPT else "wait1" for action, code in tried if code != "unknown"]
    idled = [
        event.action if code in _KEPT else f"look at {event.room}"  # takes half as long
        for event, (_, code) in zip(reached.events[before:], tried, strict=True)
        if code != "unknown"
    ]
    for actions in (taken, waited, idled):
        if plan := replayed(scratch, prefix, actions):
            return plan
    return ()


def replayed(scratch: Scratch, prefix: Sequence[str], actions: Sequence[str]) -> tuple[str, ...]:
    """``actions`` up to the full score if they lead there and none is refused, else nothing."""
    reached = scratch.at(prefix)
    for number, action in enumerate(actions, 1):
        reached = scratch.step(action)
        if refusal(reached.events[-1].observation) not in _KEPT:
            return ()
        if reached.done:
            return tuple(actions[:number]) if reached.score == FULL else ()
    return ()


def _mending(scratch: Scratch, actions: Sequence[str]) -> Transcript:
    """Runs the actions, mending what is refused, until the episode or the list is over."""
    queue = deque(actions)
    mended: set[str] = set()
    while queue and not scratch.now.done:
        action = queue.popleft()
        observation = scratch.step(action).events[-1].observation
        code = refusal(observation)
        if code == "ambiguous":
            queue.appendleft("0")
        elif code == "unknown" and not _other_words(scratch, action):
            if _needed(scratch, parse(action)):
                break
        elif code in ("door_closed", "closed") and action not in mended:
            mended.add(action)
            container = _CLOSED.search(observation)
            name = container[1] if container else f"door to {parse(action).item}"
            queue.extendleft((action, f"open {name}"))
    return scratch.now


def _other_words(scratch: Scratch, action: str) -> bool:
    """Does the same to the thing by its present name, or once its life stage has come."""
    command = parse(action)
    if scratch.problem.stages and command.verb == "focus":
        return _awaited(scratch, action)
    for other in _renamed(scratch, command, action):
        if other != action and _accepted(scratch, other):
            return True
    lost = bare(command.item)
    return lost != command.item and _fetched(scratch, lost) and _accepted(scratch, action)


def _renamed(scratch: Scratch, command: Command, action: str) -> Iterator[str]:
    """The action with other names of the same kinds, as the simulator has them now."""
    names = scratch.sim.possible_objects()
    if command.place:
        items, places = _alike(command.item, names), _alike(command.place, names)
        start = action[: action.index(command.item)]
        between = action[len(start) + len(command.item) : action.rindex(command.place)]
        for item, place in itertools.product(items, places):
            yield f"{start}{item}{between}{place}"
    elif command.item:
        for item in _alike(command.item, names):
            yield action.replace(command.item, item)


def _alike(name: str, names: Sequence[str]) -> list[str]:
    own = [name, bare(name), f"{bare(name)} in inventory"]
    others = [other for other in names if _kind(other) == _kind(name)]
    return list(dict.fromkeys([*own, *others]))[:_MOST_NAMES]


def _fetched(scratch: Scratch, thing: str) -> bool:
    """Picks up a thing that was put down here or in another room, and comes back."""
    home, teleport = scratch.now.room, scratch.problem.teleport
    put = re.compile(rf"You move the {re.escape(thing)} to the (?!inventory)")
    where = next((e.room for e in reversed(scratch.now.events) if put.search(e.observation)), home)
    for action in scratch.now.route(where, teleport):
        scratch.step(action)
    found = _accepted(scratch, f"pick up {thing}")
    for action in scratch.now.route(home, teleport):
        scratch.step(action)
    return found


def _needed(scratch: Scratch, command: Command) -> bool:
    """Whether a plan must not do without an action. What cannot be measured any more may be left
    out, but not because the instrument is missing: that would be guessing."""
    if command.verb == "use":
        return bare(command.item) not in scratch.sim.inventory()
    return command.verb in _ESSENTIAL


def _awaited(scratch: Scratch, action: str) -> bool:
    """Waits for a living thing in the right stage, which may be another one in another pot."""
    plant = re.match(r"focus on (.+?)(?: in the (\w+) stage)? in (?:self watering )?flower", action)
    for _ in range(_MOST_WAITS):
        if plant:
            stage = f" in the {plant[2]} stage" if plant[2] not in (None, "seed") else r"\b"
            for pot in re.findall(
                rf"a ((?:self watering )?flower pot \d+) \(containing an? {plant[1]}{stage}",
                scratch.sim.look(),
            ):
                named = f"{plant[0].removesuffix('flower').removesuffix('self watering ')}{pot}"
                if named != action and _accepted(scratch, named):
                    return True
        scratch.step("wait1")
        if scratch.now.done or _accepted(scratch, action):
            return True
    return False


def _accepted(scratch: Scratch, action: str) -> bool:
    return not refusal(scratch.step(action).events[-1].observation)


def same(one: str, other: str) -> bool:
    """Whether two actions do the same to things that differ by place or life stage only."""
    a, b = parse(one), parse(other)
    return a.verb == b.verb and _kind(a.item) == _kind(b.item) and _kind(a.place) == _kind(b.place)


def _kind(name: str) -> frozenset[str]:
    """The words of a name without where the thing is and how old."""
    return frozenset(_STAGE.sub("", bare(name)).split())
