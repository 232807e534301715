"""What a larger synthesis would take, extrapolated from one or more that were done.

Episodes do not depend on each other, so what they cost adds up: worker-seconds, tokens, money and
bytes are those of one episode times their number, and the time is the worker-seconds shared among
the workers, after a start that takes what it takes however few episodes there are. One run cannot
tell its start from its episodes; of several of different sizes it is the intercept of a straight
line. That holds while the workers are what is waited for; a teacher that answers so many requests
a second, and no more, bounds it from the other side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from step_ray.lineage import RunError, read_run, stage_records
from step_ray.progress import duration
from step_ray.recorded import config_of
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
    """``seconds``: wall time, of which ``start`` passes before the first episode, None if what is
    known does not tell it from the episodes; ``bound``: what
    is waited for, ``workers`` or ``teacher``; ``cpu_hours``: of workers, one CPU each;
    ``teacher_busy``: reviews under way at once on average; ``teacher``: its sums (tokens, money)
    for all episodes."""

    episodes: int
    workers: int
    seconds: float
    start: float | None
    bound: str
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
    teacher: Any = record["outputs"].get("teacher", {}).get("value", {})
    return Measured(
        manifest.rows,
        manifest.kept,
        config_of(run).synthesis.workers,
        record["seconds"],
        sum(shard.bytes for shard in manifest.shards),
        record["seconds_by_phase"],
        {name: value for name, value in teacher.items() if isinstance(value, int | float)},
    )


def estimate(
    known: Sequence[Measured], episodes: int, workers: int, teacher_rate: float | None = None
) -> Estimate:
    """``episodes`` with ``workers``, by what is ``known``, of which the last is of the kind
    that is meant. ``teacher_rate``: requests a second that its teacher answers, all replicas
    together; None for as many as there are. Raises RunError if nothing can be said.
    """
    if not known or not all(one.episodes and one.seconds > 0 for one in known):
        raise RunError("nothing can be extrapolated from no episodes")
    last = known[-1]
    start, each = _line([(one.episodes / one.workers, one.seconds) for one in known])
    share = episodes / last.episodes
    playing, bound = each * episodes / workers, "workers"
    if teacher_rate is not None:
        asked = last.teacher.get("asked", 0.0) * share
        if not asked:
            raise RunError("the teacher of this run was asked nothing; leave --teacher-rate out")
        if asked / teacher_rate > playing:
            playing, bound = asked / teacher_rate, "teacher"
    return Estimate(
        episodes,
        workers,
        (start or 0.0) + playing,
        start,
        bound,
        workers * playing / 3600,
        round(last.kept * share),
        last.bytes * share / 1e9,
        last.phases.get("teacher", 0.0) * share / playing,
        {name: value * share for name, value in last.teacher.items()},
    )


def _line(points: Sequence[tuple[float, float]]) -> tuple[float | None, float]:
    """(start, seconds for each): the straight line through the points by least squares. No start,
    and through the origin, if all points are of one size or the start would be negative."""
    mean_x, mean_y = (sum(axis) / len(points) for axis in zip(*points, strict=True))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if spread:
        each = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
        start = mean_y - each * mean_x
        if each >= 0 and start >= -1e-6 * mean_y:  # else more than rounding
            return max(start, 0.0), each
    return None, mean_y / mean_x


def as_text(known: Sequence[Measured], what: Estimate) -> str:
    """Lines for a person."""
    lines = [
        f"measured     {one.episodes:,} episodes in {duration(one.seconds)}, {one.workers} workers"
        for one in known
    ]
    lines += [
        f"estimated    {what.episodes:,} episodes in {duration(what.seconds)}, "
        f"{what.workers} workers: {what.cpu_hours:,.1f} CPU hours of workers",
        "start        not told apart from the episodes: name a further run of quite another size"
        if what.start is None
        else f"start        {duration(what.start)} of it",
        f"waits for    its {what.bound}",
        f"data         {what.kept:,} kept, {what.gigabytes:,.2f} GB",
        f"teacher      {what.teacher_busy:.1f} reviews under way at once on average",
    ]
    lines += [f"{'':12} {value:,.6g} {name}" for name, value in what.teacher.items()]
    return "\n".join(lines)
