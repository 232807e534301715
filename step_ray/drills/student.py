"""A student without a model: what it says follows from the seed of the request alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from step_ray.models.base import Reply, Sampling

# Some environment knows the first two; nobody knows the third, so that there is work for a teacher.
ACTIONS = ("look", "inventory", "stumble")


class DrillStudent:
    """Two replies in three may be sensible; ``path`` is what workers load it by."""

    fingerprint = "drill"

    def __init__(self, path: str = "") -> None:
        self.path = path

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        action = ACTIONS[sampling.seed % len(ACTIONS)]
        return Reply(f"Thought: I try to {action}.\nAction: {action}", "stop", 1, 1)
