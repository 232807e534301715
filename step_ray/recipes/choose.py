"""The recipe that a config names."""

from __future__ import annotations

import importlib
from typing import Any

from step_ray.config import RunConfig
from step_ray.config_checks import cautions
from step_ray.models.make import check_engines
from step_ray.progress import Progress
from step_ray.recipes.results import Until


def run_recipe(
    config: RunConfig, progress: Progress, fresh: bool = False, until: Until | None = None
) -> dict[str, Any]:
    """Runs or continues the recipe of ``config``; returns what ``results.json`` holds, {} if it
    was to end early."""
    check_engines(config)
    for line in cautions(config):
        progress.note(line)
    recipe = importlib.import_module(f"step_ray.recipes.{config.recipe}")
    results: dict[str, Any] = recipe.run(config, progress, fresh, until)
    return results
