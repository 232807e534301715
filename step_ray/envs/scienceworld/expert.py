"""The ScienceWorld expert: the next turn of a plan that reaches the full score, from any state."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

from step_ray.envs.scienceworld.commands import FREE, TRAVEL, Command, parse, refusal
from step_ray.envs.scienceworld.follow import Problem, Scratch, same
from step_ray.envs.scienceworld.plans import gold_plan, search, without, worded
from step_ray.envs.scienceworld.pool import SimulatorPool
from step_ray.envs.scienceworld.reasons import is_door
from step_ray.envs.scienceworld.simulator import Simulator
from step_ray.envs.scienceworld.thoughts import thought_of
from step_ray.envs.scienceworld.transcript import Transcript
from step_ray.trajectory import Turn

_LOOK = "look around"
_KEPT = 4096  # plans in memory
_Key = tuple[Problem, tuple[str, ...]]


class _Plans:
    """Plans found lately in this process, by problem and state; safe to share by threads."""

    def __init__(self) -> None:
        self._found: OrderedDict[_Key, tuple[str, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> tuple[str, ...] | None:
        """The plan; empty if there is none, None if it was not looked for."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def keep(self, key: _Key, plan: tuple[str, ...]) -> None:
        with self._lock:
            self._found[key] = plan
            self._found.move_to_end(key)
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)


_plans = _Plans()


class Expert:
    """The expert of one task; for one thread at a time.

    It keeps a simulator from ``pool`` in step with what it is asked about: :meth:`close` gives
    it back, and the next question takes another.
    """

    def __init__(
        self, pool: SimulatorPool, task: str, variation: int, simplifications: str = ""
    ) -> None:
        self.problem = Problem(task, variation, simplifications)
        self._sim = pool.acquire()
        self.scratch = Scratch(self._sim, self.problem)
        self._description = ""

    def plan(self, prefix: Sequence[str]) -> tuple[str, ...] | None:
        """Actions from the state after ``prefix`` to the full score; None if none was found, or if
        the task has no working gold path. Raises EnvError when the simulator fails."""
        prefix = tuple(prefix)
        gold = self._gold()
        if not gold:
            return None
        plan = _plans.get((self.problem, prefix))
        if plan is None:
            plan = self._find(prefix, gold)
            _plans.keep((self.problem, prefix), plan)
        return plan or None

    def next_turn(self, prefix: Sequence[str], sim: Simulator) -> Turn | None:
        """The expert's turn after ``prefix``, in which ``sim`` is; None if there is no plan.

        Raises EnvError as :meth:`plan` does.
        """
        plan = self.plan(prefix)
        if plan is None:
            return None
        if not self._description:
            self._description = sim.task_description()
        now = self.scratch.at(tuple(prefix))
        plan = informed(now, plan)
        problem = self.problem
        key = f"{problem.task}_{problem.variation}:{len(now.events)}"
        return Turn(thought_of(now, plan, self._description, key), plan[0], author="expert")

    def close(self) -> None:
        """Gives the simulator back."""
        self._sim.release()
        self.scratch = Scratch(self._sim, self.problem)

    def _gold(self) -> tuple[str, ...]:
        gold = _plans.get((self.problem, ()))
        if gold is None:
            gold = gold_plan(self.scratch)
            _plans.keep((self.problem, ()), gold)
        return gold

    def _find(self, prefix: tuple[str, ...], gold: tuple[str, ...]) -> tuple[str, ...]:
        now = self.scratch.at(prefix)
        if now.done:
            return ()
        rest, room, strayed = self._along(now, self._planned(prefix), gold)
        if strayed or now.ambiguous:
            return worded(self.scratch, prefix, search(self.scratch, prefix, rest, room, gold))
        return rest

    def _planned(self, prefix: tuple[str, ...]) -> int:
        """The length of the longest beginning for which there is a plan."""
        for size in range(len(prefix), 0, -1):
            if _plans.get((self.problem, prefix[:size])):
                return size
        return 0

    def _along(
        self, now: Transcript, start: int, gold: tuple[str, ...]
    ) -> tuple[tuple[str, ...], str, bool]:
        """What is left of the plan made after ``start`` actions, the room where it goes on, and
        whether something else was done meanwhile that took time."""
        rest = _plans.get((self.problem, now.actions[:start])) or gold
        room = now.events[start].room if start < len(now.events) else now.room
        strayed = False
        for event in now.events[start:]:
            timed = [action for action in rest if parse(action).verb not in FREE]
            command = parse(event.action)
            if timed and event.action == timed[0]:
                rest = rest[rest.index(timed[0]) + 1 :]
                room = command.item if command.verb in TRAVEL else room
            elif rest and event.action == rest[0]:
                rest = rest[1:]
            elif focused := [a for a in timed if command.verb == "focus" and same(a, event.action)]:
                rest = without(rest, focused[0])  # a second focus would fail the task
                strayed = True
            elif command.verb not in FREE and refusal(event.observation) != "unknown":
                strayed = True
        return rest, room, strayed


def informed(now: Transcript, plan: Sequence[str]) -> tuple[str, ...]:
    """The plan with a look around where an agent needs one, and without one that tells nothing.

    An agent looks around in a room before it does something with what is there, and before it
    focuses on what may have changed. A look takes no time.
    """
    while plan and plan[0] == _LOOK and now.fresh and now.room in now.looked:
        plan = plan[1:]
    command = parse(plan[0])
    going = command.verb in TRAVEL or is_door(command) or command.verb in FREE
    blind = now.room not in now.looked and (not going or _came_to_see(now, command))
    stale = command.verb == "focus" and not now.fresh and "inventory" not in command.item
    if (blind or stale) and not now.ambiguous:
        return (_LOOK, *plan)
    return tuple(plan)


def _came_to_see(now: Transcript, command: Command) -> bool:
    """Whether the agent goes back where it came from: it can only have come to look."""
    return command.verb in TRAVEL and bool(now.events) and now.events[-1].room == command.item
