"""One trajectory as the page shows it: an entry of the index, and all there is to say about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from step_ray.trajectory import Review, Trajectory, Turn

MAX_TEXT = 20_000  # characters of one text that are shown
_GOAL = re.compile(
    r"\b(?:your task is to|task description|instruction|goal):\s*(.+)", re.IGNORECASE
)

CODED = ("group", "env", "type", "split", "outcome", "reason")
"""Columns of the index that are numbers of names."""


def entry(trajectory: Trajectory, reason: str) -> dict[str, Any]:
    """What the index has of a trajectory: all that filters and sorts."""
    kinds = {
        turn.review.kind
        for turn in trajectory.turns
        if turn.verdict == "error" and turn.review is not None and turn.review.kind
    }
    return {
        "id": trajectory.id,
        "env": trajectory.env,
        "type": trajectory.task_type,
        "split": trajectory.split,
        "outcome": trajectory.outcome,
        "reason": reason,
        "goal": goal(trajectory),
        "task": capped(trajectory.task, 160),
        "reward": round(trajectory.reward, 4),
        "turns": len(trajectory.turns),
        "errors": trajectory.errors,
        "corrections": trajectory.corrections,
        "invalid": sum(not turn.valid for turn in trajectory.turns),
        "seconds": round(sum(turn.seconds for turn in trajectory.turns), 4),
        "kinds": sorted(kinds),
    }


def detail(trajectory: Trajectory, weights: Mapping[str, float]) -> dict[str, Any]:
    """What is loaded when a trajectory is looked at; ``weights`` are those of the verdicts, or
    empty for what is not trained. The instruction is left out: most trajectories share it."""
    provenance = trajectory.provenance
    facts = {
        "Environment": " ".join(filter(None, (trajectory.env, provenance.env_build))),
        "Task": trajectory.task,
        "Seed": str(provenance.seed),
        "Student": provenance.student,
        "Teacher": provenance.teacher,
        "Prompt version": provenance.prompt_version,
        "Sampling": provenance.sampling,
        "Action dialect": provenance.dialect,
        "Data hash": provenance.data_hash,
        "Code": provenance.code_version,
    }
    turns = []
    previous: Review | None = None
    for turn in trajectory.turns:
        turns.append(_turn(turn, previous, weights.get(turn.verdict, 0.0)))
        previous = turn.review
    return {
        "id": trajectory.id,
        "success": trajectory.success,
        "detail": capped(trajectory.detail),
        "first": capped(trajectory.initial_observation),
        "facts": {name: capped(value) for name, value in facts.items() if value},
        "turns": turns,
    }


def goal(trajectory: Trajectory) -> str:
    """What is to be done, as environments commonly announce it; empty if they do not."""
    found = _GOAL.search(f"{trajectory.initial_observation}\n{trajectory.instruction}")
    return capped(found.group(1).strip().rstrip("."), 160) if found else ""


def capped(text: str, cap: int = MAX_TEXT) -> str:
    """The text, or as much of it as is shown, with how much is missing."""
    if len(text) <= cap:
        return text
    return f"{text[:cap]} … [{len(text) - cap:,} more characters]"


def _turn(turn: Turn, previous: Review | None, weight: float) -> dict[str, Any]:
    """Only what differs from the usual turn: most are correct, executed, valid, without reward."""
    packed: dict[str, Any] = {
        "thought": capped(turn.thought),
        "action": capped(turn.action),
        "observation": capped(turn.observation),
        "author": turn.author,
        "verdict": turn.verdict,
    }
    if weight:
        packed["weight"] = weight
    if turn.reward:
        packed["reward"] = round(turn.reward, 4)
    if turn.seconds:
        packed["seconds"] = round(turn.seconds, 4)
    if not turn.executed:
        packed["executed"] = False
    if not turn.valid:
        packed["valid"] = False
    review = turn.review
    # A correction repeats the review that it answers; the error's card shows it already.
    if review is not None and review.is_error and review != previous:
        names = ("kind", "error", "reason", "reflection", "thought", "action", "raw")
        packed["review"] = {
            name: capped(getattr(review, name)) for name in names if getattr(review, name)
        }
    return packed
