"""Everything that determines one episode, and the identity that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from step_ray.synthesis.beginning import Prefix
from step_ray.teacher.base import CorrectionStyle
from step_ray.trajectory import Provenance, content_hash

OnError = Literal["execute", "veto"]
_TUPLES = ("prefix", "suffix")


@dataclass(frozen=True, slots=True)
class EpisodeSpec:
    """One episode to run. Equal specs give equal trajectories, on any worker.

    ``student`` and ``teacher`` are fingerprints ("" = none: a golden or unmonitored episode);
    ``sampling`` is canonical JSON; ``max_steps`` and ``abort_errors`` count turns.

    An episode may begin after the turns of ``prefix``. The student goes on, or the last of them is
    a deviation which is to be calibrated (STeCa): with ``then`` ``expert`` by a correction that is
    executed, the expert going on from the state that is; with ``paste`` by ``suffix``, an expert's
    turns (thought, action, observation, reward) from elsewhere that are not executed.

    ``judged``: an episode without a teacher whose turns get the verdict of the environment's judge.
    """

    env: str
    data: str  # identity of the environment's data set, not a path: paths differ per machine
    split: str
    task: str
    task_type: str
    seed: int
    rollout: int = 0
    student: str = ""
    teacher: str = ""
    prompt_version: str = ""
    sampling: str = ""
    on_error: OnError = "execute"
    style: CorrectionStyle = "brief"
    max_steps: int = 40
    abort_errors: int = 1_000_000
    prefix: Prefix = ()
    then: Literal["student", "expert", "paste"] = "student"
    suffix: tuple[tuple[str, str, str, float], ...] = ()
    judged: bool = False

    def __post_init__(self) -> None:
        for name in _TUPLES:  # JSON has lists for them
            object.__setattr__(self, name, tuple(tuple(item) for item in getattr(self, name)))

    @property
    def id(self) -> str:
        """Content hash; the trajectory's id."""
        return _id(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON-like; what most episodes do not have is left out."""
        whole = {name: getattr(self, name) for name in self.__slots__}
        absent = {name for name in _TUPLES if not whole[name]}
        if self.then == "student":
            absent.add("then")
        if not self.judged:
            absent.add("judged")
        return {name: value for name, value in whole.items() if name not in absent}

    def turn_seed(self, turn: int) -> int:
        """Seed of the student's reply number ``turn``: a function of the spec alone."""
        return int(content_hash([self.id, turn], 12), 16)

    def provenance(self, env_build: str, data_hash: str, dialect: str, code: str) -> Provenance:
        """The row's provenance, completed by what the environment says of itself."""
        return Provenance(
            env_build=env_build,
            data_hash=data_hash,
            dialect=dialect,
            student=self.student,
            teacher=self.teacher,
            prompt_version=self.prompt_version,
            sampling=self.sampling,
            seed=self.seed,
            code_version=code,
        )


@lru_cache(maxsize=1024)  # it is asked for at every turn
def _id(spec: EpisodeSpec) -> str:
    return content_hash(spec.to_dict())
