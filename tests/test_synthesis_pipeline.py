"""What the line of progress says of an episode; the pipeline itself is tested in drills."""

from __future__ import annotations

from dataclasses import replace

import pytest

from step_ray.schema import to_row
from step_ray.synthesis.pipeline import counts_of
from step_ray.trajectory import Provenance, Review, Trajectory, Turn

REVIEW = Review(True, "loop", action="go")
RIGHT = Turn("t", "a", "o")
ERROR = Turn("t", "a", "o", verdict="error", review=REVIEW)
FIX = Turn("t", "go", "o", "teacher", "correction", REVIEW)
EPISODE = Trajectory("1", "t", "e", "train", "x", "Do it.", "A room.", (), 1.0, True, "success")
MONITORED = Provenance(teacher="expert")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"turns": (RIGHT,)}, {"success": 1}),
        ({"turns": (RIGHT, ERROR, ERROR)}, {"success": 1, "errors made": 2, "recovered": 2}),
        (
            {"turns": (ERROR,), "success": False, "outcome": "step_limit"},
            {"success": 0, "errors made": 1, "recovered": 0},
        ),
        (
            {"turns": (RIGHT,), "provenance": MONITORED},
            {"success": 1, "errors": 0, "recovered": 0},
        ),
        (
            {"turns": (ERROR, FIX), "provenance": MONITORED},
            {"success": 1, "errors": 1, "recovered": 1},
        ),
        (
            {
                "turns": (ERROR, FIX),
                "provenance": MONITORED,
                "success": False,
                "outcome": "env_timeout",
            },
            {"success": 0, "errors": 1, "recovered": 0, "deadlines": 1},
        ),
    ],
)
def test_the_counts_of_an_episode(changed: dict, expected: dict) -> None:
    assert counts_of(to_row(replace(EPISODE, **changed))) == expected


def test_what_is_dropped_and_what_environments_met() -> None:
    row = to_row(EPISODE, drop_reason="no_error") | {"env_fates": {"replaced": 2, "recycled": 0}}
    assert counts_of(row) == {"success": 1, "dropped no_error": 1, "environments replaced": 2}
