"""The figures of a comparison: one row for each method's student on a split, over all seeds."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from step_ray import store
from step_ray.config_transfer import EVALUATION, elsewhere
from step_ray.evaluation.comparison import (
    mcnemar,
    over_seeds,
    paired_by_task,
    permutation,
)
from step_ray.evaluation.costs import Cost, costs
from step_ray.evaluation.made import Ran, results_of_run
from step_ray.evaluation.statistics import Interval, no_episodes, reward_of, summarise
from step_ray.lineage import CONFIG, RunError, read_json, stage_records
from step_ray.trajectory import Trajectory, content_hash

RATES = ("recovery_rate", "episode_recovery_rate", "invalid_action_rate", "loop_rate")
# What may differ between points of one learning curve: names, seeds, and the amount of data.
_AMOUNTS = (
    *("output", "name", "share", "seed", "training.seed", "env.generator_seed"),
    *("env.train_tasks", "env.games.train", "golden.fraction"),
)


@dataclass(frozen=True, slots=True)
class Versus:
    """A student against the reference on the episodes that both played: mean differences with
    bootstrap intervals over tasks; p of McNemar's test of successes and of the paired permutation
    test of rewards."""

    success: Interval
    reward: Interval
    p_success: float
    p_reward: float


@dataclass(slots=True)
class Row:
    """A student on a split. ``versus`` is None for the reference itself, and for a student that has
    no episode in common with it.

    ``each``: success by seed. ``rates``: None where there is nothing to take a share of. ``kinds``:
    errors at test time. ``curve`` is equal for students that differ in the amount of data alone.
    """

    env: str
    student: str
    split: str
    n: int
    each: dict[int, float]
    success: Interval
    reward: Interval
    versus: Versus | None
    trajectories: float
    cost: Cost
    rates: dict[str, float | None]
    by_type: dict[str, float]
    kinds: dict[str, int]
    turns: int
    curve: str


@dataclass(slots=True)
class _Found:
    """What the runs say of one student on one split: a value per seed, or per (task, seed)."""

    models: set[str] = field(default_factory=set)
    wins: dict[tuple[str, int], float] = field(default_factory=dict)
    rewards: dict[tuple[str, int], float] = field(default_factory=dict)
    each: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    costs: list[tuple[float, Cost]] = field(default_factory=list)
    curve: str = ""


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
            into.each |= one.each
            into.costs += one.costs
            into.curve = into.curve or one.curve
    seen: dict[tuple[str, str, frozenset[str]], str] = {}
    kept: dict[tuple[str, str, str], _Found] = {}
    for key, one in found.items():
        env, student, split = key
        if seen.setdefault((env, split, frozenset(one.models)), student) == student:
            kept[key] = one
    names = list(dict.fromkeys(student for _, student, _ in kept))
    if reference is not None and reference not in names:
        raise RunError(f"reference: no row is called {reference!r}; there are: {', '.join(names)}")
    rows = []
    for (env, student, split), one in kept.items():
        other = kept.get((env, reference or names[0], split))
        rows.append(_row(env, student, split, one, None if other is one else other))
    return rows


def _row(env: str, student: str, split: str, one: _Found, other: _Found | None) -> Row:
    figures = list(one.each.values())

    def rate(name: str) -> float | None:
        known = [each[name] for each in figures if each[name] is not None]
        return _mean(known) if known else None

    types = dict.fromkeys(kind for each in figures for kind in each["by_type"])
    kinds: Counter[str] = Counter()
    for each in figures:
        kinds.update({kind: count["n"] for kind, count in each["error_kinds"].items()})
    return Row(
        env=env,
        student=student,
        split=split,
        n=sum(each["n"] for each in figures),
        each={seed: each["success"]["value"] for seed, each in sorted(one.each.items())},
        success=_over_seeds(figures, "success"),
        reward=_over_seeds(figures, "average_reward"),
        versus=None if other is None else _versus(one, other),
        trajectories=_mean([count for count, _ in one.costs]),
        cost=Cost(
            *(
                _mean([getattr(cost, part) for _, cost in one.costs])
                for part in Cost.__dataclass_fields__
            )
        ),
        rates={name: rate(name) for name in RATES},
        by_type={
            kind: _mean(
                [each["by_type"][kind]["average_reward"] for each in figures
                 if kind in each["by_type"]]
            )
            for kind in types
        },
        kinds=dict(kinds.most_common()),
        turns=round(sum(each["mean_turns"] * each["n"] for each in figures)),
        curve=one.curve,
    )  # fmt: skip


def _over_seeds(figures: Sequence[Mapping[str, Any]], name: str) -> Interval:
    """Student's interval over seeds; of a single seed the interval over its episodes."""
    if len(figures) == 1:
        return Interval(**figures[0][name])
    return over_seeds([each[name]["value"] for each in figures])


def _versus(one: _Found, other: _Found) -> Versus | None:
    if not one.wins.keys() & other.wins.keys():
        return None
    return Versus(
        success=paired_by_task(one.wins, other.wins),
        reward=paired_by_task(one.rewards, other.rewards),
        p_success=mcnemar(one.wins, other.wins),
        p_reward=permutation(one.rewards, other.rewards),
    )


def _of_run(run: Ran) -> Iterator[tuple[tuple[str, str, str], _Found]]:
    results = results_of_run(run.path)
    (test,) = (record for record in stage_records(run.path) if record["name"] == EVALUATION)
    models = test["identity"]["inputs"]["students"]
    students = list(dict.fromkeys(row["student"] for row in results["students"]))
    played: dict[tuple[str, str], list[Trajectory]] = defaultdict(list)
    for world in dict.fromkeys(row.get("transfer", "") for row in results["students"]):
        stage = elsewhere(world) if world else EVALUATION
        for trajectory in store.read(run.path / stage, kept_only=False):
            split = f"{world}/{trajectory.split}" if world else trajectory.split
            played[trajectory.provenance.student, split].append(trajectory)
    cost = costs(run.path)
    config = read_json(run.path / CONFIG)
    for said in results["students"]:
        student, split = said["student"], said["split"]
        mine = played.get((models[student], split), [])
        if not mine:
            others = (there for model, there in played if model == models[student])
            raise RunError(f"{run.path}: {no_episodes(student, split, others)}")
        name = run.method if student == students[-1] else f"{run.method}/{student}"
        one = _Found(
            models={f"{models[student]}-{run.seed}"},
            each={run.seed: summarise(mine)},
            costs=[(float(said["train_trajectories"]), cost.get(student, Cost()))],
            curve=content_hash([student, but_for(config, _AMOUNTS)], 16),
        )
        tasks: dict[str, list[Trajectory]] = defaultdict(list)
        for trajectory in mine:
            tasks[trajectory.task].append(trajectory)
        for task, several in tasks.items():  # of several samples, their mean
            one.wins[task, run.seed] = _mean([float(t.success) for t in several])
            one.rewards[task, run.seed] = _mean([reward_of(t) for t in several])
        yield (run.env, name, split), one


def but_for(config: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """The config without some dotted fields."""
    kept = dict(config)
    for name in fields:
        section, _, rest = name.partition(".")
        if not rest:
            kept.pop(section, None)
        elif isinstance(kept.get(section), dict):
            kept[section] = but_for(kept[section], [rest])
    return kept


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
