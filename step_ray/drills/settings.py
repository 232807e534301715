"""What a drill plays: the environment, the workers and the cluster of a config, made small.

The student says scripted lines and the teacher is the environment's expert, so a drill costs
neither money nor a GPU.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from step_ray.config import RunConfig, load_config, parse_config

STEPS = 10  # turns of an episode at most
STUCK = 10.0  # seconds until an action or a review counts as stuck
_DEFAULT: dict[str, Any] = {
    "output": "drill",
    "env": {
        "games": {"train": 24, "valid_seen": 0, "valid_unseen": 0},
        "task_types": ["pick_and_place_simple"],
    },
    "evaluation": {"splits": ["train"]},
    "synthesis": {"workers": 2},
    "ray": {"num_cpus": 4, "object_store_mb": 100},
}


def drill_config(path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of a drill: the user's, or a default one of generated ALFWorld games, with short
    episodes and deadlines. Raises ConfigError."""
    if path is None:
        from step_ray.config_text import apply_overrides

        raw = copy.deepcopy(_DEFAULT)
        problems = apply_overrides(raw, overrides)
        config = parse_config(raw, "drill", problems)
    else:
        config = load_config(path, overrides)
    env = config.env.model_copy(update={"max_steps": min(STEPS, config.env.max_steps)})
    limits = config.synthesis.deadlines
    deadlines = limits.model_copy(
        update={name: min(STUCK, getattr(limits, name)) for name in ("step", "review")}
    )
    synthesis = config.synthesis.model_copy(
        update={"deadlines": deadlines, "block_size": 2, "envs_per_worker": 4}
    )
    return config.model_copy(update={"env": env, "synthesis": synthesis})
