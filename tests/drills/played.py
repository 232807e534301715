"""Monitored episodes that cost next to nothing, on whatever cluster is connected."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from synthesis_sides import Recording, Scripted, specs

from step_ray.models.serving import TeacherHandle
from step_ray.progress import Progress
from step_ray.synthesis.filters import Filter
from step_ray.synthesis.pipeline import Pool, run_episodes
from step_ray.synthesis.worker import WorkerSettings

RECORDING = "recording.json"  # see tests/benchmarks/synthesis_sides.py
DATA = "data"
BLOCK = 4  # episodes
THINKS = 0.05  # seconds that the student takes for a reply


def play(
    folder: Path, episodes: int, workers: int, teacher: TeacherHandle, labels: Mapping[str, str]
) -> None:
    """Plays and publishes episodes of the recording in ``folder``, on nodes with ``labels``."""
    saved = folder / RECORDING
    recording = Recording.load(saved)
    settings = WorkerSettings(
        env=recording.env,
        env_options=recording.options,
        students={"scripted": str(saved)},
        filter=Filter(max_errors=40, keep_clean=True),
        envs=BLOCK,
    )
    load = functools.partial(Scripted, errors=0.2, seconds=THINKS)
    pool = Pool(workers, block_size=BLOCK, blocks_in_flight=2, labels=labels)
    planned = [
        replace(spec, teacher=teacher.fingerprint, prompt_version=teacher.prompt_version)
        for spec in specs(recording, episodes, monitored=True)
    ]
    with Progress(plain=True).stage("drill", len(planned), "episodes") as bar:
        run_episodes(planned, folder / DATA, settings, load, lambda: teacher, pool, bar, {})
