"""Figures of several seeds, and tests of one policy against another on the same tasks."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence

from step_ray.evaluation.statistics import Interval

# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

Scores = Mapping[tuple[str, int], float]
"""(task, seed) -> reward, or 1.0 for a success and 0.0 for none."""


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean of one value per seed, each from 0 to 1, with Student's 95 % interval as far as it lies
    there; a single seed has none: then (value, nan, nan)."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return Interval(mean, math.nan, math.nan)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    free = len(values) - 1
    half = (_T95[free - 1] if free <= len(_T95) else 1.96) * math.sqrt(variance / len(values))
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def paired_by_task(a: Scores, b: Scores, seed: int = 0, draws: int = 2000) -> Interval:
    """Mean of a - b over the (task, seed) pairs that both have; the interval is a bootstrap over
    tasks, each drawn with all its seeds: episodes of one task are not independent.

    (0, nan, nan) if they have none in common.
    """
    by_task: dict[str, list[float]] = {}
    for key in sorted(a.keys() & b.keys()):
        by_task.setdefault(key[0], []).append(a[key] - b[key])
    if not by_task:
        return Interval(0.0, math.nan, math.nan)
    sums = [(math.fsum(gaps), len(gaps)) for gaps in by_task.values()]
    rng = random.Random(seed)
    means = sorted(_mean(rng.choices(sums, k=len(sums))) for _ in range(draws))
    return Interval(_mean(sums), means[int(0.025 * draws)], means[math.ceil(0.975 * draws) - 1])


def mcnemar(a: Scores, b: Scores) -> float:
    """Exact two-sided p of McNemar's test: that a and b win equally often, on common episodes."""
    common = a.keys() & b.keys()
    more = sum(a[key] > b[key] for key in common)
    less = sum(a[key] < b[key] for key in common)
    n = more + less
    if n == 0:
        return 1.0
    tail = sum(math.comb(n, k) for k in range(min(more, less) + 1))
    return min(1.0, float(2 * tail / 2**n))


def permutation(a: Scores, b: Scores, seed: int = 0, draws: int = 5000) -> float:
    """Two-sided p of the paired permutation test of the mean of a - b: signs flip task by task."""
    by_task: dict[str, float] = {}
    for key in sorted(a.keys() & b.keys()):
        by_task[key[0]] = by_task.get(key[0], 0.0) + a[key] - b[key]
    gaps = [gap for gap in by_task.values() if gap]
    if not gaps:
        return 1.0
    found, rng = abs(math.fsum(gaps)), random.Random(seed)
    as_far = sum(
        abs(math.fsum(gap if rng.random() < 0.5 else -gap for gap in gaps)) >= found - 1e-12
        for _ in range(draws)
    )
    return (as_far + 1) / (draws + 1)


def _mean(sums: Sequence[tuple[float, int]]) -> float:
    return math.fsum(total for total, _ in sums) / sum(count for _, count in sums)
