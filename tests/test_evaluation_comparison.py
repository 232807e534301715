from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from step_ray.evaluation.comparison import (
    gap,
    over_seeds,
    paired_by_task,
    paired_t,
    permutation,
    student_quantile,
    student_tails,
)


def test_interval_over_seeds() -> None:
    """Worked by hand: 0.2, 0.4, 0.6 have standard deviation 0.2, and t(2) is 4.303."""
    found = over_seeds([0.2, 0.4, 0.6])
    assert found.value == pytest.approx(0.4)
    assert found.high - found.value == pytest.approx(4.303 * 0.2 / math.sqrt(3), rel=1e-4)
    assert found.low == 0.0, "no student wins less than nothing"
    one = over_seeds([0.3])
    assert one.value == 0.3
    assert math.isnan(one.low)


def test_equal_values_say_nothing_of_how_seeds_vary() -> None:
    assert math.isnan(over_seeds([0.3, 0.3, 0.3]).low)
    assert math.isnan(paired_t([0.1, 0.1]))
    assert math.isnan(paired_t([0.1]))


# P(|T| >= t), and the t of 5 %, as printed in tables of Student's distribution.
@pytest.mark.parametrize(
    ("free", "quantile", "of_two"),
    [(1, 12.706, 0.2952), (2, 4.303, 0.1835), (3, 3.182, 0.1393), (10, 2.228, 0.0734),
     (29, 2.045, 0.0549), (60, 2.000, 0.0500)],
)  # fmt: skip
def test_students_distribution(free: int, quantile: float, of_two: float) -> None:
    assert student_quantile(free) == pytest.approx(quantile, abs=6e-4)
    assert student_tails(2.0, free) == student_tails(-2.0, free) == pytest.approx(of_two, abs=6e-5)
    assert student_tails(0.0, free) == 1.0


def test_a_gap_over_seeds() -> None:
    """Worked by hand: 0.1, 0.02 and 0.14 have mean 0.0867 and standard error 0.0353; t = 2.457."""
    found = paired_t([0.1, 0.02, 0.14])
    assert found == pytest.approx(0.133, abs=1e-3)
    assert found == paired_t([-0.1, -0.02, -0.14])


def test_a_gap_asks_seeds_and_tasks() -> None:
    """Students of two seeds, one much better than the other's and one not: 100 tasks know that the
    students differ, two seeds do not know that the methods do."""
    a = {(str(n), seed): float(seed == 0 or n < 45) for n in range(50) for seed in range(2)}
    b = {(str(n), seed): float(n < 40) for n in range(50) for seed in range(2)}
    found = gap(a, b)
    assert found is not None
    assert [found.seeds.value, found.tasks.value] == pytest.approx([0.15, 0.15])
    assert found.p_tasks < 0.01
    assert found.tasks.low > 0
    assert found.p_seeds > 0.2
    assert found.seeds.low < 0
    assert gap(a, {}) is None
    alone = gap({("x", 0): 1.0}, {("x", 0): 0.0})
    assert alone is not None
    assert math.isnan(alone.p_seeds)
    assert math.isnan(alone.tasks.low)


@pytest.mark.parametrize("sd", [0.0, 0.6])
def test_how_often_equal_methods_seem_to_differ(sd: float) -> None:
    """Two methods are alike, each seed's student wins a share of its own: the test over seeds finds
    a difference in about one table of twenty, the test over tasks only where students are alike."""
    rng = random.Random(5)
    by_seeds = by_tasks = 0
    for _ in range(200):
        scores = []
        for _ in range(2):
            wins = {}
            for seed in range(3):
                share = 1 / (1 + math.exp(1 - rng.gauss(0, sd)))
                wins |= {(f"{seed} {n}", seed): float(rng.random() < share) for n in range(50)}
            scores.append(wins)
        gaps = [
            sum(scores[0][key] - scores[1][key] for key in scores[0] if key[1] == seed) / 50
            for seed in range(3)
        ]
        by_seeds += paired_t(gaps) < 0.05
        by_tasks += permutation(*scores, draws=200) < 0.05
    assert by_seeds < 22, "of 200, where 10 are expected"
    assert (by_tasks > 30) == (sd > 0)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=8))
@settings(max_examples=30, deadline=None)
def test_of_successes_permutation_is_mcnemars_test(pairs: list[tuple[bool, bool]]) -> None:
    """If both are alike, who of them won an episode is the toss of a coin: all tosses, counted."""
    a = {(str(n), 0): float(one) for n, (one, _) in enumerate(pairs)}
    b = {(str(n), 0): float(other) for n, (_, other) in enumerate(pairs)}
    unlike = [one - other for one, other in pairs if one != other]
    tosses = list(itertools.product((1, -1), repeat=len(unlike)))
    as_far = sum(abs(sum(toss)) >= abs(sum(unlike)) for toss in tosses)
    assert permutation(a, b) == pytest.approx(as_far / len(tosses), abs=0.03)


def test_bootstrap_over_tasks_is_that_of_drawing_tasks() -> None:
    """A slow bootstrap that draws tasks, copies all of their episodes and takes the mean."""
    rng = random.Random(7)
    keys = [(str(task), seed) for task in range(12) for seed in range(1 + task % 3)]
    a, b = ({key: rng.random() for key in keys} for _ in range(2))
    found = paired_by_task(a, b, seed=3, draws=500)
    slow, means = random.Random(3), []
    tasks = sorted({task for task, _ in keys})
    for _ in range(500):
        drawn = slow.choices(tasks, k=len(tasks))
        gaps = [a[key] - b[key] for task in drawn for key in keys if key[0] == task]
        means.append(sum(gaps) / len(gaps))
    means.sort()
    assert found.value == pytest.approx(sum(a[key] - b[key] for key in keys) / len(keys))
    assert (found.low, found.high) == pytest.approx((means[12], means[487]))


def test_permutation_agrees_with_all_flips() -> None:
    gaps = [0.5, -0.1, 0.3, 0.2, 0.4, -0.2]
    a = {(str(n), 0): gap for n, gap in enumerate(gaps)}
    b = dict.fromkeys(a, 0.0)
    flips = [
        abs(sum(sign * gap for sign, gap in zip(signs, gaps, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(gaps))
    ]
    exact = sum(flip >= abs(sum(gaps)) - 1e-12 for flip in flips) / len(flips)
    assert permutation(a, b, draws=20_000) == pytest.approx(exact, abs=0.015)


def test_who_is_first_changes_no_p() -> None:
    """Fractions leave residues in sums that are 0 the other way round."""
    rng = random.Random(3)
    for _ in range(20):
        a, b = (
            {
                (str(n), seed): rng.choice([0.1, 0.2, 0.3, 0.7])
                for n in range(12)
                for seed in range(3)
            }
            for _ in range(2)
        )
        assert permutation(a, b, draws=200) == permutation(b, a, draws=200)


def test_seeds_of_one_task_are_drawn_together() -> None:
    """Ten seeds of the same two tasks know no more about tasks than one seed does."""
    rng = random.Random(0)
    effect = {str(n): rng.choice([0.0, 1.0]) for n in range(30)}
    few = {(task, 0): won for task, won in effect.items()}
    many = {(task, seed): won for task, won in effect.items() for seed in range(10)}
    wide, same = (paired_by_task(scores, dict.fromkeys(scores, 0.0)) for scores in (few, many))
    assert (wide.value, wide.low, wide.high) == pytest.approx((same.value, same.low, same.high))
    assert math.isnan(paired_by_task(few, {}).low)


def test_tasks_that_differ_by_the_same_have_no_interval() -> None:
    """By as much in every episode, or as a mean of the seeds: a bootstrap would be certain."""
    won = {(str(n), seed): 1.0 for n in range(5) for seed in range(2)}
    lost = dict.fromkeys(won, 0.0)
    in_turn = {(task, seed): float(int(task) % 2 == seed) for task, seed in won}
    tenths = {(str(n), 0): n / 10 for n in range(5)}
    more = {key: value + 0.1 for key, value in tenths.items()}  # not the same to the last digit
    for a, b, value in ((won, lost, 1.0), (in_turn, lost, 0.5), (more, tenths, 0.1)):
        found = paired_by_task(a, b)
        assert found.value == pytest.approx(value)
        assert math.isnan(found.low)
        assert math.isnan(found.high)
