"""Environments by name.

A name is one of ``ENVIRONMENTS``, one that an installed package announces as an entry point of the
group ``step_ray.envs``, or an import path ``package.module:Class``. The latter two run code of
others: a name may come from a config, a command line or code, never from data.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import re
from collections.abc import Callable, Collection
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from step_ray.envs.base import EnvError, TextEnv

__all__ = ["ENTRY_POINTS", "ENVIRONMENTS", "announced", "make_env"]

# name -> (module, class); loaded when the environment is made
ENVIRONMENTS: dict[str, tuple[str, str]] = {
    "alfworld": ("step_ray.envs.alfworld.env", "ALFWorldEnv"),
    "scienceworld": ("step_ray.envs.scienceworld.env", "ScienceWorldEnv"),
    "webshop": ("step_ray.envs.webshop.env", "WebShopEnv"),
}
ENTRY_POINTS = "step_ray.envs"  # the group; in a package's pyproject.toml, NAME = "module:Class"

_IMPORT_PATH = re.compile(r"([^\W\d]\w*(?:\.[^\W\d]\w*)*):([^\W\d]\w*)")
_METHODS = tuple(member for member in vars(TextEnv) if member[0] != "_")


def make_env(name: str, data: str | Path | None = None, **options: Any) -> TextEnv:
    """An environment. ``data``: a folder of official files; None for what is embedded.

    Raises EnvError for an unknown name, one that cannot be loaded, an option that the environment
    does not have, and for a class that is no environment.
    """
    module, cls = _home(name)
    try:
        make = getattr(importlib.import_module(module), cls)
    except ModuleNotFoundError as error:
        raise EnvError(_not_loaded(name, module, error)) from error
    except AttributeError as error:
        raise EnvError(f"cannot load the environment {name!r}: {error}") from error
    lacking = [method for method in _METHODS if not hasattr(make, method)]
    if lacking:  # looked at before it is called: nothing else that can be called may be
        raise EnvError(
            f"{module}:{cls} is no environment: it has no {', '.join(lacking)}; "
            "see step_ray.envs.base.TextEnv"
        )
    if wrong := _no_options(make, options):
        raise EnvError(f"{name}: {wrong}")
    try:
        return cast(TextEnv, make(data, **options))
    except TypeError as error:
        raise EnvError(f"cannot make {name!r} with options {sorted(options)}: {error}") from error


def announced() -> dict[str, EntryPoint]:
    """The environments of installed packages, by name. Loads none of them."""
    found = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    return {name: point for name, point in found.items() if name not in ENVIRONMENTS}


def _home(name: str) -> tuple[str, str]:
    """Module and class of an environment."""
    if name in ENVIRONMENTS:
        return ENVIRONMENTS[name]
    if path := _IMPORT_PATH.fullmatch(name):
        return path[1], path[2]
    others = announced()
    if name in others:
        return others[name].module, others[name].attr
    known = ", ".join(sorted({*ENVIRONMENTS, *others}))
    raise EnvError(
        f"unknown environment {name!r}; known are {known}; another one is named by its import "
        "path, package.module:Class"
    )


def _no_options(make: Callable[..., Any], options: Collection[str]) -> str:
    """Which of the options the environment does not have, and what to do; "" if it has all."""
    taken = list(inspect.signature(make).parameters.values())[1:]  # the first is its data
    if any(one.kind is one.VAR_KEYWORD for one in taken):
        return ""
    known = [one.name for one in taken if one.kind is not one.VAR_POSITIONAL]
    wrong = next((option for option in options if option not in known), "")
    if not wrong:
        return ""
    close = difflib.get_close_matches(wrong, known, n=1) or [
        one for one in known if wrong.endswith(f"_{one}")
    ]
    meant = f"did you mean {close[0]}? " if close else ""
    return f"no such option ({wrong}) -> {meant}Its options are {', '.join(known) or 'none'}"


def _not_loaded(name: str, module: str, error: ModuleNotFoundError) -> str:
    """Why an environment's module cannot be imported, and what to do."""
    said = f"cannot load the environment {name!r}: {error}"
    if name in ENVIRONMENTS:
        return f'{said}; pip install "step-ray[{name}]"'
    if module == error.name or module.startswith(f"{error.name}."):
        return f"{said}; install its package, or put its folder on PYTHONPATH"
    return f"{said}, which {module} needs; install that"
