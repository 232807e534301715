"""STeP: learning from self-reflected trajectories with partial masking (arXiv 2505.20023).

Stage 1: the base agent, the LLM fine-tuned on the golden trajectories D_1 of half of the tasks.
Stage 2: it acts in the other half while a teacher flags each erroneous step and supplies a
reflection and a correction: D_r. Stage 3: the *original* LLM is trained on D_1 and D_r with loss
weight 0 on the erroneous steps. Where the paper is silent, docs/method.md says what we chose.

Beyond the paper, stages 2 and 3 may be done again, with the student as the agent that is watched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from step_ray import store
from step_ray.config import RunConfig
from step_ray.config_recipes import StepConfig, of_round
from step_ray.envs.base import Task
from step_ray.progress import Progress
from step_ray.recipes.results import Until, conclude
from step_ray.recipes.stages import (
    golden,
    original,
    synthesis_summary,
    synthesize,
    train,
)
from step_ray.recipes.workshop import opened
from step_ray.recipes.world import open_world
from step_ray.run import Stage
from step_ray.trajectory import Trajectory


def run(
    config: RunConfig, progress: Progress, fresh: bool = False, until: Until | None = None
) -> dict[str, Any]:
    """Runs or continues the recipe in ``config.output``; returns what ``results.json`` holds.

    ``until`` ends it early, with {}: when the last D_r is published, or when all students are
    trained.
    """
    world, rules = open_world(config), config.step or StepConfig()
    u1, u2 = world.halves(config.golden.fraction, config.seed)

    with opened(config, world, progress, fresh) as shop:
        expert = golden(shop)
        all_golden = list(store.read(expert.path))
        first_half = {task.id for task in u1}
        d1 = [trajectory for trajectory in all_golden if trajectory.task in first_half]
        llm = original(shop, all_golden, expert)

        # Stage 1: the base agent
        base = train(shop, "base", llm, d1, {"golden": expert, "half": sorted(first_half)})
        agent, reflected, students = base, list[Stage](), dict[str, Stage]()
        dr: list[Trajectory] = []

        for number in range(1, rules.rounds + 1):
            # Stage 2: it acts, the teacher watches
            tasks = left(u2, dr) if number > 1 and rules.revisit == "unkept" else u2
            if not tasks:  # of every task of U_2 there is a trajectory in D_r
                break
            name, acting = of_round("reflected", number), agent.outputs["model"]
            made = synthesize(shop, name, acting, tasks, llm)
            new = list(store.read(made.path))
            reflected.append(made)
            if number > 1 and not new:  # another student would be the same student
                break
            if until == "synthesis" and number == rules.rounds:
                break
            dr += new

            # Stage 3: the student, from the original LLM unless the ablation asks otherwise
            sequential = config.training.sequential
            start = acting if sequential else llm
            data = new if sequential else d1 + dr
            inputs = {"golden": expert, **{stage.name: stage for stage in reflected}}
            name = of_round("step", number)
            agent = students[name] = train(shop, name, start, data, inputs)

        if until == "synthesis":
            return {}

        # What experts alone would have given, with all golden trajectories
        rivals = {"golden_only": train(shop, "golden_only", llm, all_golden, {"golden": expert})}
        if rules.golden_same:  # ... and with as many, of the same tasks
            inputs = {"golden": expert, **{stage.name: stage for stage in reflected}}
            data = d1 + instead_of(dr, all_golden)
            rivals["golden_same"] = train(shop, "golden_same", llm, data, inputs)

        if until == "training":
            return {}
        facts: dict[str, Any] = {"synthesis": synthesis_summary(rows_of(reflected))}
        if rules.rounds > 1:
            facts["rounds"] = [synthesis_summary(rows_of([stage])) for stage in reflected]
        trained = {"base": base, **rivals, **students}
        return conclude(shop, llm, trained, facts)


def left(tasks: Sequence[Task], kept: Sequence[Trajectory]) -> list[Task]:
    """The tasks of which no trajectory was kept."""
    done = {trajectory.task for trajectory in kept}
    return [task for task in tasks if task.id not in done]


def instead_of(made: Sequence[Trajectory], golden: Sequence[Trajectory]) -> list[Trajectory]:
    """The expert's trajectory of the task of each one that was ``made``, where there is one."""
    experts = {trajectory.task: trajectory for trajectory in golden}
    return [experts[trajectory.task] for trajectory in made if trajectory.task in experts]


def rows_of(stages: Sequence[Stage]) -> Iterator[dict[str, Any]]:
    """What was published, kept or not."""
    for stage in stages:
        yield from store.read_rows(stage.path, kept_only=False)
