"""Environments by name."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, cast

from step_ray.envs.base import EnvError, TextEnv

__all__ = ["ENVIRONMENTS", "make_env"]

# name -> (module, class); loaded when the environment is made
ENVIRONMENTS: dict[str, tuple[str, str]] = {
    "alfworld": ("step_ray.envs.alfworld.env", "ALFWorldEnv"),
}


def make_env(name: str, data: str | Path | None = None, **options: Any) -> TextEnv:
    """An environment. ``data``: a folder of official files; None for what is embedded.

    Raises EnvError for an unknown name or an option that the environment does not have.
    """
    if name not in ENVIRONMENTS:
        raise EnvError(f"unknown environment {name!r}; known are {', '.join(sorted(ENVIRONMENTS))}")
    module, cls = ENVIRONMENTS[name]
    make = getattr(importlib.import_module(module), cls)
    try:
        return cast(TextEnv, make(data, **options))
    except TypeError as error:
        raise EnvError(f"cannot make {name!r} with options {sorted(options)}: {error}") from error
