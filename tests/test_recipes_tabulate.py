"""Which finished runs are which method, and which of them are in the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from step_ray.config_suite import Cell, load_suite
from step_ray.lineage import RunError
from step_ray.recipes.tabulate import runs_at, tabulate
from step_ray.run import Run
from tests.compared_runs import make


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
    with pytest.raises(RunError, match=r"not a run folder.* or the YAML file of a suite"):
        runs_at([tmp_path])
    assert json.loads((one / "config.json").read_text())["name"] == "mine"


SUITE = """
name: two masks
output: {output}
seeds: [0]
base: {{env: alfworld}}
methods:
  step: {{recipe: step}}
  bare: {{recipe: step, training.mask: none}}
"""


def finished(cells: list[Cell]) -> None:
    for number, cell in enumerate(cells):
        students = {"base": ("m0", [False, True]), "step": (f"m{number + 1}", [True, True])}
        make(cell.config.output, cell.seed, students, config=cell.config.resolved())


def test_runs_with_other_settings_and_failed_ones_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.format(output=tmp_path / "runs"))
    suite, cells = load_suite(path, [])
    with pytest.raises(RunError, match=r"2 not finished -> run the suite$"):
        tabulate(suite, cells)
    finished(cells)
    page, table = tabulate(suite, cells)
    assert page.exists()
    assert "| bare |" in table
    assert "2 of 2 runs" in table
    assert "judge" not in table, "it was not asked"
    assert "Where seeds won equally often, success has Wilson's over tasks" in table
    assert "differ from the reference by the same, the difference has a bootstrap over" in table
    _, table = tabulate(suite, cells, failed=[cells[1]])
    assert "| bare |" not in table
    assert f"Missing: {cells[1].label} (failed)." in table
    suite, others = load_suite(path, ["methods.bare={recipe: step, training.mask: partial}"])
    _, table = tabulate(suite, others)
    changed = "training.mask: 'none' -> 'partial'"
    assert f"Missing: {cells[1].label} (other settings, such as {changed})." in table
    suite, others = load_suite(path, ["base.evaluation.tasks=1"])
    with pytest.raises(RunError, match=r"2 other settings, .*tasks: None -> 1 -> give the --set"):
        tabulate(suite, others)
    suite, same = load_suite(path, ["base.synthesis.workers=1"])
    assert "2 of 2 runs" in tabulate(suite, same)[1], "how the work is done makes no other student"


def test_runs_whose_errors_are_other_things_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE.format(output=tmp_path / "runs"))
    bare = "methods.bare={recipe: step, evaluation.judge: true}"
    suite, cells = load_suite(path, [bare])
    finished(cells)
    assert "are not the same thing" in tabulate(suite, cells)[1]
    suite, judged = load_suite(path, [bare, "base.evaluation.judge=true"])
    assert "judge calls so" in tabulate(suite, judged)[1], "of the one that has it"
