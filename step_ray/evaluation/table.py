"""The figures of a comparison: one row for each method's student on a split, over all seeds."""

from __future__ import annotations

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from step_ray import config_text, store
from step_ray.config_transfer import EVALUATION, elsewhere
from step_ray.evaluation.comparison import Gap, gap, over_seeds
from step_ray.evaluation.costs import Cost, costs
from step_ray.evaluation.made import Ran, figures_of_run
from step_ray.evaluation.slips import Recovery
from step_ray.evaluation.statistics import (
    Interval,
    no_episodes,
    reward_of,
    summarise,
    wilson,
)
from step_ray.lineage import RunError, stage_records
from step_ray.recorded import config_of
from step_ray.trajectory import Trajectory, content_hash

Key = tuple[str, str, str]
"""Environment, student, split: what a row is of."""
RATES = ("recovery_rate", "episode_recovery_rate", "invalid_action_rate", "loop_rate")
# What may differ between points of one learning curve: names, seeds, and the amount of data.
_AMOUNTS = (
    *("output", "name", "share", "seed", "training.seed", "env.generator_seed"),
    *("env.train_tasks", "env.games.train", "golden.fraction"),
)


@dataclass(frozen=True, slots=True)
class Versus:
    """A student against the reference on the episodes that both played."""

    success: Gap
    reward: Gap


@dataclass(slots=True)
class Row:
    """A student on a split. ``versus`` is None for the reference itself, and for a student that has
    no episode in common with it.

    ``each``: success by seed. ``ended``: seeds in which the method made fewer students than in
    others, so that an earlier one is its last. ``rates``: of the errors of all seeds what was
    recovered, else means of the seeds; None where there is nothing to take a share of. ``kinds``:
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
    ended: tuple[int, ...] = ()


@dataclass(slots=True)
class _Found:
    """What the runs say of one student on one split: a value per seed, or per (task, seed).
    ``played``: the episodes of each seed."""

    played: dict[int, frozenset[str]] = field(default_factory=dict)
    wins: dict[tuple[str, int], float] = field(default_factory=dict)
    rewards: dict[tuple[str, int], float] = field(default_factory=dict)
    each: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    costs: dict[int, tuple[float, Cost]] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    last: bool = False  # the last one of its method
    curve: str = ""

    def add(self, other: _Found) -> None:
        """Other seeds of the same student."""
        self.played |= other.played
        self.wins |= other.wins
        self.rewards |= other.rewards
        self.each |= other.each
        self.costs |= other.costs
        self.ended |= other.ended
        self.last = self.last or other.last
        self.curve = self.curve or other.curve


def rows_of(runs: Iterable[Ran], reference: str | None = None) -> list[Row]:
    """The rows, in the order of the runs. The last student of a method has the method's name, its
    other students are ``method/student``; one of these that played what another row has played is
    no row of its own.

    ``reference`` names the student that the others of its environment and split are tested against;
    None: the first. Raises RunError or StoreError for a run that cannot be read, and RunError for
    a reference that no run has.
    """
    read = [(run, figures_of_run(run.path)) for run in runs]
    longest: dict[tuple[str, str], list[str]] = {}
    for run, figures in read:
        method = longest.setdefault((run.env, run.method), [])
        longest[run.env, run.method] = max(method, _students(figures), key=len)
    found: dict[Key, _Found] = {}
    for run, figures in read:
        for key, one in _of_run(run, figures, longest[run.env, run.method]):
            found.setdefault(key, _Found()).add(one)
    kept: dict[Key, _Found] = {}
    for key, one in found.items():
        twin = next((other for other in kept if _same(key, one, other, kept[other])), None)
        if twin is None:
            kept[key] = one
        else:
            kept[twin].add(one)
    names = list(dict.fromkeys(student for _, student, _ in kept))
    if reference is not None and reference not in names:
        raise RunError(f"reference: no row is called {reference!r}; there are: {', '.join(names)}")
    rows = []
    for (env, student, split), one in kept.items():
        other = kept.get((env, reference or names[0], split))
        rows.append(_row(env, student, split, one, None if other is one else other))
    return rows


def _same(key: Key, one: _Found, other_key: Key, other: _Found) -> bool:
    """Whether a student on the way to a method's last one is that of another row: it played the
    same episodes in every seed that both have."""
    (env, _, split), (other_env, _, other_split) = key, other_key
    if one.last or (env, split) != (other_env, other_split):
        return False
    common = one.played.keys() & other.played.keys()
    if other.last and one.played.keys() - common:
        return False  # its other seeds would become those of a method that did not run there
    return bool(common) and all(one.played[seed] == other.played[seed] for seed in common)


def _row(env: str, student: str, split: str, one: _Found, other: _Found | None) -> Row:
    figures = list(one.each.values())

    def rate(name: str) -> float | None:
        known = [each[name] for each in figures if each[name] is not None]
        return _mean(known) if known else None

    errors = Recovery(*(sum(each[name] for each in figures) for name in ("errors", "recovered")))
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
        success=_over_seeds(figures, "success", len({task for task, _ in one.wins})),
        reward=_over_seeds(figures, "average_reward"),
        versus=None if other is None else _versus(one, other),
        trajectories=_mean([count for count, _ in one.costs.values()]),
        cost=Cost(
            *(
                _mean([getattr(cost, part) for _, cost in one.costs.values()])
                for part in Cost.__dataclass_fields__
            )
        ),
        rates={name: rate(name) for name in RATES} | {"recovery_rate": errors.rate},
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
        ended=tuple(sorted(one.ended)),
    )  # fmt: skip


def _over_seeds(figures: Sequence[Mapping[str, Any]], name: str, tasks: int = 0) -> Interval:
    """Student's interval over seeds; of a single seed the interval over its tasks. Where all seeds
    won equally often, that says nothing of how far they might be apart: then Wilson's of all
    ``tasks`` (given for a share), each of which is one however many seeds played it."""
    if len(figures) == 1:
        return Interval(**figures[0][name])
    found = over_seeds([each[name]["value"] for each in figures])
    if tasks and math.isnan(found.low):
        return wilson(found.value * tasks, tasks)
    return found


def _versus(one: _Found, other: _Found) -> Versus | None:
    success, reward = gap(one.wins, other.wins), gap(one.rewards, other.rewards)
    return None if success is None or reward is None else Versus(success, reward)


def _students(figures: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["student"] for row in figures))


def _of_run(
    run: Ran, figures: Sequence[Mapping[str, Any]], planned: Sequence[str]
) -> Iterator[tuple[Key, _Found]]:
    """What a run says. ``figures``: the rows of its results; ``planned``: the students of the
    method's longest run."""
    models = models_of(run.path)
    students = _students(figures)
    if unknown := [student for student in students if student not in models]:
        raise RunError(
            f"{run.path}: its results are of {unknown[0]}, which was not evaluated; step-ray verify"
            " says more"
        )
    early = students[-1] in planned[:-1]  # e.g. as nothing was left to learn
    played: dict[tuple[str, str], list[Trajectory]] = defaultdict(list)
    for world in dict.fromkeys(row.get("transfer", "") for row in figures):
        stage = elsewhere(world) if world else EVALUATION
        for trajectory in store.read(run.path / stage, kept_only=False):
            split = f"{world}/{trajectory.split}" if world else trajectory.split
            played[trajectory.provenance.student, split].append(trajectory)
    cost = costs(run.path)
    config = config_of(run.path).resolved()
    for said in figures:
        student, split = said["student"], said["split"]
        mine = played.get((models[student], split), [])
        if not mine:
            others = (there for model, there in played if model == models[student])
            raise RunError(f"{run.path}: {no_episodes(student, split, others)}")
        one = _Found(
            played={run.seed: frozenset(trajectory.id for trajectory in mine)},
            each={run.seed: summarise(mine)},
            costs={run.seed: (float(said["train_trajectories"]), cost.get(student, Cost()))},
            curve=content_hash([student, but_for(config, _AMOUNTS)], 16),
        )
        tasks: dict[str, list[Trajectory]] = defaultdict(list)
        for trajectory in mine:
            # Generated worlds of other seeds have other tasks of the same name.
            tasks[f"{trajectory.provenance.data_hash} {trajectory.task}"].append(trajectory)
        for task, several in tasks.items():  # of several samples, their mean
            one.wins[task, run.seed] = _mean([float(t.success) for t in several])
            one.rewards[task, run.seed] = _mean([reward_of(t) for t in several])
        if student == students[-1]:
            ended = {run.seed} if early else set()
            yield (run.env, run.method, split), replace(one, ended=ended, last=True)
        if student != students[-1] or early:
            yield (run.env, f"{run.method}/{student}", split), one


def models_of(run: Path, stage: str = EVALUATION) -> dict[str, str]:
    """Student -> fingerprint of its model, of those that a run has evaluated. Raises RunError if it
    has not."""
    for record in stage_records(run):
        if record["name"] == stage and record["status"] == "done":
            return dict(record["identity"]["inputs"]["students"])
    raise RunError(
        f"{run}: its stage {stage} is not done, or its folder is gone; put that back, or run the "
        "command that made the run again"
    )


def but_for(config: Mapping[str, Any], fields: Iterable[str]) -> dict[str, Any]:
    """The config without some dotted fields."""
    kept = copy.deepcopy(dict(config))
    for name in fields:
        config_text.remove(kept, name.split("."))
    return kept


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
