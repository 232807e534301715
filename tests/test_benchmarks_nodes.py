"""What ``make bench-nodes`` makes of the seconds that it measures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent / "benchmarks"))

pytest.importorskip("ray")

from tests.benchmarks.nodes import compared, measured


def run(workers: int, episodes: int, pace: float) -> dict[str, Any]:
    """Three seconds until the first episode, then ``pace`` for each; the last four straggle."""
    looks = [(done, 3 + pace * done) for done in range(episodes - 4)]
    end = 3 + pace * (episodes - 4) + 2
    return measured(workers, episodes, end, 9.0, [*looks, (episodes, end)])


def test_the_rate_is_that_between_the_start_and_the_end() -> None:
    point = run(2, 40, 0.1)
    assert point["episodes_per_second"] == pytest.approx(10)
    assert point["steps_per_second"] == pytest.approx(90)
    assert point["startup_seconds"] == pytest.approx(4.6)


def test_efficiency_is_that_of_each_worker_beside_one_alone() -> None:
    points = compared([run(1, 40, 0.1), run(2, 40, 0.05), run(4, 40, 0.05)])
    assert [point["efficiency"] for point in points] == [1.0, 1.0, 0.5]


def test_a_run_too_short_to_look_at_has_no_rate() -> None:
    with pytest.raises(SystemExit, match="too few looks"):
        measured(1, 8, 1.0, 9.0, [(0, 0.5), (8, 1.0)])
