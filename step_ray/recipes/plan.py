"""What a run is going to do, in words, before anything starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from step_ray import config_checks
from step_ray.config import RunConfig
from step_ray.config_env import EnvConfig, WebShopConfig
from step_ray.config_protocols import note_on
from step_ray.config_recipes import StepConfig, of_round
from step_ray.config_transfer import elsewhere
from step_ray.envs.base import Task
from step_ray.recipes import resources
from step_ray.recipes.cost import as_text, estimate
from step_ray.recipes.world import World, open_world, original_model

# Numbers of tasks in the data that a config may name: ALFWorld's solvable games, ETO's lists, and
# the goals of WebShop, synthetic ones of the 1,000 products.
_TASKS = {
    "alfworld": {"train": 3554, "valid_seen": 140, "valid_unseen": 134},
    "scienceworld": {"train": 1483, "valid_seen": 194, "valid_unseen": 211},
    "webshop listed": {"train": 1802, "test": 200},
    "webshop human": {"train": 10587, "dev": 1000, "test": 500},
    "webshop synthetic": {"train": 5410, "dev": 1000, "test": 500},
}

Stages = Iterator[tuple[str, str]]
"""Names of stages, each with what it does."""


def plan(config: RunConfig) -> str:
    """The stages of a run with their sizes, what they ask of the cluster, and what of that does not
    fit. Lists tasks (generated games are made), starts no Ray.

    Raises EnvError as the run itself would. Models and data need not be there: it says so.
    """
    envs = (config.env, *(one.env for one in config.transfer.values()))
    folders = [folder for env in envs for folder in env.folders().values()]
    here = all(folder.expanduser().is_dir() for folder in folders)
    world = open_world(config) if here else _published(config)
    found = original_model(config)
    if found is None:
        start = "the packaged tiny model with the experts' words"
    elif (found / "config.json").is_file():
        start = str(found)
    else:
        start = f"{found} (NOT THERE YET)"
    stages = _RECIPES[config.recipe](config, world, start)
    golden = f"{len(world.train)} tasks of {world.name}, played by its expert"
    lines = [
        ("golden", golden),
        *stages,
        *_transfer(config, world),
        ("report", str(config.output / "report" / "index.html")),
    ]
    said = "\n".join(f"{name:12} {what}" for name, what in lines)
    notes = [f"NOT THERE YET: {line}" for line in config_checks.not_here(config)]
    if not here:
        notes.append("the numbers of tasks are those published")
    own, *others = (env.model_dump(mode="json") for env in envs)
    if note := note_on(config.evaluation.protocol, own, others):
        notes.append(note)
    notes += config_checks.cautions(config)
    said += "".join(f"\nNOTE         {note}" for note in notes)
    costs = "\n".join(as_text(estimate(config, world)))
    elsewhere = config.ray.address is not None or "RAY_ADDRESS" in os.environ
    nodes = None if elsewhere else resources.here(config)
    return f"{said}\n\n{costs}\n\n{resources.as_text(list(resources.needs(config)), nodes)}"


def stage_names(config: RunConfig) -> list[str]:
    """The stages of a run in their order, but for those that make an original model."""
    world = _published(config)
    found = [*_RECIPES[config.recipe](config, world, ""), *_transfer(config, world)]
    return ["golden", *(name for name, _ in found)]


def _published(config: RunConfig) -> World:
    """A world with as many tasks as published data have, for a plan where the data are not."""
    test = config.evaluation
    transfer = {
        name: _published_one(one.env, one.splits, one.tasks)
        for name, one in config.transfer.items()
    }
    world = _published_one(config.env, test.splits, test.tasks, config.env.train_tasks)
    return replace(world, transfer=transfer)


def _published_one(
    env: EnvConfig, splits: Sequence[str], limit: int | None, train_limit: int | None = None
) -> World:
    name, key = env.name, env.name
    if isinstance(env, WebShopConfig):
        key += f" {env.goals if env.lists is None else 'listed'}"
    counts = _TASKS.get(key, {})

    def tasks(split: str, limit: int | None) -> tuple[Task, ...]:
        count = counts.get(split, 0) if limit is None else min(counts.get(split, 0), limit)
        return tuple(Task(str(number), name, split, "") for number in range(count))

    some = {split: tasks(split, limit) for split in splits}
    return World(name, {}, tasks("train", train_limit), some, "")


def _step(config: RunConfig, world: World, start: str) -> Stages:
    u1, u2 = world.halves(config.golden.fraction, config.seed)
    rules = config.synthesis
    sequential, step = config.training.sequential, config.step or StepConfig()
    yield "base", f"{start}, trained on up to {len(u1)} golden trajectories"
    for number in range(1, step.rounds + 1):
        episodes = f"{len(u2) * rules.rollouts} monitored episodes"
        if number > 1:
            which = "all of U_2" if step.revisit == "all" else "what of U_2 is in no D_r"
            episodes = f"up to {episodes} of {of_round('step', number - 1)} ({which})"
        yield (
            of_round("reflected", number),
            f"{episodes}, {_workers(config)}, errors: {rules.on_error}, kept with at most "
            f"{rules.max_errors}",
        )
        on = "D_1 and D_r" if number == 1 else "D_1 and all D_r so far"
        learns = f"the original model on {on}"
        if sequential:
            learns = f"{of_round('step', number - 1) if number > 1 else 'base'}, on, on D_r alone"
        yield of_round("step", number), f"{learns}, mask {config.training.mask}"
    yield _golden_only(world, start)
    if step.golden_same:
        yield "golden_same", f"{start}, D_1 and the experts' trajectories of the tasks of D_r"
    yield _evaluation(config, world, 2 + step.golden_same + step.rounds)


def _eto(config: RunConfig, world: World, start: str) -> Stages:
    rules = config.eto
    assert rules is not None
    most = len(world.train) * rules.rollouts
    yield _golden_only(world, start)
    for number in range(1, rules.iterations + 1):
        changes = rules.training(number, config.training.learning_rate)
        yield f"explored_{number}", f"up to {most} unaided episodes, {_workers(config)}"
        yield f"pairs_{number}", "expert against policy, wherever their rewards differ"
        yield (
            f"eto_{number}",
            f"DPO with beta {changes['dpo_beta']:g}, learning rate {changes['learning_rate']:.3g}",
        )
    yield _evaluation(config, world, 1 + rules.iterations)


def _steca(config: RunConfig, world: World, start: str) -> Stages:
    rules = config.steca
    assert rules is not None
    tasks = min(rules.tasks or len(world.train), len(world.train))
    turns = f"each of the up to {config.golden.max_steps} turns of {tasks} golden trajectories"
    yield _golden_only(world, start)
    yield "explored", f"an unaided episode from {turns}, {_workers(config)}"
    yield "valued", f"up to {3 * rules.samples} continuations for {turns}"
    then = "executed" if rules.splice == "execute" else "pasted, not executed"
    yield "calibrated", f"a correction for each deviation, by the rule of the {rules.rule}, {then}"
    yield "chosen", "calibrations, explored successes, the expert's way where it did better"
    changes = rules.training(config.training.learning_rate)
    rate = f"learning rate {changes['learning_rate']:.3g}"
    yield "steca", f"that agent, trained on what is chosen, weighted, {rate}"
    yield _evaluation(config, world, 2)


def _golden_only(world: World, start: str) -> tuple[str, str]:
    return "golden_only", f"{start}, trained on up to {len(world.train)} golden trajectories"


def _transfer(config: RunConfig, world: World) -> Stages:
    for name, there in world.transfer.items():
        each = sum(map(len, there.held_out.values())) * len(config.evaluation.seeds)
        splits = ", ".join(there.held_out)
        yield elsewhere(name), f"the same students x {each} episodes of {there.name} ({splits})"


_RECIPES = {"step": _step, "eto": _eto, "steca": _steca}


def _workers(config: RunConfig) -> str:
    rules = config.synthesis
    return f"{rules.workers} workers of {rules.envs_per_worker} episodes each"


def _evaluation(config: RunConfig, world: World, students: int) -> tuple[str, str]:
    test = config.evaluation
    students += test.original
    each = sum(map(len, world.held_out.values())) * len(test.seeds)
    return "evaluation", f"{students} students x {each} episodes ({', '.join(test.splits)})"
