from __future__ import annotations

import json
from dataclasses import replace
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
    one, more = (estimate([KNOWN], size * episodes, size * workers) for size in (1, 2))
    assert more.seconds == pytest.approx(one.seconds)
    assert more.cpu_hours == pytest.approx(2 * one.cpu_hours)
    assert more.teacher["cost"] == pytest.approx(2 * one.teacher["cost"])
    assert more.teacher_busy == pytest.approx(2 * one.teacher_busy)
    assert more.gigabytes == pytest.approx(2 * one.gigabytes)


def test_a_run_extrapolated_to_itself_is_itself() -> None:
    same = estimate([KNOWN], KNOWN.episodes, KNOWN.workers)
    assert (same.seconds, same.kept, same.teacher) == (50.0, 40, KNOWN.teacher)
    assert same.teacher_busy == pytest.approx(30 / 50)
    assert "0.5 cost" in as_text([KNOWN], same)


@given(
    st.floats(0, 100),
    st.floats(0.01, 10),
    st.lists(st.tuples(st.integers(1, 10**5), st.integers(1, 64)), min_size=2, max_size=4),
)
def test_runs_of_several_sizes_tell_the_start(
    start: float, each: float, sizes: list[tuple[int, int]]
) -> None:
    known = [replace(KNOWN, episodes=n, workers=k, seconds=start + each * n / k) for n, k in sizes]
    if len({n / k for n, k in sizes}) == 1:
        assert estimate(known, 10, 1).start is None
        return
    found = estimate(known, 10**6, 64)
    assert found.start == pytest.approx(start, rel=1e-3, abs=1e-3)
    assert found.seconds == pytest.approx(start + each * 10**6 / 64, rel=1e-3)


def test_runs_that_contradict_each_other_get_no_negative_start() -> None:
    faster = replace(KNOWN, episodes=10, seconds=1.0)
    found = estimate([faster, KNOWN], 1000, 2)
    assert found.start is None
    assert "start        not told apart" in as_text([faster, KNOWN], found)


def test_runs_of_one_size_do_not_tell_the_start() -> None:
    same = [KNOWN, replace(KNOWN, seconds=60.0)]
    assert "start        not told apart" in as_text(same, estimate(same, 1000, 2))
    other = [KNOWN, replace(KNOWN, episodes=200, seconds=90.0)]
    assert "start        10 s of it" in as_text(other, estimate(other, 1000, 2))


def test_a_teacher_bounds_what_more_workers_bring() -> None:
    asking = replace(KNOWN, teacher={"asked": 1000})
    few, many = (estimate([asking], 10_000, workers, 50.0) for workers in (1, 100))
    assert (few.bound, few.seconds) == ("workers", 10_000.0)
    assert (many.bound, many.seconds) == ("teacher", 100_000 / 50)
    with pytest.raises(RunError, match="teacher-rate"):
        estimate([KNOWN], 10, 1, 50.0)


def test_no_episodes_say_nothing() -> None:
    with pytest.raises(RunError, match="no episodes"):
        estimate([Measured(0, 0, 1, 1.0, 0, {}, {})], 10, 1)


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
