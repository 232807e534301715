"""What a stage of episodes tells Prometheus, through Ray's own metrics.

Ray serves them on every node's metrics port, with ``ray_`` before and ``_total`` behind the names.
One update a second at most, from the driver's running counts: never one for each action.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.util.metrics import Counter

TAGS = ("environment", "stage")
COUNTERS = {
    "step_ray_episodes": ("done", "Episodes that ended"),
    "step_ray_successes": ("success", "Episodes that ended in success"),
    "step_ray_steps": ("steps", "Actions that environments executed"),
    "step_ray_errors": ("errors", "Turns that the teacher flagged as errors"),
    "step_ray_corrections": ("corrections", "Turns that the teacher supplied"),
    "step_ray_deadlines": ("deadlines", "Episodes that a deadline ended"),
    "step_ray_environments_replaced": (
        "environments replaced",
        "Environments that hung, failed or died, and were replaced",
    ),
    "step_ray_environments_recycled": (
        "environments recycled",
        "Environments that took too much memory, and were replaced after their episode",
    ),
    "step_ray_environments_restarted": (
        "environments restarted",
        "Engines of environments that died and were started again, without harm to an episode",
    ),
    "step_ray_requests": ("asked", "Requests to the teacher's model"),
    "step_ray_retries": ("retries", "Requests to the teacher's model that were sent again"),
    "step_ray_cache_hits": ("from cache", "Replies of the teacher that were known already"),
    "step_ray_tokens": ("tokens", "Tokens that the teacher's model read and wrote"),
}
"""Name of a metric -> the running count it follows, and what it is."""


class StageMetrics:
    """The counters of one stage."""

    def __init__(self, environment: str, stage: str) -> None:
        self._tags = {"environment": environment, "stage": stage}
        self._counters = {
            name: Counter(name, description=text, tag_keys=TAGS)
            for name, (_, text) in COUNTERS.items()
        }
        self._told = dict.fromkeys(COUNTERS, 0.0)

    def update(self, counts: Mapping[str, float]) -> None:
        """Adds what has grown since the last time; ``counts`` are sums since the stage began."""
        for name, (count, _) in COUNTERS.items():
            grown = counts.get(count, 0) - self._told[name]
            if grown > 0:
                self._counters[name].inc(grown, self._tags)
                self._told[name] += grown
