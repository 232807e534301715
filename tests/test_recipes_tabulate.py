"""Which finished runs are which method, and what is said of those that are missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from step_ray.lineage import RunError
from step_ray.recipes.tabulate import runs_at
from step_ray.run import Run


def run(path: Path, **changes: Any) -> Path:
    config: dict[str, Any] = {
        "recipe": "step",
        "name": "mine",
        "output": str(path),
        "seed": 0,
        "env": {"name": "alfworld", "generator_seed": 0},
        "training": {"seed": 0, "mask": "partial"},
    }
    for name, value in changes.items():
        section, _, field = name.rpartition("__")
        (config[section] if section else config)[field] = value
    Run.open(path, config).close()
    return path


def test_runs_that_differ_in_seeds_are_one_method(tmp_path: Path) -> None:
    folders = [
        run(tmp_path / f"s{n}", seed=n, training__seed=n, env__generator_seed=n) for n in range(3)
    ]
    folders.append(run(tmp_path / "eto", recipe="eto", seed=1))
    found = runs_at(folders)
    assert [(one.env, one.method, one.seed) for one in found] == [
        *(("alfworld", "step", n) for n in range(3)),
        ("alfworld", "eto", 1),
    ]
    assert [one.path for one in found] == folders


def test_methods_of_one_recipe_are_told_apart(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a"), run(tmp_path / "b", name="bare", training__mask="none")
    assert [ran.method for ran in runs_at([one, other])] == ["mine", "bare"]
    third = run(tmp_path / "c", name="bare", training__mask="corrections_only")
    assert [ran.method for ran in runs_at([one, other, third])] == [
        str(folder) for folder in (one, other, third)
    ]
    shop = run(tmp_path / "d", env__name="webshop")
    assert [(r.env, r.method) for r in runs_at([one, shop])] == [
        ("alfworld", "step"),
        ("webshop", "step"),
    ]


def test_what_cannot_be_told_apart_is_refused(tmp_path: Path) -> None:
    one, other = run(tmp_path / "a"), run(tmp_path / "b")
    with pytest.raises(RunError, match=r"b and .*a: two runs of one method with seed 0"):
        runs_at([one, other])
    with pytest.raises(RunError, match="not a run folder"):
        runs_at([tmp_path])
    assert json.loads((one / "config.json").read_text())["name"] == "mine"
