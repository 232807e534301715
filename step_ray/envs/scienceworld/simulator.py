"""One ScienceWorld in a slot of a Java process.

Texts, scores and ends are those of the simulator's own ``PythonInterface``, driven as the
``scienceworld`` package does: loading is followed by a "look around", which counts as an action.
All of it is a function of (task, variation, simplifications, actions), in any slot and process.

The engine draws random numbers not only for bees and genes, but also to choose a name for a thing
that has several: at each listing of actions or objects, and at each text, even one that is no
action. Here all but executed actions leave the numbers as they were, so looking changes nothing.

When the Java process dies, the next call goes on in another one, where the actions so far are
played again; a caller sees nothing but the time it takes. All simulators of that process move there
at once, so if it dies too it is not clear whose doing that is: each then goes on in one of its own.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from step_ray.envs.base import EnvError, EnvTimeout
from step_ray.envs.scienceworld.client import Connection, JavaError, Ref, Value

if TYPE_CHECKING:
    from step_ray.envs.scienceworld.jvm import Slot
    from step_ray.envs.scienceworld.pool import SimulatorPool

_SEPARATOR = "\x1f"
_FIRST_ACTION = "look around"
UNKNOWN = "No known action matches that input."
"""The engine's answer to what is no action."""
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Step:
    """Answer to one action. ``score``: the engine's, -100 to 100; ``done``: the episode is over."""

    observation: str
    score: int
    done: bool


@dataclass(frozen=True, slots=True)
class _Loaded:
    task: str
    variation: int
    simplifications: str
    gold: bool


class Simulator:
    """A simulator lent by a pool; for one thread at a time.

    Any call may raise EnvTimeout, which ends the episode (``load`` starts another), and EnvError
    when the simulator refuses or when processes die of it, at last one of its own.
    """

    def __init__(self, pool: SimulatorPool) -> None:
        self._pool = pool
        self._slot: Slot | None = None
        self._loaded: _Loaded | None = None
        self._actions: list[str] = []
        self._busy = threading.Lock()
        self._give_back: weakref.finalize[..., Simulator] | None = None

    def load(self, task: str, variation: int, simplifications: str = "", gold: bool = False) -> str:
        """Begins an episode; returns the first observation, that of "look around".

        ``task`` as the engine names it ("boil"); ``simplifications`` comma-separated without
        blanks. ``gold`` has the engine work out its gold path, which takes seconds. Raises
        EnvError for a task, variation or simplification that the engine does not have.
        """
        loaded = _Loaded(task, variation, simplifications, gold)
        self._loaded, self._actions = None, []
        observation = self._ask(lambda slot: _load(slot, loaded))
        self._loaded = loaded
        return observation

    def step(self, action: str) -> Step:
        """Executes any text. What is no action is answered and changes nothing."""
        self._playing()
        step = self._ask(lambda slot: _step(slot, action))
        self._actions.append(action)
        return step

    def replay(self, actions: Sequence[str]) -> list[Step]:
        """Executes the actions one after the other."""
        return [self.step(action) for action in actions]

    def look(self) -> str:
        """What "look around" would show; takes no time."""
        return self._text("freeActionLook")

    def inventory(self) -> str:
        """What the agent carries; takes no time."""
        return self._text("freeActionInventory")

    def task_description(self) -> str:
        """The task in words; takes no time."""
        return self._text("freeActionTaskDesc")

    def valid(self) -> list[str]:
        """All valid actions, in the engine's order: hundreds to thousands, tens of ms.

        While the engine waits for the number of one of several readings, these are the numbers.
        """
        return self._texts("getValidActionObjectCombinations")

    def possible_objects(self) -> list[str]:
        """Names by which visible objects can be called."""
        return self._texts("getPossibleObjects")

    def possible_actions(self) -> list[str]:
        """The action templates, with OBJ and LOC for names."""
        return self._texts("getPossibleActions")

    def gold_path(self) -> list[str]:
        """The engine's gold actions, from the beginning; it may go on after the end."""
        if not self._playing().gold:
            raise EnvError("no gold path was made: load the task with gold=True")
        return self._texts("getGoldActionSequence")

    def scripted_path(self) -> list[str]:
        """Lets the task's scripted agent act from the present state, and returns what it did.

        The actions are really executed. The script expects a fresh episode: from another state it
        may stop early or fail, so look at the score of what it did.
        """
        loaded = self._playing()

        def act(slot: Slot) -> list[str]:
            before = len(_texts(slot, "getActionHistory"))
            connection, simulator = slot.connection, slot.simulator
            maker = connection.ref(simulator, "taskMaker")
            arguments = (loaded.task, loaded.variation, simulator)
            try:
                made = connection.ref(maker, "createGoldActions", *arguments)
                connection.forget(made)
            except JavaError:
                pass  # the script met a state it does not expect; what it did before counts
            connection.forget(maker)
            return _texts(slot, "getActionHistory")[before:]

        done = self._ask(act)
        self._actions.extend(done)
        return done

    def score(self) -> tuple[int, bool]:
        """The present score, -100 to 100, and whether the episode is over."""
        self._playing()
        return self._ask(_score)

    def goal_progress(self) -> str:
        """The engine's table of the task's sub-goals and which of them are done."""
        return self._text("getGoalProgressStr")

    def simplifications(self) -> str:
        """The simplifications in effect, spelled out, sorted."""
        return ",".join(sorted(self._text("getSimplificationsUsed").replace(",", " ").split()))

    @property
    def actions(self) -> tuple[str, ...]:
        """What was executed since the load."""
        return tuple(self._actions)

    def release(self) -> None:
        """Gives the slot back. Another ``load`` takes one again. Safe while a call is under way."""
        self._loaded, self._actions = None, []
        idle = self._busy.acquire(blocking=False)
        try:
            self._drop(stuck=not idle)
        finally:
            if idle:
                self._busy.release()

    # -- calls -------------------------------------------------------------------------------------

    def _playing(self) -> _Loaded:
        if self._loaded is None:
            raise EnvError("no ScienceWorld task is loaded in this simulator; call load first")
        return self._loaded

    def _text(self, method: str) -> str:
        self._playing()
        return self._ask(lambda slot: slot.connection.text(slot.simulator, method))

    def _texts(self, method: str) -> list[str]:
        self._playing()

        def ask(slot: Slot) -> list[str]:
            drawn = slot.drawn()
            texts = _texts(slot, method)
            slot.restore(drawn)
            return texts

        return self._ask(ask)

    def _ask(self, call: Callable[[Slot], _T]) -> _T:
        """The answer, by a new process and replay if the present one dies meanwhile; by one of its
        own if that dies too."""
        if not self._busy.acquire(blocking=False):
            raise EnvError("this simulator is in use by another thread; acquire one for each")
        try:
            for take in (self._taken, self._again):
                try:
                    return call(take())
                except ConnectionError as error:
                    if self._slot is None:
                        raise EnvError("this simulator was released during the call") from error
                    self._drop(lost=True)
            return call(self._again(alone=True))
        except TimeoutError as error:
            self._drop(stuck=True)
            self._loaded = None
            seconds = self._pool.timeout
            raise EnvTimeout(f"ScienceWorld did not answer within {seconds:g} s") from error
        except ConnectionError as error:
            self._drop(lost=True)
            raise EnvError(
                "ScienceWorld's Java process ended, and so did two others in the same state; "
                "memory may be short (it needs about 250 MB and 40 MB per environment)"
            ) from error
        finally:
            self._busy.release()

    def _taken(self, alone: bool = False) -> Slot:
        if self._slot is None:
            self._slot = self._pool.lend(alone=alone)
            self._give_back = weakref.finalize(self, self._pool.abandon, self._slot)
            self._give_back.atexit = False
        return self._slot

    def _again(self, alone: bool = False) -> Slot:
        slot = self._taken(alone)
        if self._loaded is not None:
            _load(slot, self._loaded)
            for action in self._actions:
                _step(slot, action)
        return slot

    def _drop(self, *, stuck: bool = False, lost: bool = False) -> None:
        slot, self._slot = self._slot, None
        if slot is None:
            return
        if self._give_back is not None:
            self._give_back.detach()
        if lost:
            self._pool.lost(slot)
        else:
            self._pool.take_back(slot, stuck=stuck)


def _load(slot: Slot, loaded: _Loaded) -> str:
    refused = slot.connection.text(
        slot.simulator,
        "load",
        loaded.task,
        loaded.variation,
        loaded.simplifications,
        loaded.gold,
    )
    if refused:
        raise EnvError(f"ScienceWorld cannot load {loaded}: {refused}")
    if loaded.simplifications and not slot.connection.text(
        slot.simulator, "getSimplificationsUsed"
    ):  # the engine drops all of them, without a word, when it does not know one
        raise EnvError(f"ScienceWorld knows no such simplifications: {loaded.simplifications!r}")
    return _step(slot, _FIRST_ACTION).observation


def _step(slot: Slot, action: str) -> Step:
    drawn = slot.drawn()
    observation = slot.connection.text(slot.simulator, "step", action)
    if observation == UNKNOWN:
        slot.restore(drawn)
    return Step(observation, *_score(slot))


def _score(slot: Slot) -> tuple[int, bool]:
    connection: Connection = slot.connection
    simulator: Ref = slot.simulator
    share: Value = connection.call(simulator, "getScore")
    completed = connection.call(simulator, "getCompleted")
    score = round(100 * float(str(share)))
    return score, bool(completed) or score < 0


def _texts(slot: Slot, method: str) -> list[str]:
    """A Java list of strings in one answer, instead of one per element."""
    listed = slot.connection.ref(slot.simulator, method)
    joined = slot.connection.text("java.lang.String", "join", _SEPARATOR, listed)
    slot.connection.forget(listed)
    return joined.split(_SEPARATOR) if joined else []
