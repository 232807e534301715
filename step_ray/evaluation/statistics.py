"""Figures of a policy from its roll-outs: rewards, success, recovery, intervals."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from step_ray.evaluation.slips import Recovery, loops, recoveries, slips
from step_ray.lineage import RunError
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


def wilson(successes: float, n: int) -> Interval:
    """Share of successes with Wilson's score interval; (0, 0, 1) for n = 0. Of ``n`` tasks played
    several times, ``successes`` is the sum of their shares."""
    if n == 0:
        return Interval(0.0, 0.0, 1.0)
    p = successes / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n)) / (1 + Z95**2 / n)
    return Interval(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)))


def alike(values: Sequence[float]) -> bool:
    """Whether there is no difference between values but for rounding."""
    return max(values) - min(values) < 1e-12


def bootstrap_mean(values: Sequence[float], seed: int = 0, draws: int = 2000) -> Interval:
    """Mean of values in [0, 1] with its percentile bootstrap interval, (0, 0, 1) if there is none;
    deterministic for ``seed``.

    Equal values leave a bootstrap nothing to draw. They have Wilson's interval, which is that of
    zeros and ones: no values in [0, 1] with this mean vary more.
    """
    if not values or alike(values):
        return wilson(math.fsum(values), len(values))
    rng = random.Random(seed)
    n = len(values)
    means = sorted(math.fsum(rng.choices(values, k=n)) / n for _ in range(draws))
    return Interval(
        math.fsum(values) / n, means[int(0.025 * draws)], means[math.ceil(0.975 * draws) - 1]
    )


def invalid_action_rate(trajectories: Sequence[Trajectory]) -> float:
    """Share of executed turns that the environment did not understand."""
    turns = [turn for t in trajectories for turn in t.turns if turn.executed]
    return sum(not turn.valid for turn in turns) / len(turns) if turns else 0.0


def loop_rate(trajectories: Sequence[Trajectory]) -> float:
    """Share of executed turns that end a loop, see :func:`~step_ray.evaluation.slips.loops`."""
    found = [loops([turn for turn in t.turns if turn.executed]) for t in trajectories]
    total = sum(map(len, found))
    return sum(map(sum, found)) / total if total else 0.0


def reward_of(trajectory: Trajectory) -> float:
    """The reward of an episode as ETO counts it: the highest that it had after any turn.

    ALFWorld: 1 if won, else 0. WebShop: that of the purchase, 0 without one. ScienceWorld: the best
    score on the way, whatever a wrong focus made of it in the end. An episode that its limit or a
    failure ended has what it had reached by then.
    """
    return max([trajectory.reward, *(t.reward for t in trajectory.turns if t.executed)])


def summarise(trajectories: Sequence[Trajectory]) -> dict[str, Any]:
    """All figures of one policy on one split, as ``results.json`` holds them.

    Average reward is ETO's (:func:`reward_of`) and divides by all episodes. Success is a figure of
    its own: the full reward at the end. Episodes that a failure of the engine or of a model ended
    count as lost and are listed under ``outcomes``. Intervals are over tasks: the episodes of one,
    of several seeds, are not independent. ``recovery_rate`` is the share of errors
    (:mod:`~step_ray.evaluation.slips`) whose episode was won, ``episode_recovery_rate`` that of
    episodes with an error; both are None if nobody erred.
    """
    n = len(trajectories)
    by_type: dict[str, list[Trajectory]] = {}
    by_task: dict[tuple[str, str], list[Trajectory]] = {}
    outcomes: dict[str, int] = {}
    for trajectory in trajectories:
        task = (trajectory.task, trajectory.provenance.data_hash)
        by_task.setdefault(task, []).append(trajectory)
        by_type.setdefault(trajectory.task_type, []).append(trajectory)
        outcomes[trajectory.outcome] = outcomes.get(trajectory.outcome, 0) + 1
    kinds = recoveries(trajectories)
    errors = Recovery(
        sum(one.slips for one in kinds.values()), sum(one.recovered for one in kinds.values())
    )
    erred = [t.success for t in trajectories if slips(t)]
    return {
        "n": n,
        "success": wilson(
            math.fsum(sum(t.success for t in group) / len(group) for group in by_task.values()),
            len(by_task),
        ).to_dict(),
        "average_reward": bootstrap_mean(
            [math.fsum(map(reward_of, group)) / len(group) for group in by_task.values()]
        ).to_dict(),
        "invalid_action_rate": invalid_action_rate(trajectories),
        "errors": errors.slips,
        "recovered": errors.recovered,
        "recovery_rate": errors.rate,
        "episode_recovery_rate": sum(erred) / len(erred) if erred else None,
        "error_kinds": {
            kind: {"n": one.slips, "recovered": one.recovered} for kind, one in kinds.items()
        },
        "loop_rate": loop_rate(trajectories),
        "mean_turns": sum(len(t.turns) for t in trajectories) / n if n else 0.0,
        "outcomes": dict(sorted(outcomes.items())),
        "by_type": {
            kind: {
                "n": len(group),
                "success": sum(t.success for t in group) / len(group),
                "average_reward": math.fsum(map(reward_of, group)) / len(group),
            }
            for kind, group in sorted(by_type.items())
        },
    }


def results_of(
    trajectories: Sequence[Trajectory], names: Mapping[str, str], splits: Sequence[str]
) -> list[dict[str, Any]]:
    """One entry per student and split; ``names`` maps a student's name to its fingerprint.

    Raises RunError if a student has no episode in a split.
    """
    rows = []
    for name, student in names.items():
        mine = [t for t in trajectories if t.provenance.student == student]
        for split in splits:
            played = [t for t in mine if t.split == split]
            if not played:
                raise RunError(no_episodes(name, split, (t.split for t in mine)))
            rows.append({"student": name, "split": split, **summarise(played)})
    return rows


def no_episodes(student: str, split: str, played: Iterable[str]) -> str:
    """That a student's figures on a split would be of nothing; ``played``: its episodes' splits."""
    others = ", ".join(sorted(set(played))) or "no split"
    return (
        f"{student} has no episode in split {split}, only in {others}; name splits as the "
        "environment's tasks do, and evaluate again"
    )
