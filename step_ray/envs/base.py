"""The contract of every environment.

An environment is deterministic for (task, seed), gives rewards in [0, 1], treats an unknown
action as a no-op that it reports as invalid, and never raises for any action text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from step_ray.trajectory import Turn


class EnvError(RuntimeError):
    """The engine failed or a task cannot be played; says what, where and how to fix it."""


class EnvTimeout(EnvError):  # noqa: N818
    """The engine did not answer in time; the episode is lost, the environment can be reset."""


@dataclass(frozen=True, slots=True)
class Task:
    """One problem. ``id`` is stable across machines and releases of the same data."""

    id: str
    env: str
    split: str
    type: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What the agent sees first: the environment's standing instruction and the first text."""

    instruction: str
    text: str


@dataclass(frozen=True, slots=True)
class StepResult:
    """Answer to one action. ``terminated``: the world ended; ``truncated``: its own limit did."""

    observation: str
    reward: float
    terminated: bool
    truncated: bool
    valid: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the environment's privileged state says of a proposed action.

    ``kind`` names the error ("" when there is none) and ``facts`` are short phrases, filled into
    the teacher's sentences, about why. ``irreversible``: executing it would end the episode in
    failure, so a teacher must veto it.
    """

    is_error: bool
    kind: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    irreversible: bool = False


@dataclass(frozen=True, slots=True)
class Build:
    """Identity of what answers: engine version, hash of the task's data, action dialect."""

    engine: str
    data_hash: str
    dialect: str


@runtime_checkable
class TextEnv(Protocol):
    """A text environment; one instance plays one episode at a time.

    It may say ``inline = True``: once an episode has begun, all calls but ``close`` are short
    computations that never wait for anything. Callers save them the way through a thread. It may
    say ``splits``, the names of its splits, so that they can be listed. ``restarts()`` may tell how
    often an engine that it plays on died and was started again since the last time; never waits.

    ``step_ray.envs.contract.check_contract`` checks all that is said here.
    """

    name: str

    def tasks(self, split: str) -> Sequence[Task]:
        """Tasks of a split in a stable order. Raises EnvError for an unknown split."""
        ...

    def reset(self, task: Task, seed: int = 0) -> Observation:
        """Starts an episode. Raises EnvError for a corrupt or unsolvable task."""
        ...

    def step(self, action: str) -> StepResult:
        """Executes an action; any text is allowed."""
        ...

    def admissible(self) -> list[str]:
        """Actions that are valid now, sorted; computed only when asked."""
        ...

    def expert(self) -> Turn | None:
        """The expert's next turn from the present state, whatever led there; None without one."""
        ...

    def judge(self, action: str) -> Judgement:
        """Privileged judgement of an action proposed in the present state; changes nothing."""
        ...

    def build(self) -> Build:
        """Identity of engine and data of the task being played."""
        ...

    def fork(self) -> TextEnv:
        """An independent copy of the present state."""
        ...

    def close(self) -> None:
        """Releases everything; further calls raise EnvError."""
        ...
