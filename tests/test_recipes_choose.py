"""What is said of a config before its recipe begins."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from step_ray.config import parse_config
from step_ray.progress import Progress
from step_ray.recipes.choose import run_recipe
from step_ray.recipes.world import PACKAGED_MODEL

pytest.importorskip("ray")


@pytest.mark.parametrize(("rate", "noted"), [(1e-3, True), (2e-5, False)])
def test_a_tiny_models_rate_for_a_larger_one_is_noted(
    monkeypatch: pytest.MonkeyPatch, rate: float, noted: bool
) -> None:
    monkeypatch.setattr("step_ray.recipes.step.run", lambda *_: {})
    raw = {"output": "runs/x", "student": {"model": str(PACKAGED_MODEL)}}
    said = io.StringIO()
    config = parse_config({**raw, "training": {"learning_rate": rate}})
    run_recipe(config, Progress(Console(file=said, width=500)))
    assert ("training.learning_rate: " in said.getvalue()) == noted
