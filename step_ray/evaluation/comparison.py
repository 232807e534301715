"""Figures of several seeds, and tests of one policy against another on the same tasks.

A method is known from a few students, one of each seed, and a student from its episodes. Whether
other seeds would say the same is asked of the seeds' means, as few as they are; whether other tasks
would, these students given, is asked of the tasks. The first is the question of a claim about a
method: episodes of one student are no independent witnesses of it.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from step_ray.evaluation.statistics import Interval, alike

Scores = Mapping[tuple[str, int], float]
"""(task, seed) -> reward, or 1.0 for a success and 0.0 for none."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How much more one policy has than another. ``seeds``: mean of the differences of each seed,
    with Student's interval, and ``p_seeds`` of the paired t-test over seeds (nan for one seed, and
    for differences that do not vary). ``tasks`` and ``p_tasks``: bootstrap over tasks and
    permutation test, these students given."""

    seeds: Interval
    p_seeds: float
    tasks: Interval
    p_tasks: float


def gap(a: Scores, b: Scores) -> Gap | None:
    """``a`` minus ``b`` over the (task, seed) pairs that both have; None if there are none."""
    by_seed: dict[int, list[float]] = {}
    for key in sorted(a.keys() & b.keys()):
        by_seed.setdefault(key[1], []).append(a[key] - b[key])
    if not by_seed:
        return None
    means = [math.fsum(gaps) / len(gaps) for gaps in by_seed.values()]
    return Gap(
        over_seeds(means, least=-1.0), paired_t(means), paired_by_task(a, b), permutation(a, b)
    )


def over_seeds(values: Sequence[float], least: float = 0.0) -> Interval:
    """Mean of one value per seed, each from ``least`` to 1, with Student's 95 % interval as far as
    it lies there. One value has none, nor have equal ones: then (value, nan, nan)."""
    mean = math.fsum(values) / len(values)
    error = _standard_error(values)
    if not error > 0:
        return Interval(mean, math.nan, math.nan)
    half = student_quantile(len(values) - 1) * error
    return Interval(mean, max(least, mean - half), min(1.0, mean + half))


def paired_t(gaps: Sequence[float]) -> float:
    """Two-sided p of the paired t-test of differences, one for each seed: that their mean is 0. nan
    for one difference, and for equal ones."""
    error = _standard_error(gaps)
    if not error > 0:
        return math.nan
    return student_tails(math.fsum(gaps) / len(gaps) / error, len(gaps) - 1)


def paired_by_task(a: Scores, b: Scores, seed: int = 0, draws: int = 2000) -> Interval:
    """Mean of a - b over the (task, seed) pairs that both have; the interval is a bootstrap over
    tasks, each drawn with all its seeds: episodes of one task are not independent.

    (value, nan, nan) if all tasks differ by the same, as nothing then says how far others might;
    (0, nan, nan) if they have none in common.
    """
    by_task: dict[str, list[float]] = {}
    for key in sorted(a.keys() & b.keys()):
        by_task.setdefault(key[0], []).append(a[key] - b[key])
    if not by_task:
        return Interval(0.0, math.nan, math.nan)
    sums = [(math.fsum(gaps), len(gaps)) for gaps in by_task.values()]
    each = [total / count for total, count in sums]
    if alike(each):
        return Interval(_mean(sums), math.nan, math.nan)
    rng = random.Random(seed)
    means = sorted(_mean(rng.choices(sums, k=len(sums))) for _ in range(draws))
    return Interval(_mean(sums), means[int(0.025 * draws)], means[math.ceil(0.975 * draws) - 1])


def permutation(a: Scores, b: Scores, seed: int = 0, draws: int = 5000) -> float:
    """Two-sided p of the paired permutation test of the mean of a - b: signs flip task by task, all
    seeds of a task together. Of successes, each task once, it is McNemar's test, by drawing."""
    by_task: dict[str, float] = {}
    for key in sorted(a.keys() & b.keys()):
        by_task[key[0]] = by_task.get(key[0], 0.0) + (a[key] - b[key])
    gaps = [gap for gap in by_task.values() if abs(gap) > 1e-12]
    if not gaps:
        return 1.0
    found, rng = abs(math.fsum(gaps)), random.Random(seed)
    as_far = sum(
        abs(math.fsum(gap if rng.random() < 0.5 else -gap for gap in gaps)) >= found - 1e-12
        for _ in range(draws)
    )
    return (as_far + 1) / (draws + 1)


def student_tails(t: float, free: int) -> float:
    """P(|T| >= |t|) of Student's t with ``free`` degrees of freedom, >= 1 (Abramowitz and Stegun,
    26.7.3 and 26.7.4)."""
    angle = math.atan(abs(t) / math.sqrt(free))
    cosine = math.cos(angle)
    term, total = (cosine, 0.0) if free % 2 else (1.0, 0.0)
    for power in range(free % 2, free - 1, 2):
        total += term
        term *= cosine**2 * (power + 1) / (power + 2)
    inside = math.sin(angle) * total
    return max(0.0, 1.0 - (2 / math.pi * (angle + inside) if free % 2 else inside))


def student_quantile(free: int) -> float:
    """The t that |T| exceeds in 5 % of all cases."""
    low, high = 1.9, 13.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if student_tails(middle, free) > 0.05 else (low, middle)
    return high


def _standard_error(values: Sequence[float]) -> float:
    """Of the mean; nan for a single value."""
    if len(values) == 1:
        return math.nan
    if alike(values):
        return 0.0
    mean = math.fsum(values) / len(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))


def _mean(sums: Sequence[tuple[float, int]]) -> float:
    return math.fsum(total for total, _ in sums) / sum(count for _, count in sums)
