"""A drill fails when what must hold does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from step_ray import store
from step_ray.drills import lab as lab_module
from step_ray.drills.catalogue import DRILLS, DrillRefused, chosen
from step_ray.drills.lab import DrillFailed, Lab, Scratch
from step_ray.drills.settings import drill_config
from tests.test_store import rows_of

EPISODES = 4


def rows(*failed: int, outcome: str = "env_error") -> list[dict[str, Any]]:
    made = rows_of(range(EPISODES))
    for number, row in enumerate(made):
        row["spec"] = f'{{"task": "{number}", "rollout": 0}}'
        if number in failed:
            row["outcome"] = outcome
    return made


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(tmp_path, drill_config(None), EPISODES, {})
    store.publish(tmp_path / "quiet", rows())
    made._quiet = tmp_path / "quiet"
    return made


def published(lab: Lab, made: list[dict[str, Any]]) -> Scratch:
    run = lab.scratch("some")
    store.publish(run.data, made)
    return run


def test_the_same_dataset_passes(lab: Lab) -> None:
    assert "4 published, 0 lost" in published(lab, rows()).same_as_quiet()
    assert "one env_error" in published(lab, rows(2)).all_but("env_error")


def test_a_lost_episode_fails(lab: Lab) -> None:
    with pytest.raises(DrillFailed, match="3 episodes published, 4 were asked"):
        published(lab, rows()[:3]).same_as_quiet()


def test_another_dataset_fails(lab: Lab) -> None:
    with pytest.raises(DrillFailed, match="differs from that of an undisturbed run"):
        published(lab, rows(1)).same_as_quiet()


@pytest.mark.parametrize("failed", [(), (1, 2)])
def test_none_or_too_many_failures_fail(lab: Lab, failed: tuple[int, ...]) -> None:
    with pytest.raises(DrillFailed, match="one env_error was expected"):
        published(lab, rows(*failed)).all_but("env_error")


def test_another_reason_fails(lab: Lab) -> None:
    with pytest.raises(DrillFailed, match="one env_timeout was expected"):
        published(lab, rows(1)).all_but("env_timeout")


def test_a_damaged_dataset_fails(lab: Lab) -> None:
    run = published(lab, rows())
    (shard,) = run.data.glob("*.parquet")
    shard.write_bytes(b"x")
    with pytest.raises(DrillFailed, match=shard.name):
        run.same_as_quiet()


def test_what_can_be_read_too_early_fails(lab: Lab) -> None:
    lab.scratch("none").unpublished()
    with pytest.raises(DrillFailed, match="4 rows could be read"):
        published(lab, rows()).unpublished()


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "import time; time.sleep(600)"])
def test_a_driver_that_fails_or_hangs_fails(
    lab: Lab, code: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "step_ray" / "drills"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "driver.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])  # what a driver's process imports from
    monkeypatch.setattr(lab_module.wait, "__defaults__", (2.0,))
    with pytest.raises(DrillFailed, match=r"status 3|did not end within 2 s"):
        lab.scratch("broken").finish()


def test_all_leaves_out_what_concerns_others() -> None:
    assert chosen(["all"]) == [name for name in DRILLS if name != "kill-node"]
    assert chosen(["hang-env", "kill-node", "hang-env"]) == ["hang-env", "kill-node"]
    with pytest.raises(DrillRefused, match="no drill is called"):
        chosen(["x"])
