"""Plays the evaluation of a run again with its students in this process, and compares:

python jobs/backends.py runs/quickstart_vllm

For each student and split: success as the run has it (with the backend of its config) and with
transformers (``student.backend: local``), the same episodes one by one, which of the two alone won
how many of them, and how many are the same word for word. No Ray.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from step_ray import store
from step_ray.config import RunConfig
from step_ray.evaluation.table import models_of
from step_ray.lineage import RunError
from step_ray.manifest import StoreError
from step_ray.models.base import Sampling
from step_ray.recipes.students import local_student
from step_ray.recipes.world import fingerprints, open_world
from step_ray.recorded import config_of
from step_ray.schema import from_row
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.synthesis.worker import EpisodeWorker, WorkerSettings
from step_ray.trajectory import Trajectory


def again(run: Path, config: RunConfig, specs: list[EpisodeSpec]) -> list[Trajectory]:
    """The episodes of ``specs`` with the students of a run, played here."""
    world = open_world(config)
    student = config.student
    worker = EpisodeWorker(
        WorkerSettings(
            env=world.name,
            env_options=world.options,
            students=fingerprints([path for path in run.glob("*/model") if path.is_dir()]),
            sampling=Sampling(config.evaluation.temperature, 1.0, student.max_tokens),
            envs=student.slots,
        ),
        lambda path: local_student(
            path, dtype=student.dtype, slots=student.slots, context=student.context
        ),
        None,
    )
    try:
        return [from_row(row) for row in worker.run_block(specs)]
    finally:
        worker.close()


def table(run: Path, episodes: int) -> str:
    """The Markdown table, of the first ``episodes`` of each student and split."""
    config = config_of(run)
    names = {mark: name for name, mark in models_of(run).items()}
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in store.read_rows(run / "evaluation", kept_only=False):
        groups[row["provenance"]["student"], row["split"]].append(row)
    rows = [row for group in groups.values() for row in group[:episodes]]
    before = [from_row(row) for row in rows]
    now = again(run, config, [EpisodeSpec(**json.loads(row["spec"])) for row in rows])
    lines = [
        f"| student | split | n | {config.student.backend} | local | won by one alone | same |",
        "|---|---|---|---|---|---|---|",
    ]
    for mark, split in groups:
        pairs = [
            (old, new)
            for old, new in zip(before, now, strict=True)
            if (old.provenance.student, old.split) == (mark, split)
        ]
        won, rewon = sum(old.success for old, _ in pairs), sum(new.success for _, new in pairs)
        both = sum(old.success and new.success for old, new in pairs)
        same = sum(_words(old) == _words(new) for old, new in pairs)
        lines.append(
            f"| {names[mark]} | {split} | {len(pairs)} | {won / len(pairs):.1%} | "
            f"{rewon / len(pairs):.1%} | {won - both}, {rewon - both} | {same} |"
        )
    return "\n".join(lines)


def _words(trajectory: Trajectory) -> list[tuple[str, str]]:
    return [(turn.thought, turn.action) for turn in trajectory.turns]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--episodes", type=int, default=100, help="of each student and split")
    given = parser.parse_args()
    try:
        print(table(given.run, given.episodes))
    except (RunError, StoreError) as error:
        raise SystemExit(f"backends.py: {error}") from None
