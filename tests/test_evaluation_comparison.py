from __future__ import annotations

import itertools
import math
import random

import pytest

from step_ray.evaluation.comparison import mcnemar, over_seeds, paired_by_task, permutation


def test_interval_over_seeds() -> None:
    """Worked by hand: 0.2, 0.4, 0.6 have standard deviation 0.2, and t(2) is 4.303."""
    found = over_seeds([0.2, 0.4, 0.6])
    assert found.value == pytest.approx(0.4)
    assert found.high - found.value == pytest.approx(4.303 * 0.2 / math.sqrt(3))
    one = over_seeds([0.3])
    assert one.value == 0.3
    assert math.isnan(one.low)


def test_mcnemar_is_the_sign_test_of_discordant_pairs() -> None:
    a = {(str(n), 0): 1.0 for n in range(8)} | {("x", 0): 0.0, ("y", 0): 1.0}
    b = {(str(n), 0): 0.0 for n in range(8)} | {("x", 0): 1.0, ("y", 0): 1.0}
    assert mcnemar(a, b) == pytest.approx(2 * (1 + 9) / 2**9)
    assert mcnemar(a, a) == 1.0


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
