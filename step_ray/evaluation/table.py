"""The figures of a comparison: one row for each method's student on a split, over all seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from step_ray import store
from step_ray.config_transfer import EVALUATION, elsewhere
from step_ray.evaluation.comparison import (
    mcnemar,
    over_seeds,
    paired_by_task,
    permutation,
)
from step_ray.evaluation.statistics import Interval
from step_ray.lineage import RunError, read_json, stage_records
from step_ray.run import RESULTS
from step_ray.trajectory import Trajectory

RATES = ("recovery_rate", "invalid_action_rate", "loop_rate")


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished run of a suite."""

    env: str
    method: str
    seed: int
    path: Path


@dataclass(slots=True)
class Row:
    """A student on a split. ``versus`` is None for the reference itself."""

    env: str
    student: str
    split: str
    n: int
    success: Interval
    reward: Interval
    versus: Interval | None
    p_success: float | None
    p_reward: float | None
    trajectories: float
    tokens: float
    hours: float
    gpu_hours: float
    rates: dict[str, float] = field(default_factory=dict)
    by_type: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Found:
    """What the runs say of one student on one split: a value per seed, or per (task, seed)."""

    models: set[str] = field(default_factory=set)
    wins: dict[tuple[str, int], float] = field(default_factory=dict)
    rewards: dict[tuple[str, int], float] = field(default_factory=dict)
    each: list[Mapping[str, Any]] = field(default_factory=list)
    costs: list[tuple[float, float, float, float]] = field(default_factory=list)


def rows_of(runs: Iterable[Ran], reference: str | None = None) -> list[Row]:
    """The rows, in the order of the runs. The last student of a method has the method's name, its
    other students are ``method/student``; a row with the models of an earlier row is left out.

    ``reference`` names the student that the others of its environment and split are tested against;
    None: the first. Raises RunError or StoreError for a run that cannot be read, and RunError for
    a reference that no run has.
    """
    found: dict[tuple[str, str, str], _Found] = defaultdict(_Found)
    for run in runs:
        for key, one in _of_run(run):
            into = found[key]
            into.models |= one.models
            into.wins |= one.wins
            into.rewards |= one.rewards
            into.each += one.each
            into.costs += one.costs
    rows: list[Row] = []
    seen: dict[tuple[str, str, frozenset[str]], str] = {}
    kept: dict[tuple[str, str, str], _Found] = {}
    for key, one in found.items():
        env, student, split = key
        if seen.setdefault((env, split, frozenset(one.models)), student) == student:
            kept[key] = one
    names = list(dict.fromkeys(student for _, student, _ in kept))
    if reference is not None and reference not in names:
        raise RunError(f"reference: no row is called {reference!r}; there are: {', '.join(names)}")
    for (env, student, split), one in kept.items():
        other = kept.get((env, reference or names[0], split))
        rows.append(_row(env, student, split, one, None if other is one else other))
    return rows


def error_kinds(runs: Iterable[Ran]) -> dict[str, dict[str, int]]:
    """Method -> kind of error -> how many of them its teacher found."""
    kinds: dict[str, dict[str, int]] = {}
    for run in runs:
        results = read_json(run.path / RESULTS)
        for kind, count in results.get("synthesis", {}).get("error_kinds", {}).items():
            mine = kinds.setdefault(run.method, {})
            mine[kind] = mine.get(kind, 0) + count
    return kinds


def _row(env: str, student: str, split: str, one: _Found, other: _Found | None) -> Row:
    def mean(values: Sequence[float]) -> float:
        return math.fsum(values) / len(values)

    def seeds(name: str) -> Interval:
        return over_seeds([figures[name]["value"] for figures in one.each])

    kinds = dict.fromkeys(kind for figures in one.each for kind in figures["by_type"])
    trajectories, tokens, hours, gpu_hours = (
        mean([cost[index] for cost in one.costs]) for index in range(4)
    )
    return Row(
        env=env,
        student=student,
        split=split,
        n=sum(figures["n"] for figures in one.each),
        success=seeds("success"),
        reward=seeds("average_reward"),
        versus=None if other is None else paired_by_task(one.rewards, other.rewards),
        p_success=None if other is None else mcnemar(one.wins, other.wins),
        p_reward=None if other is None else permutation(one.rewards, other.rewards),
        trajectories=trajectories,
        tokens=tokens,
        hours=hours,
        gpu_hours=gpu_hours,
        rates={name: mean([figures[name] for figures in one.each]) for name in RATES},
        by_type={
            kind: mean([f["by_type"][kind]["success"] for f in one.each if kind in f["by_type"]])
            for kind in kinds
        },
    )


def _of_run(run: Ran) -> Iterable[tuple[tuple[str, str, str], _Found]]:
    results = read_json(run.path / RESULTS)
    records = {record["name"]: record for record in stage_records(run.path)}
    models = records["evaluation"]["identity"]["inputs"]["students"]
    students = list(dict.fromkeys(row["student"] for row in results["students"]))
    stages = {row.get("transfer", ""): EVALUATION for row in results["students"]}
    stages |= {world: elsewhere(world) for world in stages if world}
    trajectories = {
        world: list(store.read(run.path / stage, kept_only=False))
        for world, stage in stages.items()
    }
    config = read_json(run.path / "config.json")
    for figures in results["students"]:
        student, split = figures["student"], figures["split"]
        name = run.method if student == students[-1] else f"{run.method}/{student}"
        one = _Found(models={f"{models[student]}-{run.seed}"}, each=[figures])
        played: dict[str, list[Trajectory]] = defaultdict(list)
        world = figures.get("transfer", "")
        own = split.removeprefix(f"{world}/")
        for trajectory in trajectories[world]:
            if trajectory.provenance.student == models[student] and trajectory.split == own:
                played[trajectory.task].append(trajectory)
        for task, several in played.items():  # of several samples, their mean
            one.wins[task, run.seed] = math.fsum(t.success for t in several) / len(several)
            one.rewards[task, run.seed] = math.fsum(t.reward for t in several) / len(several)
        one.costs.append(_cost(student, figures, records, config))
        yield (run.env, name, split), one


def _cost(
    student: str, figures: Mapping[str, Any], records: Mapping[str, Any], config: Mapping[str, Any]
) -> tuple[float, float, float, float]:
    """Trajectories, tokens, hours and GPU hours that a student needed, with all that it came from:
    its training stage and every stage that this one was made of."""
    needed: set[str] = set()
    stack = [student] if student in records else []
    while stack:
        name = stack.pop()
        if name not in needed and name in records:
            needed.add(name)
            inputs = records[name]["identity"]["inputs"].values()
            stack += [v["stage"] for v in inputs if isinstance(v, dict) and "stage" in v]
    tokens = hours = gpu = 0.0
    for name in needed:
        outputs, seconds = records[name]["outputs"], records[name]["seconds"] / 3600
        trained = "model" in outputs and "tokens" in outputs
        tokens += outputs["tokens"]["value"] if trained and name == student else 0
        hours += seconds
        training, own = config["training"], config["student"]
        gpus = training["workers"] * training["use_gpu"] if trained else (
            own["replicas"] * own["gpus_per_replica"]
        )  # fmt: skip
        gpu += seconds * gpus
    return float(figures["train_trajectories"]), tokens, hours, gpu
