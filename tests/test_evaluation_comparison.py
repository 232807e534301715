from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_ray.evaluation.comparison import mcnemar, over_seeds, paired_by_task, permutation


def test_interval_over_seeds() -> None:
    """Worked by hand: 0.2, 0.4, 0.6 have standard deviation 0.2, and t(2) is 4.303."""
    found = over_seeds([0.2, 0.4, 0.6])
    assert found.value == pytest.approx(0.4)
    assert found.high - found.value == pytest.approx(4.303 * 0.2 / math.sqrt(3))
    assert found.low == 0.0, "no student wins less than nothing"
    one = over_seeds([0.3])
    assert one.value == 0.3
    assert math.isnan(one.low)


def test_mcnemar_is_the_sign_test_of_discordant_pairs() -> None:
    a = {(str(n), 0): 1.0 for n in range(8)} | {("x", 0): 0.0, ("y", 0): 1.0}
    b = {(str(n), 0): 0.0 for n in range(8)} | {("x", 0): 1.0, ("y", 0): 1.0}
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(a, a) == 1.0


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=11))
def test_mcnemar_is_that_of_counting_all_ways_to_swap(pairs: list[tuple[bool, bool]]) -> None:
    """If both are alike, who of them won an episode is the toss of a coin: all tosses, counted."""
    a = {(str(n), 0): float(one) for n, (one, _) in enumerate(pairs)}
    b = {(str(n), 0): float(other) for n, (_, other) in enumerate(pairs)}
    unlike = [one - other for one, other in pairs if one != other]
    tosses = list(itertools.product((1, -1), repeat=len(unlike)))
    as_far = sum(abs(sum(toss)) >= abs(sum(unlike)) for toss in tosses)
    assert mcnemar(a, b) == pytest.approx(as_far / len(tosses))
    assert mcnemar(a, b) == mcnemar(b, a)


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


def test_seeds_of_one_task_are_drawn_together() -> None:
    """Ten seeds of the same two tasks know no more about tasks than one seed does."""
    rng = random.Random(0)
    effect = {str(n): rng.choice([0.0, 1.0]) for n in range(30)}
    few = {(task, 0): won for task, won in effect.items()}
    many = {(task, seed): won for task, won in effect.items() for seed in range(10)}
    wide, same = (paired_by_task(scores, dict.fromkeys(scores, 0.0)) for scores in (few, many))
    assert (wide.value, wide.low, wide.high) == pytest.approx((same.value, same.low, same.high))
    assert math.isnan(paired_by_task(few, {}).low)
