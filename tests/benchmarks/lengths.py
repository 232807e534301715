"""``tests/benchmarks/lengths.py ENV [TASKS]``: how long the packaged expert's trajectories are.

Plays TASKS training tasks of each type (default 20) and prints, by type, the mean turns and tokens,
and the line tokens = head + each x turns with the least relative error: the numbers of
``step_ray/recipes/lengths.py``. Tokens are bytes of the chat / 4. What the expert does not solve
does not count.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from statistics import mean

import numpy as np

from step_ray.envs import make_env
from step_ray.envs.base import Task
from step_ray.react import to_messages
from step_ray.synthesis.golden import golden_episode
from step_ray.synthesis.spec import EpisodeSpec

_OPTIONS = {"alfworld": {"games": {"train": 600, "valid_seen": 0, "valid_unseen": 0}}}
_MOST_TURNS = 200


def main() -> None:
    name, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 20
    env = make_env(name, **_OPTIONS.get(name, {}))
    by_type: dict[str, list[Task]] = defaultdict(list)
    for task in env.tasks("train"):
        by_type[task.type].append(task)
    played: list[tuple[int, float]] = []
    print(f"{'turns':>6} {'most':>5} {'tokens':>7}  type", flush=True)
    for kind, tasks in by_type.items():
        rows = []
        for task in tasks[:: max(1, len(tasks) // count)][:count]:
            spec = EpisodeSpec(name, "", task.split, task.id, kind, 0, max_steps=_MOST_TURNS)
            made = golden_episode(spec, env, task)
            if made.success:
                chat = to_messages(made)
                size = sum(len(message.content.encode()) for message in chat)
                rows.append((len(made.turns), size / 4))
        played += rows
        if not rows:
            print(f"{'-':>6} {'-':>5} {'-':>7}  {kind} (0)")
            continue
        turns, tokens = map(mean, zip(*rows, strict=True))
        print(f"{turns:6.1f} {max(rows)[0]:5} {tokens:7.0f}  {kind} ({len(rows)})", flush=True)
    shares = np.array([(1 / tokens, turns / tokens) for turns, tokens in played])
    (head, each), *_ = np.linalg.lstsq(shares, np.ones(len(played)))
    turns, tokens = map(mean, zip(*played, strict=True))
    print(f"tokens = {head:.0f} + {each:.0f} x turns; means {turns:.1f}, {tokens:.0f}")


if __name__ == "__main__":
    main()
