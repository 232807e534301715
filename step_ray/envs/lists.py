"""ETO's files of which tasks are in a split (Song et al. 2024, "Trial and Error: Exploration-Based
Trajectory Optimization for LLM Agents"; ``eval_agent/data`` in its repository)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from step_ray.envs.base import EnvError


def read_list(folder: Path, name: str) -> tuple[Path, list[Any]]:
    """The list ``NAME_indices.json`` in a folder, perhaps with something before its name, and what
    it holds. Raises EnvError when there is not exactly one, or it is no JSON list."""
    found = sorted(folder.glob(f"*{name}_indices.json"))
    if len(found) != 1:
        raise EnvError(f"{folder} must hold one *{name}_indices.json, not {len(found)}")
    try:
        values = json.loads(found[0].read_bytes())
    except (OSError, ValueError) as error:
        raise EnvError(f"cannot read {found[0]}: {error}") from error
    if not isinstance(values, list):
        raise EnvError(f"{found[0]} should hold a JSON list, not {type(values).__name__}")
    return found[0], values
