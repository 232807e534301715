"""A driver that can be killed, with a student that costs nothing and a teacher that counts what it
is paid for: python tests/drills/driven.py FOLDER EPISODES WORKERS

FOLDER has ``recording.json`` (see ``tests/benchmarks/synthesis_sides.py``); ``data`` and ``paid``,
one line for each call of the teacher's model, are made in it.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from synthesis_sides import Recording, Scripted, specs

from step_ray.config import RayConfig
from step_ray.models.base import Reply, Sampling
from step_ray.progress import Progress
from step_ray.recipes.cluster import cluster
from step_ray.synthesis.filters import Filter
from step_ray.synthesis.pipeline import Pool, run_episodes
from step_ray.synthesis.worker import WorkerSettings
from step_ray.teacher.cache import CachedModel
from step_ray.teacher.llm import LLMTeacher
from step_ray.teacher.prompts import load_prompts
from step_ray.trajectory import content_hash

ENVS = 4


class Paid:
    """A teacher's model that repeats what the environment knows, and keeps a book of its calls."""

    fingerprint = "paid"

    def __init__(self, book: Path) -> None:
        self._book = os.open(book, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        assert schema is not None
        os.write(self._book, f"{content_hash([list(messages), dict(schema)])}\n".encode())
        question = messages[0]["content"].rpartition("=== The question ===")[2]
        expert = re.search(r"What an expert would do now: (.*)", question)
        error = "it is an error" in question
        said = {
            "assessment": "I looked at it.",
            "is_error": error,
            "kind": "other" if error else "",
            "error": "That cannot work.",
            "reason": "There is no such action.",
            "reflection": "I should do what is possible.",
            "thought": "This is possible.",
            "action": expert[1] if expert else "",
        }
        reply = {name: said[name] for name in schema["required"]}
        return Reply(json.dumps(reply), "stop", 1, 1)


def paid_teacher(folder: Path) -> LLMTeacher:
    """A teacher as recipes make it, around the model above."""
    prompts = load_prompts("alfworld", None)
    model = CachedModel(Paid(folder / "paid"), folder / "cache", prompts.version)
    return LLMTeacher(model, prompts, privileged=True)


def synthesize(folder: Path, episodes: int, workers: int) -> None:
    """Runs and publishes the episodes."""
    saved = folder / "recording.json"
    recording = Recording.load(saved)
    teacher = paid_teacher(folder)
    planned = [
        replace(spec, teacher=teacher.fingerprint, prompt_version=teacher.prompt_version)
        for spec in specs(recording, episodes, monitored=True)
    ]
    settings = WorkerSettings(
        env=recording.env,
        env_options=recording.options,
        students={"scripted": str(saved)},
        filter=Filter(max_errors=40, keep_clean=True),
        envs=ENVS,
    )
    load = functools.partial(Scripted, errors=0.2, seconds=float(os.environ.get("THINKS", "0")))
    pool = Pool(workers=workers, block_size=4, blocks_in_flight=2)
    connect = functools.partial(paid_teacher, folder)
    with Progress(plain=True).stage("drill", len(planned), "episodes") as bar:
        run_episodes(planned, folder / "data", settings, load, connect, pool, bar, {})


if __name__ == "__main__":
    with cluster(RayConfig()):
        synthesize(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
