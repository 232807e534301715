"""ScienceWorld as a text environment (Wang et al. 2022, "ScienceWorld: Is your Agent Smarter than
a 5th Grader?"), on the original simulator in a shared Java process.

Rewards are the engine's score divided by 100, 0 when it is negative; a wrong focus makes it -100
and ends the episode. A text that is no action changes nothing and is not valid. When several
things fit a name the engine asks for a number; asking and answering are valid, and so is any
other answer, for it withdraws the question (the actions after that are as before).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from step_ray.envs.base import Build, EnvError, Judgement, Observation, StepResult, Task
from step_ray.envs.scienceworld import tasks as tables
from step_ray.envs.scienceworld.instruction import instruction_for
from step_ray.envs.scienceworld.jvm import jar_hash
from step_ray.envs.scienceworld.pool import SimulatorPool, pool
from step_ray.envs.scienceworld.simulator import UNKNOWN, Simulator
from step_ray.trajectory import Turn, content_hash

if TYPE_CHECKING:
    from step_ray.envs.scienceworld.expert import Expert

_OVER = "The episode is over."
_SEWER = re.compile(r"\bsewer\b")


@dataclass(frozen=True, slots=True)
class _Played:
    """The task of the present episode."""

    task: Task
    name: str
    variation: int
    simplifications: str
    step_limit: int | None


class ScienceWorldEnv:
    """ScienceWorld's tasks as episodes.

    ``data``: a folder with ETO's lists of variations, see ``tasks.listed_tasks``; None for the
    benchmark's own splits. ``types``: task names, None for all. ``variations``: at most so many
    per task and split, drawn by ``seed``. ``simplifications``: ``eto`` (all there are), ``none``
    or names. ``step_limits``: ``eto`` (10 to 120 by task; 6 tasks have none), ``none``, or a number
    by task; an episode that reaches its limit is truncated. ``slots_per_jvm`` and ``timeout``
    (seconds a call may take) are those of the pool of simulators.

    Raises EnvError for what does not exist, and when Java or the simulator is missing.
    """

    name = tables.ENV
    splits = tables.SPLITS

    def __init__(
        self,
        data: str | Path | None = None,
        *,
        types: Sequence[str] | None = None,
        variations: int | None = None,
        seed: int = 0,
        simplifications: str | Sequence[str] = "eto",
        step_limits: tables.StepLimits = "none",
        slots_per_jvm: int = 8,
        timeout: float = 60.0,
    ) -> None:
        self._folder = None if data is None else Path(data)
        self._types = tuple(tables.VARIATIONS if types is None else map(tables.known, types))
        if variations is not None and variations < 1:
            raise EnvError(f"variations={variations}; it must be at least 1")
        self._variations = variations
        self._seed = seed
        self._simplifications = simplifications
        self._step_limits = step_limits
        for name in self._types:
            tables.simplifications_for(name, simplifications)
            tables.step_limit(name, step_limits)
        self._pool: SimulatorPool = pool(slots_per_jvm, timeout)
        self._closed = False
        self._expert: Expert | None = None
        self._reward, self._terminated, self._truncated = 0.0, False, False
        self._begin(None)
        self._simulator = self._pool.acquire()

    def tasks(self, split: str) -> Sequence[Task]:
        """The tasks of a split: by the benchmark's order of tasks, or by ETO's list."""
        self._check_open()
        if self._folder is None:
            return tables.all_tasks(self._types, split, self._variations, self._seed)
        listed = tables.listed_tasks(self._folder, split)
        return [task for task in listed if task.type in self._types]

    def reset(self, task: Task, seed: int = 0) -> Observation:
        """Starts an episode. ``seed`` changes nothing: a variation is one fixed world."""
        self._check_open()
        self._begin(None)
        name, variation = tables.parse_id(task)
        problem = _Played(
            task,
            name,
            variation,
            tables.simplifications_for(name, self._simplifications),
            tables.step_limit(name, self._step_limits),
        )
        room = self._simulator.load(name, variation, problem.simplifications)
        described = self._simulator.task_description().removeprefix("Task Description:").strip()
        self._begin(problem)
        return Observation(instruction_for(problem.simplifications), f"{described}\n\n{room}")

    def step(self, action: str) -> StepResult:
        """Executes an action; after the end nothing happens any more."""
        problem = self._playing()
        if self._over:
            return StepResult(_OVER, self._reward, self._terminated, self._truncated, False)
        answer = self._simulator.step(action)
        valid = answer.observation != UNKNOWN
        self._turns += 1
        if valid:
            self._actions.append(action)
        self._reward = max(answer.score, 0) / 100
        self._terminated = answer.done
        self._truncated = not answer.done and self._turns == problem.step_limit
        return StepResult(
            answer.observation, self._reward, self._terminated, self._truncated, valid
        )

    def admissible(self) -> list[str]:
        """The valid actions (of the engine's many spellings, one for each); none after the end.

        The engine lists what could be done with the sewer behind a drain, but accepts none of it.
        """
        self._playing()
        if self._over:
            return []
        return sorted({action for action in self._simulator.valid() if not _SEWER.search(action)})

    def expert(self) -> Turn | None:
        """The expert's turn; None after the end and where nothing leads to the full score."""
        self._playing()
        if self._over:
            return None
        return self._the_expert().next_turn(self._actions, self._simulator)

    def judge(self, action: str) -> Judgement:
        """Privileged judgement of an action; changes nothing."""
        from step_ray.envs.scienceworld.judge import judge

        self._playing()
        if self._over:
            return Judgement(True, "invalid", (("cause", "over"), ("why", "the task is over")))
        return judge(self._the_expert(), self._actions, self._simulator, action)

    def build(self) -> Build:
        """Engine, hash of its jar and of the simplifications, the one dialect there is."""
        problem = self._playing()
        data = {"jar": jar_hash(), "simplifications": problem.simplifications}
        engine = f"scienceworld-{version('scienceworld')}+hashCode2"
        return Build(engine, content_hash(data, 64), "sciworld")

    def fork(self) -> ScienceWorldEnv:
        """An independent copy: another simulator, where the actions are played again."""
        problem = self._playing()
        child = ScienceWorldEnv.__new__(ScienceWorldEnv)
        child.__dict__.update(self.__dict__)
        child._actions = list(self._actions)
        child._expert = None
        child._simulator = self._pool.acquire()
        child._simulator.load(problem.name, problem.variation, problem.simplifications)
        child._simulator.replay(self._actions)
        return child

    def close(self) -> None:
        """Gives the simulators back to the pool and ends the use of this environment."""
        self._closed = True
        self._begin(None)
        self._simulator.release()

    def restarts(self) -> int:
        """How many Java processes of this process's pool died since any environment was asked."""
        return self._pool.deaths()

    @property
    def simulator(self) -> Simulator:
        """The simulator that the episode is played on."""
        return self._simulator

    def _begin(self, problem: _Played | None) -> None:
        self._problem = problem
        self._actions: list[str] = []  # those that were valid: the others changed nothing
        self._turns = 0
        self._reward = 0.0
        self._terminated = self._truncated = False
        self._forget_expert()

    @property
    def _over(self) -> bool:
        return self._terminated or self._truncated

    def _the_expert(self) -> Expert:
        from step_ray.envs.scienceworld.expert import Expert

        problem = self._playing()
        if self._expert is None:
            self._expert = Expert(
                self._pool, problem.name, problem.variation, problem.simplifications
            )
        return self._expert

    def _forget_expert(self) -> None:
        if self._expert is not None:
            self._expert.close()
        self._expert = None

    def _check_open(self) -> None:
        if self._closed:
            raise EnvError("this environment is closed; make a new one")

    def _playing(self) -> _Played:
        self._check_open()
        if self._problem is None:
            raise EnvError("no task is being played; call reset(task) first")
        return self._problem
