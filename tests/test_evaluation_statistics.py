"""Figures of roll-outs: known values, intervals that behave, rates on hand-made episodes."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ray.evaluation.statistics import (
    Interval,
    bootstrap_mean,
    invalid_action_rate,
    loop_rate,
    results_of,
    reward_of,
    summarise,
    wilson,
)
from step_ray.lineage import RunError
from step_ray.trajectory import Provenance, Trajectory, Turn

STEP = Turn("t", "look", "a room")
WRONG = Turn("t", "dance", "Nothing happens.", valid=False)
LOST = Trajectory(
    id="1",
    task="t",
    env="e",
    split="valid_seen",
    task_type="look",
    instruction="Do it.",
    initial_observation="A room.",
    turns=(STEP,),
    reward=0.0,
    success=False,
    outcome="step_limit",
    provenance=Provenance(student="s1"),
)
WON = replace(LOST, reward=1.0, success=True, outcome="success")


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe (1998), table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (5, 10, 0.2366, 0.7634),
        (20, 20, 0.8389, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_intervals(successes: int, n: int, low: float, high: float) -> None:
    found = wilson(successes, n)
    assert found.value == (successes / n if n else 0.0)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_intervals_hold_the_share_and_shrink(counts: tuple[int, int]) -> None:
    successes, n = counts
    one, more = wilson(successes, n), wilson(4 * successes, 4 * n)
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert more.high - more.low < one.high - one.low
    other = wilson(n - successes, n)
    assert (1 - other.high, 1 - other.low) == pytest.approx((one.low, one.high))


def test_bootstrap_intervals_are_reproducible() -> None:
    rng = random.Random(1)
    values = [rng.random() for _ in range(50)]
    assert bootstrap_mean(values) == bootstrap_mean(values)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values)
    assert bootstrap_mean(values).value == pytest.approx(sum(values) / 50)


def test_bootstrap_intervals_are_those_of_the_normal_approximation() -> None:
    rng = random.Random(2)
    values = [rng.gauss(0.5, 0.1) for _ in range(400)]
    found = bootstrap_mean(values)
    spread = math.sqrt(sum((v - found.value) ** 2 for v in values) / 400)
    half = 1.96 * spread / math.sqrt(400)
    assert found.low == pytest.approx(found.value - half, abs=half / 8)
    assert found.high == pytest.approx(found.value + half, abs=half / 8)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_bootstrap_intervals_lie_within_the_values(values: list[float]) -> None:
    found = bootstrap_mean(values, draws=100)
    slack = 1e-12
    least, most = min(values), max(values)
    assert least - slack <= found.value <= most + slack
    if most - least < slack:
        least, most = 0.0, 1.0
    assert least - slack <= found.low <= found.high <= most + slack


def test_bootstrap_of_little() -> None:
    assert bootstrap_mean([]) == Interval(0.0, 0.0, 1.0)
    assert bootstrap_mean([0.25], draws=1) == wilson(0.25, 1)
    assert 0.1 <= bootstrap_mean([0.1, 0.2, 0.7], draws=1).low <= 0.7


@pytest.mark.parametrize("value", [0.0, 0.3, 0.5, 1.0])
def test_equal_values_are_not_certain(value: float) -> None:
    """Nor are those that differ in the last digit."""
    same = [value] * 50
    for values in (same, [*same[1:], math.nextafter(value, 0.4)]):
        found = bootstrap_mean(values)
        assert found == wilson(math.fsum(values), 50)
        assert found.high - found.low > 0.05
    zeros_and_ones = [float(n < 50 * value) for n in range(50)]
    assert bootstrap_mean(zeros_and_ones).low == pytest.approx(bootstrap_mean(same).low, abs=0.08)


def test_invalid_action_rate() -> None:
    assert invalid_action_rate([]) == 0.0
    vetoed = replace(WRONG, executed=False)
    one, other = replace(LOST, turns=(STEP, WRONG, vetoed)), replace(LOST, turns=(STEP, STEP))
    assert invalid_action_rate([one, other]) == 1 / 4


def test_recovery_is_by_error_and_by_episode() -> None:
    assert summarise([WON, LOST])["recovery_rate"] is None, "nobody erred"
    assert summarise([WON, LOST])["episode_recovery_rate"] is None
    erred = (WRONG, STEP)
    lost = replace(LOST, turns=(WRONG, WRONG, WRONG))
    found = summarise([replace(WON, turns=erred), lost, WON])
    assert (found["errors"], found["recovered"]) == (4, 1)
    assert found["recovery_rate"] == 1 / 4
    assert found["episode_recovery_rate"] == 1 / 2
    assert found["error_kinds"] == {"invalid": {"n": 4, "recovered": 1}}


def test_reward_is_the_highest_of_the_episode_as_in_eto() -> None:
    """ScienceWorld: 0.4 was reached, then a wrong focus made the score negative."""
    better = replace(STEP, reward=0.4)
    spoiled = replace(LOST, turns=(STEP, better, STEP), outcome="failure")
    vetoed = replace(STEP, reward=0.9, executed=False)
    assert reward_of(spoiled) == 0.4
    assert reward_of(replace(spoiled, turns=(vetoed,))) == 0.0
    assert reward_of(WON) == 1.0
    found = summarise([spoiled, WON])
    assert found["average_reward"]["value"] == pytest.approx(0.7)
    assert found["success"]["value"] == 0.5


def test_loop_rate() -> None:
    assert loop_rate([]) == 0.0
    other = replace(STEP, observation="another room")
    turns = (STEP, STEP, other, other, STEP, WRONG, STEP, replace(STEP, executed=False))
    assert loop_rate([replace(LOST, turns=turns)]) == 2 / 7
    assert loop_rate([LOST, LOST]) == 0.0, "episodes are not compared with each other"


def test_episodes_of_one_task_are_one_witness() -> None:
    """However often tasks are played that always end alike, they are as many as they are."""
    once = [replace(one, task=f"t{n}") for n, one in enumerate((WON, WON, LOST, LOST, LOST))]
    often = [
        replace(one, provenance=replace(one.provenance, seed=seed))
        for one in once
        for seed in (1, 2, 3)
    ]
    few, many = summarise(once), summarise(often)
    assert (few["n"], many["n"]) == (5, 15)
    assert many["success"] == few["success"] == wilson(2, 5).to_dict()
    assert many["average_reward"] == few["average_reward"]


def test_a_summary() -> None:
    lit = replace(WON, task_type="heat", turns=(STEP, WRONG, STEP))
    broken = replace(LOST, outcome="env_error", reward=0.5)
    found = summarise(
        [replace(one, task=f"t{n}") for n, one in enumerate((WON, lit, LOST, broken))]
    )
    assert found["n"] == 4
    assert found["success"] == wilson(2, 4).to_dict()
    assert found["average_reward"]["value"] == pytest.approx(2.5 / 4)
    assert found["invalid_action_rate"] == 1 / 6
    assert found["mean_turns"] == 1.5
    assert found["outcomes"] == {"env_error": 1, "step_limit": 1, "success": 2}
    assert found["by_type"] == {
        "heat": {"n": 1, "success": 1.0, "average_reward": 1.0},
        "look": {"n": 3, "success": 1 / 3, "average_reward": pytest.approx(1.5 / 3)},
    }
    assert summarise([])["success"] == {"value": 0.0, "low": 0.0, "high": 1.0}


def test_results_are_by_student_and_split() -> None:
    second = Provenance(student="s2")
    made = [WON, replace(LOST, split="valid_unseen"), replace(WON, provenance=second)]
    names = {"base": "s1", "step": "s2", "copy": "s2"}
    found = results_of(made, names, ["valid_seen"])
    assert [(row["student"], row["split"], row["n"]) for row in found] == [
        ("base", "valid_seen", 1),
        ("step", "valid_seen", 1),
        ("copy", "valid_seen", 1),
    ]
    both = results_of(made, {"base": "s1"}, ["valid_seen", "valid_unseen"])
    assert [row["success"]["value"] for row in both] == [1.0, 0.0]


def test_no_episodes_are_no_result() -> None:
    """Nobody who was not tested has 0 %."""
    with pytest.raises(RunError, match="base has no episode in split dev, only in valid_seen; "):
        results_of([WON], {"base": "s1"}, ["valid_seen", "dev"])
    with pytest.raises(RunError, match="other has no episode in split valid_seen, only in no spl"):
        results_of([WON], {"other": "s9"}, ["valid_seen"])
