"""Figures of a policy from its roll-outs: rewards, success, recovery, intervals, paired tests."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from step_ray.trajectory import Trajectory

Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


def wilson(successes: int, n: int) -> Interval:
    """Share of successes with Wilson's score interval; (0, 0, 1) for n = 0."""
    if n == 0:
        return Interval(0.0, 0.0, 1.0)
    p = successes / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def bootstrap_mean(values: Sequence[float], seed: int = 0, draws: int = 2000) -> Interval:
    """Mean of values in [0, 1] with its percentile bootstrap interval, (0, 0, 1) if there is none;
    deterministic for ``seed``."""
    if not values:
        return Interval(0.0, 0.0, 1.0)
    rng = random.Random(seed)
    n = len(values)
    means = sorted(math.fsum(rng.choices(values, k=n)) / n for _ in range(draws))
    return Interval(
        math.fsum(values) / n, means[int(0.025 * draws)], means[math.ceil(0.975 * draws) - 1]
    )


def paired_difference(
    a: dict[str, float], b: dict[str, float], seed: int = 0, draws: int = 2000
) -> Interval:
    """Mean of a - b over the tasks both have, with a bootstrap interval over tasks; (0, -1, 1)
    if there is none."""
    common = sorted(a.keys() & b.keys())
    if not common:
        return Interval(0.0, -1.0, 1.0)
    return bootstrap_mean([a[task] - b[task] for task in common], seed, draws)


def invalid_action_rate(trajectories: Sequence[Trajectory]) -> float:
    """Share of executed turns that the environment did not understand."""
    turns = [turn for t in trajectories for turn in t.turns if turn.executed]
    return sum(not turn.valid for turn in turns) / len(turns) if turns else 0.0


def recovery_rate(trajectories: Sequence[Trajectory]) -> float:
    """Share of episodes with at least one invalid action that were still won."""
    erred = [t for t in trajectories if any(not turn.valid for turn in t.turns)]
    return sum(t.success for t in erred) / len(erred) if erred else 0.0


def loop_rate(trajectories: Sequence[Trajectory]) -> float:
    """Share of executed turns that repeat the turn before, with the same answer."""
    repeats = total = 0
    for trajectory in trajectories:
        turns = [turn for turn in trajectory.turns if turn.executed]
        total += len(turns)
        repeats += sum(
            a.action == b.action and a.observation == b.observation
            for a, b in itertools.pairwise(turns)
        )
    return repeats / total if total else 0.0


def summarise(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """All figures of one policy on one split, as ``results.json`` holds them.

    Average reward divides by all episodes, as ETO computes it; episodes that an engine failure
    ended count as lost and are listed under ``outcomes``.
    """
    n = len(trajectories)
    by_type: dict[str, list[Trajectory]] = {}
    outcomes: dict[str, int] = {}
    for trajectory in trajectories:
        by_type.setdefault(trajectory.task_type, []).append(trajectory)
        outcomes[trajectory.outcome] = outcomes.get(trajectory.outcome, 0) + 1
    return {
        "n": n,
        "success": wilson(sum(t.success for t in trajectories), n).to_dict(),
        "average_reward": bootstrap_mean([t.reward for t in trajectories]).to_dict(),
        "invalid_action_rate": invalid_action_rate(trajectories),
        "recovery_rate": recovery_rate(trajectories),
        "loop_rate": loop_rate(trajectories),
        "mean_turns": sum(len(t.turns) for t in trajectories) / n if n else 0.0,
        "outcomes": dict(sorted(outcomes.items())),
        "by_type": {
            kind: {"n": len(group), "success": sum(t.success for t in group) / len(group)}
            for kind, group in sorted(by_type.items())
        },
    }


def results_of(
    trajectories: Sequence[Trajectory], names: Mapping[str, str], splits: Sequence[str]
) -> list[dict[str, Any]]:
    """One entry per student and split; ``names`` maps a student's name to its fingerprint."""
    return [
        {
            "student": name,
            "split": split,
            **summarise(
                [t for t in trajectories if t.provenance.student == student and t.split == split]
            ),
        }
        for name, student in names.items()
        for split in splits
    ]
