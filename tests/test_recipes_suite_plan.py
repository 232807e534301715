"""What runs of a suite share, by their settings alone; the drill compares it with the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from step_ray.config import parse_config
from step_ray.config_suite import Cell, load_suite
from step_ray.recipes.stages import mask_of, training_identity
from step_ray.recipes.suite_plan import overview, stage_keys
from step_ray.training.masks import Weighted
from step_ray.training.preferences import Pair
from step_ray.trajectory import Trajectory, Turn

SUITE = """\
output: out
seeds: [0, 1]
base: {env: {games: {train: 6}}, student: {temperature: 0}}
methods:
  step: {}
  no_mask: {training.mask: none}
  sequential: {training.sequential: true}
  veto: {synthesis.on_error: veto}
  less_golden: {golden.fraction: 0.2}
  rounds: {step.rounds: 2}
  rounds_all: {step: {rounds: 2, revisit: all}}
  elsewhere: {transfer: [webshop]}
  eto: {recipe: eto, student.temperature: 0.7}
  steca: {recipe: steca, student.temperature: 0.7}
  paste: {recipe: steca, student.temperature: 0.7, steca.splice: paste}
"""


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], Cell]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("step_ray.config_checks.usable_cpus", lambda: 4)
    Path("suite.yaml").write_text(SUITE)
    _, found = load_suite("suite.yaml")
    return {(cell.method, cell.seed): cell for cell in found}


def test_what_methods_share(cells: dict[tuple[str, int], Cell]) -> None:
    keys = {name: stage_keys(cell.config) for name, cell in cells.items()}

    def shared(one: str, other: str) -> set[str]:
        mine, theirs = keys[one, 0], keys[other, 0]
        return {name for name in mine if theirs.get(name) == mine[name]}

    step = {"golden", "base", "reflected", "golden_only"}
    assert shared("step", "no_mask") == shared("step", "sequential") == step
    assert shared("step", "veto") == step - {"reflected"}
    assert shared("step", "less_golden") == {"golden", "golden_only"}
    assert shared("step", "eto") == {"golden", "golden_only"}
    assert shared("step", "rounds") == step | {"step"}
    assert shared("rounds", "rounds_all") == step | {"step"}
    assert shared("step", "elsewhere") == step | {"step"}
    assert "evaluation_webshop" in keys["elsewhere", 0]
    assert shared("eto", "steca") == {"golden", "golden_only"}
    assert shared("steca", "paste") == {"golden", "golden_only", "explored"}
    other = set(keys["step", 1].values())
    assert other.isdisjoint(keys["step", 0].values()), "seeds have nothing in common"


def test_what_is_evaluated_changes_no_stage_before(cells: dict[tuple[str, int], Cell]) -> None:
    _, fewer = load_suite("suite.yaml", ["base.evaluation.tasks=1"])
    for cell in fewer:
        mine, theirs = stage_keys(cell.config), stage_keys(cells[cell.method, cell.seed].config)
        differing = {name for name in mine if mine[name] != theirs[name]}
        assert differing == {name for name in mine if name.startswith("evaluation")}, cell.label


def test_the_overview(cells: dict[tuple[str, int], Cell]) -> None:
    said = overview(list(cells.values()))
    assert said.startswith("22 runs of 162 stages, 70 of which another run makes\n")
    assert "step, alfworld, seed 0: not begun, out/alfworld/step/seed0" in said
    assert "no_mask, alfworld, seed 1: not begun" in said
    assert "    makes  step, evaluation\n    shares golden, base, reflected, golden_only" in said


def test_a_mask_concerns_a_training_only_by_what_there_is_to_mask(
    cells: dict[tuple[str, int], Cell],
) -> None:
    right, wrong = Turn("t", "a", "o"), Turn("t", "b", "o", verdict="error")

    def made(data: Any, method: str, **changes: Any) -> dict[str, Any]:
        return training_identity(cells[method, 0].config, data, changes)

    def episode(*turns: Turn) -> Trajectory:
        return Trajectory("1", "t", "e", "train", "", "", "", turns, 1.0, True, "success")

    clean, marred = episode(right), episode(wrong, right)
    for data in ([clean], [Pair(clean, clean)], [Weighted(clean, (1.0,))]):
        assert made(data, "step") == made(data, "no_mask") == made(data, "sequential")
    for data in ([marred], [clean, marred], [Pair(clean, marred)], [Weighted(marred, (1.0, 1.0))]):
        assert made(data, "step") != made(data, "no_mask"), data
    assert made([clean], "step", epochs=7)["epochs"] == 7
    bare = parse_config({"output": "x", "training": {"mask": "corrections_only"}})
    whole = mask_of(bare, [clean])
    assert whole == {"mask": "partial"}, "what no teacher corrected is learned whole"
    assert mask_of(bare, [clean, marred]) == mask_of(cells["step", 0].config, [clean]) == {}
    assert training_identity(bare, [clean], whole)["mask"] == {"correct": 1.0}
    assert bare.training.trainer(whole).mask == "partial"
