"""Episodes of ScienceWorld's oracle as SwiftSage records them (Lin et al. 2023)."""

from __future__ import annotations

from typing import Any

from step_ray.exchange.chats import Recorded, reward_of
from step_ray.exchange.records import Rejected
from step_ray.trajectory import Turn


def log_of(value: Any) -> Recorded:
    """The episode of ``{"history": {taskName, variationIdx, taskDescription, history: [...]}}``.

    Its turns have no thoughts: the oracle says none. What follows the completion of the task is
    left out. Raises Rejected.
    """
    try:
        log = value["history"]
        name, variation = str(log["taskName"]), int(log["variationIdx"])
        steps, description = log["history"], str(log["taskDescription"])
        turns, reward = [], None
        for step in steps:
            reward = reward_of(step["score"])
            turns.append(
                Turn(
                    "", str(step["action"]), str(step["observation"]), "expert", reward=reward or 0
                )
            )
            if str(step["isCompleted"]).lower() == "true":
                break
    except (KeyError, TypeError, ValueError) as error:
        raise Rejected("not_a_log", f"{type(error).__name__}: {error}") from None
    if not turns:
        raise Rejected("no_turn", "nobody acts in this log")
    return Recorded(
        "",
        description.strip(),
        tuple(turns),
        names=(f"{name}_{variation}",),
        env="scienceworld",
        split=str(log.get("fold", "")),
        task_type=name,
        reward=reward,
    )
