"""What a trajectory is: tau = (u, t1, a1, o1, ..., tn, an, on) with the teacher's verdicts.

Plain frozen data, no behaviour but conversion to and from JSON-like dictionaries. Verdicts are
stored and loss masks are derived from them (``step_ray.training.masks``), so an ablation of the
mask never needs a new synthesis.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Author = Literal["expert", "student", "teacher"]
Verdict = Literal["correct", "error", "correction"]
Outcome = Literal[
    "success",  # the environment says the task is done
    "failure",  # the environment ended the episode without success
    "step_limit",  # the turn budget ran out
    "error_limit",  # the student made more errors than the episode allows
    "env_timeout",  # reset, step or close passed its deadline
    "env_error",  # the engine raised
    "student_error",  # the student's reply could not be produced
    "teacher_error",  # the teacher's reply could not be obtained or parsed
    "episode_timeout",  # the whole episode passed its deadline
]


@dataclass(frozen=True, slots=True)
class Review:
    """The teacher's judgement of one proposed turn (STeP's four parts and the corrected thought).

    ``action`` and ``thought`` are the correction; all texts are empty when ``is_error`` is false.
    ``kind`` is a short machine-readable name of the error ("invalid", "loop", "wrong_object", ...).
    ``raw`` is the reply of a language model that all this was read from, as it came: for people who
    study teachers, never rendered.
    """

    is_error: bool
    kind: str = ""
    error: str = ""
    reason: str = ""
    reflection: str = ""
    thought: str = ""
    action: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One (thought, action, observation).

    A turn that is not ``executed`` (a vetoed error) has no observation; the correction that
    follows it belongs to the same assistant message. ``seconds`` is wall time of the
    environment's step; ``reward`` is the environment's, in [0, 1].
    """

    thought: str
    action: str
    observation: str = ""
    author: Author = "student"
    verdict: Verdict = "correct"
    review: Review | None = None
    executed: bool = True
    valid: bool = True
    reward: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Provenance:
    """Everything needed to say where a trajectory came from and to make it again."""

    env_build: str = ""  # engine and version, e.g. "alfworld-native-1"
    data_hash: str = ""  # of the task's own data, e.g. of the game file
    dialect: str = ""  # action dialect, e.g. "put" or "move"
    student: str = ""  # model fingerprint; empty for golden trajectories
    teacher: str = ""
    prompt_version: str = ""
    sampling: str = ""  # canonical JSON
    seed: int = 0
    code_version: str = ""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """One episode. ``id`` is the content hash of the episode spec, see :func:`content_hash`."""

    id: str
    task: str
    env: str
    split: str
    task_type: str
    instruction: str
    initial_observation: str
    turns: tuple[Turn, ...]
    reward: float
    success: bool
    outcome: Outcome
    detail: str = ""  # for outcomes that are not the environment's own: what happened
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def errors(self) -> int:
        """Number of turns that the teacher flagged."""
        return sum(turn.verdict == "error" for turn in self.turns)

    @property
    def corrections(self) -> int:
        """Number of turns that the teacher supplied."""
        return sum(turn.verdict == "correction" for turn in self.turns)

    @property
    def executed_actions(self) -> list[str]:
        """The actions the environment saw, in order: replaying them remakes the episode."""
        return [turn.action for turn in self.turns if turn.executed]


def to_dict(trajectory: Trajectory) -> dict[str, Any]:
    """JSON-like form; the inverse of :func:`from_dict`."""
    row = _shallow(trajectory)
    row["turns"] = tuple(
        {**_shallow(turn), "review": turn.review and _shallow(turn.review)}
        for turn in trajectory.turns
    )
    row["provenance"] = _shallow(trajectory.provenance)
    return row


def from_dict(row: Mapping[str, Any]) -> Trajectory:
    """Rebuilds a trajectory from :func:`to_dict`'s form; keys it does not know are ignored.

    Raises ``KeyError`` for a missing key without a default.
    """
    turns = tuple(
        Turn(**{**_fields(Turn, turn), "review": _review(turn.get("review"))})
        for turn in row["turns"]
    )
    provenance = Provenance(**_fields(Provenance, row["provenance"]))
    return Trajectory(**{**_fields(Trajectory, row), "turns": turns, "provenance": provenance})


def _shallow(one: Trajectory | Turn | Review | Provenance) -> dict[str, Any]:
    # dataclasses.asdict copies all values deeply: ten times as long, for values that are immutable.
    return {name: getattr(one, name) for name in one.__slots__}


def _review(value: Mapping[str, Any] | None) -> Review | None:
    if value is None:
        return None
    known = _fields(Review, value)
    return Review(**{name: text for name, text in known.items() if text is not None})


def _fields(cls: Any, row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        field.name: row[field.name]
        for field in dataclasses.fields(cls)
        if field.name in row
        or (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING)
    }


def canonical_json(value: Any) -> str:
    """One text per value: sorted keys, no blanks, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def content_hash(value: Any, length: int = 32) -> str:
    """First ``length`` hex digits of the SHA-256 of a JSON-like value's canonical text."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:length]
