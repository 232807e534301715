"""``make bench-sizing``: how much CPU a teacher's GPU needs beside it, and a formula against it.

Prints one JSON object as its last line and writes it to ``docs/benchmarks/sizing.json``. The whole
way of a reviewed turn is there, as with a language model for a teacher: the worker's loop and its
environment, the teacher on Ray Serve with its prompts and its parsing, the model on Ray Serve. Only
the model itself is a clock: it has ``slots``, each of which takes ``seconds`` for a reply and no
CPU, so that it answers ``slots / seconds`` reviews a second and no more, like a GPU of that size.
The student answers at once. CPU time is that of all processes but the model's.

- ``points``, in ALFWorld: reviews a second with so many episodes in flight, and what the formula
  (:func:`rate`) says. Its latency beside the model is that of the point with fewest episodes, and
  its CPU time that of the one with most, so that the points between are the check.
- ``cpu_ms_per_review``: of each environment, with the model kept busy as far as two cores can.
- ``plan_mb``: memory of the driver for the plan of 100,000 episodes, which grows with them.
- ``extrapolation``: what ``step-ray estimate`` foretells from two runs of ALFWorld (with the expert
  for a teacher, who is not waited for), and how long others took: a longer one where the student
  answers at once and the cores are the limit, and one with other workers where it thinks.

It writes the tables of ``docs/operate.md`` too; ``--table`` does that alone, from the file. About
seven minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import math
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heading import committed, heading, publish
from measure import cpu_seconds, growth, rounded, rss_mb
from ray import cloudpickle
from synthesis_sides import Recording, pipeline, record, specs

from step_ray.config import RayConfig
from step_ray.machine import usable_cpus
from step_ray.models.applications import withdraw
from step_ray.models.base import Reply, Sampling
from step_ray.models.served import ModelHandle, deploy
from step_ray.models.serving import TEACHER, start_teacher
from step_ray.recipes.cluster import cluster
from step_ray.recipes.estimate import Measured, estimate
from step_ray.synthesis.pipeline import Pool, _blocks
from step_ray.teacher.llm import LLMTeacher
from step_ray.teacher.prompts import load_prompts

_OUT = committed("sizing")
_PAGE = Path(__file__).parents[2] / "docs" / "operate.md"
_BEGIN, _END = "<!-- from docs/benchmarks/sizing.json -->\n", "<!-- to here -->\n"
_ENVS: dict[str, dict[str, Any]] = {
    "alfworld": {"games": {"train": 64, "valid_seen": 0, "valid_unseen": 0}},
    "webshop": {},
    "scienceworld": {"variations": 1},
}
_SLOTS, _SECONDS = 16, 0.4
_IN_FLIGHT = (2, 4, 8, 16, 32, 64)
# Seconds that the student thinks -> episodes and workers of runs, those after the second foretold.
_RUNS = {
    0.0: ((1000, 2), (4000, 2), (20_000, 2)),
    0.25: ((120, 2), (240, 2), (240, 1), (960, 4)),
}
_TEACHERS = (10, 50, 200)  # reviews a second, of the table
_MODEL = "sizing-model"
_VERDICT = '{"assessment": "It serves the task.", "is_error": false, "kind": ""}'

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def rate(
    in_flight: int, slots: int, seconds: float, beside: float, cores: int, cpu: float
) -> float:
    """Reviews a second: as many as the episodes ask for, at most what the model gives, at most what
    the cores bear.

    ``seconds``: of a reply; ``beside``: seconds of a turn that are not the model's; ``cpu``: CPU
    seconds of a turn.
    """
    return min(in_flight / (seconds + beside), slots / seconds, cores / cpu)


class Clock:
    """A model that takes ``seconds`` for each reply, ``slots`` of them at once, and no CPU."""

    fingerprint = "clock"

    def __init__(self, slots: int, seconds: float) -> None:
        self._slots, self._seconds = asyncio.Semaphore(slots), seconds

    async def chat(
        self,
        messages: Sequence[Mapping[str, str]],
        sampling: Sampling,
        schema: Mapping[str, Any] | None = None,
    ) -> Reply:
        async with self._slots:
            await asyncio.sleep(self._seconds)
        return Reply(_VERDICT, "stop", 100, 20)


def _teacher(env: str, model: ModelHandle) -> LLMTeacher:
    return LLMTeacher(model, load_prompts(env, None))


def main() -> None:
    arguments = _arguments()
    if arguments.table:
        _into_page(json.loads(_OUT.read_text("utf-8")))
        return
    cores = usable_cpus()
    result: dict[str, Any] = {
        **heading("sizing"),
        "cores": cores,
        "slots": _SLOTS,
        "seconds": _SECONDS,
    }
    budget = 3.0 if arguments.small else 12.0  # seconds of each point
    with tempfile.TemporaryDirectory(prefix="step-ray-bench-") as scratch:
        recorded = {name: record(name, options, 12) for name, options in _ENVS.items()}
        result["plan_mb"] = _plan_mb(recorded["alfworld"])
        with cluster(RayConfig(num_cpus=4, object_store_mb=200)):
            points = [
                _measure(recorded["alfworld"], Path(scratch), in_flight, budget)
                for in_flight in (_IN_FLIGHT[::3] if arguments.small else _IN_FLIGHT)
            ]
            each = {"alfworld": points[-1]}
            for name, in_flight in (("webshop", 32), ("scienceworld", 8)):
                each[name] = _measure(recorded[name], Path(scratch), in_flight, budget)
            result["extrapolation"] = []
            for thinks, runs in _RUNS.items():
                sizes = [(n // 20, k) for n, k in runs] if arguments.small else runs
                told = _foretold(recorded["alfworld"], Path(scratch), sizes, thinks)
                result["extrapolation"] += told
    beside = points[0]["in_flight"] / points[0]["reviews_per_second"] - _SECONDS
    cpu = points[-1]["cpu_ms_per_review"] / 1e3
    for point in points:
        point["formula"] = rounded(rate(point["in_flight"], _SLOTS, _SECONDS, beside, cores, cpu))
    result["beside_ms"] = rounded(1e3 * beside)
    result["points"] = points
    result["cpu_ms_per_review"] = {name: one["cpu_ms_per_review"] for name, one in each.items()}
    result["reviews_per_second_and_core"] = {
        name: rounded(1e3 / one["cpu_ms_per_review"]) for name, one in each.items()
    }
    result["environments"] = each
    publish(result, None if arguments.small else _OUT)
    if not arguments.small:
        _into_page(result)


def _measure(recording: Recording, scratch: Path, in_flight: int, budget: float) -> dict[str, Any]:
    """The steady middle of a run of about ``budget`` seconds."""
    print(f"measuring {recording.env}, {in_flight} in flight ...", file=sys.stderr, flush=True)
    saved = recording.save(scratch / f"{recording.env}.json")
    turns = recording.steps_per_episode
    workers = min(2, in_flight)
    envs = in_flight // workers
    expected = min(in_flight / _SECONDS, _SLOTS / _SECONDS)
    # Enough of them where few are in flight: they end together, in bursts.
    episodes = max(4 * in_flight, round(budget * expected / turns), min(14 * in_flight, 70))
    model = deploy(_MODEL, functools.partial(Clock, _SLOTS, _SECONDS), cpus=0)
    teacher = start_teacher(1, make=functools.partial(_teacher, recording.env, model))
    looks: list[tuple[int, float, float]] = []

    def watch(done: int) -> None:
        if not looks or done > looks[-1][0]:
            looks.append((done, time.perf_counter(), cpu_seconds(lambda name: _MODEL in name)))

    try:
        pipeline(
            recording,
            saved,
            specs(recording, episodes, monitored=True),
            Pool(workers=workers, block_size=max(1, envs)),
            envs=envs,
            folder=scratch / f"{recording.env}-{in_flight}",
            connect=lambda: teacher,
            watch=watch,
        )
    finally:
        withdraw(TEACHER)
        withdraw(_MODEL)
    # Until all have begun, and when the first find no successor, fewer are in flight.
    steady = [look for look in looks if in_flight < look[0] <= episodes - in_flight]
    pace = growth([(done, at) for done, at, _ in steady])
    spent = growth([(done, cpu) for done, _, cpu in steady])
    if len(steady) < 3 or not pace:
        raise SystemExit(f"{recording.env}: too few looks at the run: give it more episodes")
    found = turns / pace
    return {
        "in_flight": in_flight,
        "episodes": episodes,
        "turns_per_episode": rounded(turns),
        "reviews_per_second": rounded(found),
        "model_busy": rounded(found * _SECONDS / _SLOTS),
        "cpu_ms_per_review": rounded(1e3 * spent / turns),
        "cores_busy": rounded(spent / pace),
    }


def _plan_mb(recording: Recording) -> float:
    """What a driver holds of 100,000 episodes before the first one: specs, ids, blocks."""
    before = rss_mb()
    planned = specs(recording, 100_000, monitored=True)
    held = {spec.id for spec in planned}, list(_blocks(planned, Pool().block_size))
    assert len(held[0]) == len(planned)
    return rounded(rss_mb() - before)


def _foretold(
    recording: Recording, scratch: Path, sizes: Sequence[tuple[int, int]], thinks: float
) -> list[dict[str, float]]:
    """Runs of several sizes, and what those before the third let expect."""
    saved = recording.save(scratch / f"{recording.env}.json")
    known, told = [], []
    for episodes, workers in sizes:
        print(f"measuring {episodes} episodes, {workers} workers ...", file=sys.stderr, flush=True)
        planned = specs(recording, episodes, monitored=True)
        pool = Pool(workers=workers, block_size=8)
        seconds = pipeline(recording, saved, planned, pool, thinks=thinks)
        row = {"episodes": episodes, "workers": workers, "thinks": thinks}
        row["seconds"] = rounded(seconds)
        if len(known) == 2:
            row["foretold"] = rounded(estimate(known, episodes, workers).seconds)
        else:
            known.append(Measured(episodes, 0, workers, seconds, 0, {}, {}))
        told.append(row)
    return told


def _into_page(result: Mapping[str, Any]) -> None:
    page = _PAGE.read_text("utf-8")
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    _PAGE.write_text(f"{before}{_BEGIN}\n{tables(result)}\n\n{_END}{after}", encoding="utf-8")


def tables(result: Mapping[str, Any]) -> str:
    """What docs/operate.md says of a measurement, in Markdown: cores beside a teacher that answers
    so many reviews a second; the formula and the forecasts beside what was measured."""
    points = [
        "| episodes in flight | reviews/s, measured | by the formula | model busy |",
        "|---|---|---|---|",
        *(
            f"| {one['in_flight']} | {one['reviews_per_second']:.1f} | {one['formula']:.1f} "
            f"| {one['model_busy']:.0%} |"
            for one in result["points"]
        ),
    ]
    told = [
        "| the student thinks | known | episodes | workers | seconds, measured | foretold |",
        "|---|---|---|---|---|---|",
        *(
            f"| {one['thinks']:g} s | {_known(result, one['thinks'])} | {one['episodes']:,} "
            f"| {one['workers']} | {one['seconds']:.0f} | {one['foretold']:.0f} |"
            for one in result["extrapolation"]
            if "foretold" in one
        ),
    ]
    machine = result["machine"]
    return "\n".join(
        [
            f"By `{result['command']}` on {machine['cpus']} cores ({machine['processor']}):",
            "",
            *_cores(result),
            "",
            f"The formula against a model of {result['slots']} slots and {result['seconds']:g} s:",
            "",
            *points,
            "",
            "`step-ray estimate` from two runs of two workers:",
            "",
            *told,
            "",
            f"The plan of 100,000 episodes takes {result['plan_mb']:.0f} MB of the driver.",
        ]
    )


def _known(result: Mapping[str, Any], thinks: float) -> str:
    """The sizes of the runs that an estimate is made from."""
    rows = result["extrapolation"]
    known = [one for one in rows if one["thinks"] == thinks and "foretold" not in one]
    return " and ".join(f"{one['episodes']:,}" for one in known)


def _cores(result: Mapping[str, Any]) -> list[str]:
    heads = [f"{teacher} reviews/s" for teacher in _TEACHERS]
    lines = [
        f"| environment | CPU of a reviewed turn | {' | '.join(heads)} |",
        f"|---|---|{'---|' * len(heads)}",
    ]
    for name, cpu in result["cpu_ms_per_review"].items():
        cores = [f"{math.ceil(teacher * cpu / 100) / 10:.1f} cores" for teacher in _TEACHERS]
        lines.append(f"| {name} | {cpu:.1f} ms | {' | '.join(cores)} |")
    return lines


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="only see that it works")
    parser.add_argument("--table", action="store_true", help="only write the tables of the docs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
