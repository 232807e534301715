"""What a larger synthesis would take, extrapolated from one that was done.

Episodes do not depend on each other, so what they cost adds up: worker-seconds, tokens, money and
bytes are those of one episode times their number, and the time is the worker-seconds shared among
the workers. That holds while the workers are what is waited for. ``queue`` is the time that
episodes waited for a place in their worker; where the teacher is what they wait for, more workers
do not help, so :attr:`Estimate.teacher_busy` says how many of its answers are under way at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from step_ray.lineage import RunError, read_json, read_run, stage_records
from step_ray.progress import duration
from step_ray.store import read_manifest


@dataclass(frozen=True, slots=True)
class Measured:
    """A finished synthesis. ``seconds``: wall time of the stage; ``phases``: wall seconds by phase,
    summed over episodes; ``teacher``: the teacher's sums."""

    episodes: int
    kept: int
    workers: int
    seconds: float
    bytes: int
    phases: Mapping[str, float]
    teacher: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """``seconds``: wall time; ``cpu_hours``: of workers, one CPU each; ``teacher_busy``: reviews
    under way at once on average; ``teacher``: its sums (tokens, money) for all episodes."""

    episodes: int
    workers: int
    seconds: float
    cpu_hours: float
    kept: int
    gigabytes: float
    teacher_busy: float
    teacher: Mapping[str, float]


def measured(run: Path, stage: str = "reflected") -> Measured:
    """What a run says of its synthesis. Raises RunError if that is not finished."""
    read_run(run)
    records = {record["name"]: record for record in stage_records(run)}
    record = records.get(stage)
    if record is None or record["status"] != "done":
        raise RunError(f"{run}: the stage {stage} is not done; finish the run first")
    manifest = read_manifest(run / stage)
    config = read_json(run / "config.json")
    teacher: Any = record["outputs"].get("teacher", {}).get("value", {})
    return Measured(
        manifest.rows,
        manifest.kept,
        config["synthesis"]["workers"],
        record["seconds"],
        sum(shard.bytes for shard in manifest.shards),
        record["seconds_by_phase"],
        {name: value for name, value in teacher.items() if isinstance(value, int | float)},
    )


def estimate(known: Measured, episodes: int, workers: int) -> Estimate:
    """``episodes`` with ``workers``, at the rate of what is ``known``."""
    if not known.episodes or known.seconds <= 0:
        raise RunError("nothing can be extrapolated from no episodes")
    share = episodes / known.episodes
    worker_seconds = known.seconds * known.workers * share
    seconds = worker_seconds / workers
    return Estimate(
        episodes,
        workers,
        seconds,
        worker_seconds / 3600,
        round(known.kept * share),
        known.bytes * share / 1e9,
        known.phases.get("teacher", 0.0) * share / seconds,
        {name: value * share for name, value in known.teacher.items()},
    )


def as_text(known: Measured, what: Estimate) -> str:
    """Lines for a person."""
    lines = [
        f"measured     {known.episodes:,} episodes in {duration(known.seconds)}, "
        f"{known.workers} workers",
        f"estimated    {what.episodes:,} episodes in {duration(what.seconds)}, "
        f"{what.workers} workers: {what.cpu_hours:,.1f} CPU hours of workers",
        f"data         {what.kept:,} kept, {what.gigabytes:,.2f} GB",
        f"teacher      {what.teacher_busy:.1f} reviews under way at once on average",
    ]
    lines += [f"{'':12} {value:,.6g} {name}" for name, value in what.teacher.items()]
    lines.append("It holds while the workers, and not the teacher, are what is waited for.")
    return "\n".join(lines)
