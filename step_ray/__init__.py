"""step-ray: agents that notice their own mistakes and recover, trained on Ray.

The names below load what they need when they are first used, so that importing the package costs
nothing: neither torch nor Ray nor Arrow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from step_ray._version import __version__

if TYPE_CHECKING:
    from step_ray.store import read
    from step_ray.trajectory import Review, Trajectory, Turn

_HOME = {
    "Review": "step_ray.trajectory",
    "Trajectory": "step_ray.trajectory",
    "Turn": "step_ray.trajectory",
    "make_env": "step_ray.envs",
    "read": "step_ray.store",
    "tokenize": "step_ray.training.masks",
}

__all__ = ["Review", "Trajectory", "Turn", "__version__", "make_env", "read", "tokenize"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
