"""How an environment's calls and answers travel between processes: one JSON text per line.

Nothing is unpickled, and an answer becomes what its call returns or an EnvError, nothing else.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

from step_ray.envs.base import Build, EnvError, Judgement, Observation, StepResult, Task
from step_ray.trajectory import Turn


def encode(message: Mapping[str, Any]) -> bytes:
    """A line; dataclasses become objects, lone surrogates survive as escapes."""
    return json.dumps(message, default=_plain, separators=(",", ":")).encode("ascii") + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The message of a line. Raises EnvError for what is none."""
    try:
        message = json.loads(line)
    except ValueError as error:
        raise EnvError(f"no message from the environment's process: {line[:80]!r}") from error
    if not isinstance(message, dict):
        raise EnvError(f"no message from the environment's process: {line[:80]!r}")
    return message


def result(method: str, value: Any) -> Any:
    """What ``method`` of a TextEnv returns, from its answer. Raises EnvError if it does not fit."""
    try:
        return _RESULTS[method](value)
    except (TypeError, ValueError, KeyError) as error:
        raise EnvError(f"{method} of the environment's process returned {value!r:.200}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _judgement(value: dict[str, Any]) -> Judgement:
    facts = tuple((str(name), str(text)) for name, text in value["facts"])
    return Judgement(**{**value, "facts": facts})


_RESULTS: dict[str, Callable[[Any], Any]] = {
    "name": str,
    "tasks": lambda value: [Task(**task) for task in value],
    "reset": lambda value: Observation(**value),
    "step": lambda value: StepResult(**value),
    "admissible": lambda value: [str(action) for action in value],
    "expert": lambda value: None if value is None else Turn(**{**value, "review": None}),
    "judge": _judgement,
    "build": lambda value: Build(**value),
    "fork": int,
    "close": lambda value: None,
}
