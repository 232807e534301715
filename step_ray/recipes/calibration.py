"""The stages of STeCa: explored, valued, calibrated, chosen."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from step_ray import store
from step_ray.config_recipes import StecaConfig
from step_ray.config_teacher import KnownTeacherConfig
from step_ray.envs.base import Task
from step_ray.evaluation.costs import CALIBRATED
from step_ray.models.base import Sampling
from step_ray.models.fingerprint import model_fingerprint
from step_ray.recipes.playing import sampling_text, spec_of
from step_ray.recipes.replay import replay
from step_ray.recipes.stages import EVERYTHING, episodes, identity, skipped
from step_ray.recipes.teachers import teacher_of
from step_ray.recipes.workshop import Workshop
from step_ray.run import Stage
from step_ray.synthesis.beginning import Prefix
from step_ray.synthesis.calibrate import (
    Chosen,
    Kind,
    Probe,
    State,
    deviates,
    differs,
    expert_parts,
    expert_wholes,
    own_successes,
    pasted,
    step_rewards,
    weight_of,
)
from step_ray.synthesis.chosen import CHOSEN, write_chosen
from step_ray.synthesis.filters import ENDED_BY_ITSELF, Filter
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.teacher.base import Teacher
from step_ray.teacher.make import make_teacher
from step_ray.training.masks import Weighted
from step_ray.trajectory import Trajectory, Turn

CHOICE = 2
"""Raised when other deviations, trajectories or weights come of the same episodes."""


def explore_prefixes(
    shop: Workshop, policy: Path, ways: Sequence[Trajectory], expert: Stage
) -> tuple[Stage, list[Probe]]:
    """One roll-out of ``policy`` from every state on the experts' ``ways``."""
    rules = _rules(shop)
    planned = [
        (_continuation(shop, policy, way, prefix_of(way.turns[:turns]), 0), way, turns)
        for way in ways
        for turns in range(len(way.turns))
    ]
    settings = {"temperature": rules.temperature, **identity(shop.config, "student", "env", "seed")}
    inputs = {
        "golden": expert,
        "ways": [way.id for way in ways],
        "student": model_fingerprint(policy),
    }
    with shop.run.stage("explored", inputs, settings) as stage:
        if not skipped(shop, stage):
            _play(shop, stage, [spec for spec, _, _ in planned], policy, {})
    made = {one.id: one for one in store.read(stage.path, kept_only=False)}
    probes = [Probe(way, made[spec.id], turns) for spec, way, turns in planned]
    return stage, [probe for probe in probes if probe.explored.outcome in ENDED_BY_ITSELF]


def value(
    shop: Workshop, policy: Path, probes: Sequence[Probe], explored: Stage
) -> tuple[Stage, dict[State, float]]:
    """Monte-Carlo values of the states that the deviation test asks about: each the mean outcome of
    ``steca.samples`` continuations of ``policy``."""
    rules = _rules(shop)
    wanted: dict[State, tuple[Trajectory, Prefix]] = {}
    for probe in _candidates(probes, rules):
        way, own = probe.golden, probe.explored
        wanted[probe.before] = way, prefix_of(way.turns[: probe.turns])
        wanted[probe.after] = way, prefix_of(own.turns[: probe.turns + 1])
        if probe.turns + 1 < len(way.turns):
            wanted[probe.expert] = way, prefix_of(way.turns[: probe.turns + 1])
    specs = [
        _continuation(shop, policy, way, prefix, rollout)
        for way, prefix in wanted.values()
        for rollout in range(1, 1 + rules.samples)  # number 0 is the explored one
    ]
    settings = {
        "samples": rules.samples,
        "temperature": rules.temperature,
        "candidates": [rules.rule, rules.skip_turns, rules.similar],
        **identity(shop.config, "student", "env", "seed"),
    }
    with shop.run.stage("valued", {"explored": explored}, settings) as stage:
        if not skipped(shop, stage):
            _play(shop, stage, specs, policy, {"continuations": len(specs)})
    turns = {spec.id: len(spec.prefix) for spec in specs}
    return stage, step_rewards(store.read(stage.path, kept_only=False), turns)


def calibrate(
    shop: Workshop,
    probes: Sequence[Probe],
    values: Mapping[State, float],
    valued: Stage,
    teacher: KnownTeacherConfig,
) -> tuple[Stage, dict[str, int]]:
    """The calibrations of all deviations, and how many pasted ones the world would not execute."""
    config, rules, world = shop.config, _rules(shop), shop.world
    found = _deviations(probes, values, rules)
    named = make_teacher(teacher, world.name, shop.run.path)
    settings = {
        "splice": rules.splice,
        "test": [rules.rule, rules.delta, CHOICE],
        "min_reward": config.synthesis.min_reward,
        **identity(config, "teacher", "env", "seed"),
    }
    inputs = {"valued": valued, "teacher": [named.fingerprint, named.prompt_version]}
    with shop.run.stage(CALIBRATED, inputs, settings) as stage:
        if skipped(shop, stage):
            return stage, stage.outputs["pasted"]
        specs = [
            spec_of(
                world,
                _task(probe.golden),
                seed=config.seed,
                student=probe.explored.provenance.student,
                teacher=named.fingerprint,
                prompt_version=named.prompt_version,
                style=config.teacher.style,
                max_steps=config.env.max_steps,
                prefix=prefix_of(probe.explored.turns[: probe.turns + 1]),
                then="paste" if rules.splice == "paste" else "expert",
                suffix=_recorded(probe) if rules.splice == "paste" else (),
            )
            for probe in found
        ]
        keep = Filter(1, config.synthesis.min_reward)
        workers = config.synthesis.workers
        facts = {"deviations": len(found), "pasted": _count_pasted(shop, found)}

        def host(running: contextlib.ExitStack) -> tuple[Teacher, None]:
            hosted = teacher_of(teacher, world.name, shop.run.path, None, shop.patience)
            return running.enter_context(hosted), None

        episodes(shop, stage, specs, [], Sampling(), keep, host, workers, facts)
    return stage, stage.outputs["pasted"]


def select(
    shop: Workshop,
    probes: Sequence[Probe],
    values: Mapping[State, float],
    calibrated: Stage,
    valued: Stage,
) -> tuple[Stage, list[Weighted]]:
    """What is trained, and with which weights: D_c, D_e and D_s."""
    rules = _rules(shop)
    by_prefix = {
        (probe.golden.task, _actions(probe.explored, probe.turns + 1)): probe for probe in probes
    }
    known: dict[str, Trajectory] = {}
    chosen: list[Chosen] = []

    def add(trajectory: Trajectory, kind: Kind, start: int, distance: float) -> None:
        known[trajectory.id] = trajectory
        weight = weight_of(kind, distance, rules.weight_scale)
        chosen.append(Chosen(trajectory.id, kind, start, weight))

    for trajectory in store.read(calibrated.path):
        error = next(n for n, turn in enumerate(trajectory.turns) if turn.verdict == "error")
        probe = by_prefix[trajectory.task, _actions(trajectory, error + 1)]
        add(trajectory, "calibration", error + 1, probe.distance_behind)
    for probe in own_successes(probes, rules.explored_within):
        add(probe.explored, "explored", probe.turns, probe.distance)
    parts = expert_parts(_candidates(probes, rules), values, rules.expert_gap)
    for probe in [*expert_wholes(probes, rules.expert_gap), *parts]:
        add(probe.golden, "expert", probe.turns, probe.distance)

    settings = {
        "rule": CHOICE,
        "expert_gap": rules.expert_gap,
        "explored_within": rules.explored_within,
        "weight_scale": rules.weight_scale,
    }
    with shop.run.stage("chosen", {"calibrated": calibrated, "valued": valued}, settings) as stage:
        if not skipped(shop, stage):
            write_chosen(stage.path / CHOSEN, chosen)
            counts = dict(Counter(one.kind for one in chosen))
            stage.finish({"chosen": stage.path / CHOSEN, "counts": counts})
    return stage, [weighted(known[one.id], one) for one in chosen]


def prefix_of(turns: Sequence[Turn]) -> Prefix:
    """Turns as the prefix of an episode."""
    return tuple((turn.author, turn.thought, turn.action) for turn in turns)


def weighted(trajectory: Trajectory, chosen: Chosen) -> Weighted:
    """A trajectory with the weight of each of its turns: none before ``chosen.start``."""
    after = len(trajectory.turns) - chosen.start
    return Weighted(trajectory, (0.0,) * chosen.start + (chosen.weight,) * after)


def _rules(shop: Workshop) -> StecaConfig:
    rules = shop.config.steca
    assert rules is not None, "a config with recipe steca has its section"
    return rules


def _candidates(probes: Sequence[Probe], rules: StecaConfig) -> list[Probe]:
    """The probes whose first step could be a deviation: late enough, and not the expert's own. By
    the code's rule one that was won in the end is none, so nobody asks what its step is worth."""
    return [
        probe
        for probe in probes
        if probe.turns >= rules.skip_turns
        and differs(probe, rules.similar)
        and (rules.rule == "paper" or not probe.explored.success)
    ]


def _deviations(
    probes: Sequence[Probe], values: Mapping[State, float], rules: StecaConfig
) -> list[Probe]:
    return [
        probe
        for probe in _candidates(probes, rules)
        if probe.went_on
        and probe.before in values
        and probe.after in values
        and deviates(
            values[probe.after],
            values[probe.before],
            probe.explored.success,
            rules.rule,
            rules.delta,
        )
    ]


def _count_pasted(shop: Workshop, found: Sequence[Probe]) -> dict[str, int]:
    """Replays what the original would have pasted: how many of them the world does not execute as
    they say."""
    env = shop.world.make()
    wrong = sum(any(True for _ in replay(pasted(probe), env)) for probe in found)
    env.close()
    return {"trajectories": len(found), "not_executable": wrong}


def _recorded(probe: Probe) -> tuple[tuple[str, str, str, float], ...]:
    return tuple(
        (turn.thought, turn.action, turn.observation, turn.reward)
        for turn in probe.golden.turns[probe.turns :]
    )


def _continuation(
    shop: Workshop, policy: Path, way: Trajectory, prefix: Prefix, rollout: int
) -> EpisodeSpec:
    config = shop.config
    return spec_of(
        shop.world,
        _task(way),
        seed=config.seed,
        rollout=rollout,
        student=model_fingerprint(policy),
        sampling=sampling_text(_sampling(shop)),
        max_steps=config.env.max_steps,
        prefix=prefix,
    )


def _play(
    shop: Workshop, stage: Stage, specs: Sequence[EpisodeSpec], policy: Path, facts: dict[str, Any]
) -> None:
    workers = shop.config.synthesis.workers
    sampling = _sampling(shop)
    episodes(shop, stage, specs, [policy], sampling, EVERYTHING, None, workers, facts)


def _sampling(shop: Workshop) -> Sampling:
    return Sampling(_rules(shop).temperature, 1.0, shop.config.student.max_tokens)


def _task(trajectory: Trajectory) -> Task:
    return Task(trajectory.task, trajectory.env, trajectory.split, trajectory.task_type)


def _actions(trajectory: Trajectory, turns: int) -> tuple[str, ...]:
    return tuple(turn.action for turn in trajectory.turns[:turns])
