"""What runs say of the data they made."""

from __future__ import annotations

from pathlib import Path

import pytest

from step_ray.evaluation.made import Pasting, Ran, error_kinds, pastings
from step_ray.evaluation.statistics import wilson
from step_ray.files import write_json_atomic
from step_ray.lineage import RunError


def ran(path: Path, method: str, seed: int, results: dict[str, object]) -> Ran:
    folder = path / f"{method}{seed}"
    folder.mkdir()
    write_json_atomic(folder / "results.json", results)
    return Ran("corridor", method, seed, folder)


def calibrated(deviations: int, pasted: int, wrong: int) -> dict[str, object]:
    counts = {"trajectories": pasted, "not_executable": wrong}
    return {"calibration": {"deviations": deviations, "pasted": counts}}


def test_seeds_are_counted_together(tmp_path: Path) -> None:
    runs = [
        ran(tmp_path, "steca", 0, calibrated(10, 10, 4)),
        ran(tmp_path, "steca", 1, calibrated(6, 5, 2)),
        ran(tmp_path, "step", 0, {"synthesis": {"error_kinds": {"loop": 2, "undo": 1}}}),
        ran(tmp_path, "step", 1, {"synthesis": {"error_kinds": {"loop": 3}}}),
    ]
    (pasting,) = pastings(runs)
    assert pasting == Pasting("corridor", "steca", 16, 15, 6)
    assert pasting.share == wilson(6, 15)
    assert error_kinds(runs) == {"step": {"loop": 5, "undo": 1}}


def test_a_run_that_is_not_finished_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no finished run"):
        pastings([Ran("corridor", "step", 0, tmp_path)])
