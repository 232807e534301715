"""Which trajectories enter the training set, and the named reason for each that does not.

STeP keeps short-of-errors successes only ("excludes trajectories with more than 1-2 erroneous
steps"); where the paper is silent the rule is an option of :class:`Filter`.
"""

from __future__ import annotations

from dataclasses import dataclass

from step_ray.trajectory import Trajectory

ENDED_BY_ITSELF = ("success", "failure", "step_limit")


@dataclass(frozen=True, slots=True)
class Filter:
    """``max_errors``: flagged turns allowed; ``min_reward``: final reward needed, in [0, 1];
    ``keep_clean``: whether an episode without any correction may stay; ``keep_unrecovered``:
    whether one may stay in which an error was not corrected at once."""

    max_errors: int = 2
    min_reward: float = 1.0
    keep_clean: bool = False
    keep_unrecovered: bool = False


def drop_reason(trajectory: Trajectory, rule: Filter) -> str:
    """The first reason to drop a trajectory, or "" to keep it."""
    if trajectory.outcome not in ENDED_BY_ITSELF:
        return trajectory.outcome
    if trajectory.reward < rule.min_reward:
        return "low_reward"
    if trajectory.errors > rule.max_errors:
        return "too_many_errors"
    if unrecovered(trajectory) and not rule.keep_unrecovered:
        return "unrecovered_error"
    if not trajectory.corrections and not rule.keep_clean:
        return "no_correction"
    return ""


def unrecovered(trajectory: Trajectory) -> bool:
    """Whether some error is not followed at once by an executed, valid correction."""
    following = (*trajectory.turns[1:], None)
    return any(
        turn.verdict == "error"
        and not (after and after.verdict == "correction" and after.executed and after.valid)
        for turn, after in zip(trajectory.turns, following, strict=False)
    )
