from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ray import store
from step_ray.config import parse_config
from step_ray.lineage import RunError
from step_ray.recipes.estimate import Measured, as_text, estimate, measured
from step_ray.run import Run
from tests.test_cli import ask
from tests.test_store import rows_of

KNOWN = Measured(100, 40, 2, 50.0, 10**6, {"teacher": 30.0}, {"prompt tokens": 2e5, "cost": 0.5})


@given(st.integers(1, 10**7), st.integers(1, 10**4))
def test_costs_grow_with_episodes_and_time_falls_with_workers(episodes: int, workers: int) -> None:
    one, more = estimate(KNOWN, episodes, workers), estimate(KNOWN, 2 * episodes, 2 * workers)
    assert more.seconds == pytest.approx(one.seconds)
    assert more.cpu_hours == pytest.approx(2 * one.cpu_hours)
    assert more.teacher["cost"] == pytest.approx(2 * one.teacher["cost"])
    assert more.teacher_busy == pytest.approx(2 * one.teacher_busy)
    assert more.gigabytes == pytest.approx(2 * one.gigabytes)


def test_a_run_extrapolated_to_itself_is_itself() -> None:
    same = estimate(KNOWN, KNOWN.episodes, KNOWN.workers)
    assert (same.seconds, same.kept, same.teacher) == (50.0, 40, KNOWN.teacher)
    assert same.teacher_busy == pytest.approx(30 / 50)
    assert "0.5 cost" in as_text(KNOWN, same)


def test_no_episodes_say_nothing() -> None:
    with pytest.raises(RunError, match="no episodes"):
        estimate(Measured(0, 0, 1, 1.0, 0, {}, {}), 10, 1)


def test_the_command_reads_a_run(tmp_path: Path) -> None:
    config = parse_config({"output": tmp_path / "run", "synthesis": {"workers": 1}})
    with Run.open(config.output, config.resolved()) as run:
        code, said = ask("estimate", config.output, "--episodes", 10, "--workers", 1)
        assert code == 2
        assert "not done" in said
        with run.stage("reflected") as stage:
            store.publish(stage.path, rows_of(range(9)))
            teacher = {"asked": 18, "cost": 0.25}
            stage.finish({"data": stage.path, "teacher": teacher}, {"teacher": 4.0})
    assert measured(config.output).kept == 6
    code, said = ask("estimate", config.output, "--episodes", 90, "--workers", 10, "--json")
    assert code == 0, said
    found = json.loads(said)
    assert found["kept"] == 60
    assert found["teacher"] == {"asked": 180, "cost": 2.5}
