"""What is kept, and the one reason why each of the others is not."""

from __future__ import annotations

import typing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import episodes, trajectories

from step_ray.synthesis.filters import (
    ENDED_BY_ITSELF,
    Filter,
    drop_reason,
    unrecovered,
)
from step_ray.trajectory import Outcome, Review, Trajectory, Turn

REVIEW = Review(True, "loop", action="go")
RIGHT = Turn("t", "a", "o")
ERROR = Turn("t", "a", "o", verdict="error", review=REVIEW)
FIX = Turn("t", "go", "o", "teacher", "correction", REVIEW)
GOOD = Trajectory(
    id="1",
    task="t",
    env="e",
    split="train",
    task_type="x",
    instruction="Do it.",
    initial_observation="A room.",
    turns=(RIGHT, ERROR, FIX, RIGHT),
    reward=1.0,
    success=True,
    outcome="success",
)
RULE = Filter(max_errors=2)


def rules() -> st.SearchStrategy[Filter]:
    return st.builds(
        Filter,
        max_errors=st.integers(0, 4),
        min_reward=st.sampled_from([0.0, 0.5, 1.0]),
        keep_clean=st.booleans(),
    )


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({}, ""),
        ({"turns": (replace(ERROR, executed=False, observation=""), FIX)}, ""),
        ({"turns": (ERROR, FIX) * 2}, ""),
        ({"outcome": "env_timeout"}, "env_timeout"),
        ({"outcome": "teacher_error", "reward": 0.0}, "teacher_error"),
        ({"outcome": "error_limit"}, "error_limit"),
        ({"outcome": "failure", "reward": 0.9, "success": False}, "low_reward"),
        ({"outcome": "step_limit", "reward": 0.0, "success": False}, "low_reward"),
        ({"turns": (ERROR, FIX) * 3}, "too_many_errors"),
        ({"turns": (ERROR, RIGHT, FIX)}, "unrecovered_error"),
        ({"turns": (RIGHT, ERROR)}, "unrecovered_error"),
        ({"turns": (ERROR, ERROR, FIX)}, "unrecovered_error"),
        ({"turns": (ERROR, replace(FIX, valid=False))}, "unrecovered_error"),
        ({"turns": (ERROR, replace(FIX, executed=False))}, "unrecovered_error"),
        ({"turns": (RIGHT,)}, "no_correction"),
        ({"turns": ()}, "no_correction"),
        ({"turns": (ERROR, FIX, *[RIGHT] * 117)}, ""),
    ],
)
def test_reasons(changed: dict[str, typing.Any], reason: str) -> None:
    assert drop_reason(replace(GOOD, **changed), RULE) == reason


def test_options() -> None:
    clean = replace(GOOD, turns=(RIGHT,))
    assert drop_reason(clean, replace(RULE, keep_clean=True)) == ""
    half = replace(GOOD, outcome="failure", reward=0.5, success=False)
    assert drop_reason(half, replace(RULE, min_reward=0.5)) == ""
    assert drop_reason(half, replace(RULE, min_reward=0.51)) == "low_reward"
    assert drop_reason(GOOD, replace(RULE, max_errors=0)) == "too_many_errors"


def test_roll_outs_in_which_nobody_corrects_may_be_kept() -> None:
    rule = Filter(keep_clean=True, keep_unrecovered=True)
    assert drop_reason(replace(GOOD, turns=(RIGHT, ERROR)), rule) == ""
    assert drop_reason(replace(GOOD, turns=(ERROR,) * 3), rule) == "too_many_errors"


def test_every_outcome_that_is_not_the_worlds_own_is_a_reason() -> None:
    for outcome in typing.get_args(Outcome):
        reason = drop_reason(replace(GOOD, outcome=outcome), RULE)
        assert reason == ("" if outcome in ENDED_BY_ITSELF else outcome)


@given(episodes() | trajectories(), rules())
def test_what_is_kept_keeps_the_rule(trajectory: Trajectory, rule: Filter) -> None:
    if drop_reason(trajectory, rule):
        return
    assert trajectory.outcome in ENDED_BY_ITSELF
    assert trajectory.reward >= rule.min_reward
    assert trajectory.errors <= rule.max_errors
    assert trajectory.corrections or rule.keep_clean
    for index, turn in enumerate(trajectory.turns):
        if turn.verdict == "error":
            after = trajectory.turns[index + 1]
            assert (after.verdict, after.executed, after.valid) == ("correction", True, True)


@given(episodes(), rules())
def test_a_laxer_rule_keeps_more(trajectory: Trajectory, rule: Filter) -> None:
    lax = Filter(rule.max_errors + 1, rule.min_reward / 2, True)
    if not drop_reason(trajectory, rule):
        assert not drop_reason(trajectory, lax)


@given(episodes())
def test_errors_of_monitored_episodes_are_recovered(trajectory: Trajectory) -> None:
    assert not unrecovered(trajectory)
    if trajectory.errors:
        last = max(i for i, turn in enumerate(trajectory.turns) if turn.verdict == "error")
        assert unrecovered(replace(trajectory, turns=trajectory.turns[: last + 1]))
