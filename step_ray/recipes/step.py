"""STeP: learning from self-reflected trajectories with partial masking (arXiv 2505.20023).

Stage 1: the base agent, the LLM fine-tuned on the golden trajectories D_1 of half of the tasks.
Stage 2: it acts in the other half while a teacher flags each erroneous step and supplies a
reflection and a correction: D_r. Stage 3: the *original* LLM is trained on D_1 and D_r with loss
weight 0 on the erroneous steps. Where the paper is silent, docs/method.md says what we chose.
"""

from __future__ import annotations

from typing import Any

from step_ray import store
from step_ray.config import RunConfig
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


def run(
    config: RunConfig, progress: Progress, fresh: bool = False, until: Until | None = None
) -> dict[str, Any]:
    """Runs or continues the recipe in ``config.output``; returns what ``results.json`` holds.

    ``until`` ends it early, with {}: when D_r is published, or when all students are trained.
    """
    world = open_world(config)
    u1, u2 = world.halves(config.golden.fraction, config.seed)

    with opened(config, world, progress, fresh) as shop:
        expert = golden(shop)
        all_golden = list(store.read(expert.path))
        first_half = {task.id for task in u1}
        d1 = [trajectory for trajectory in all_golden if trajectory.task in first_half]
        llm = original(shop, d1, expert)

        # Stage 1: the base agent
        base = train(shop, "base", llm, d1, {"golden": expert, "half": sorted(first_half)})

        # Stage 2: it acts, the teacher watches
        reflected = synthesize(shop, "reflected", base.outputs["model"], u2)
        if until == "synthesis":
            return {}
        dr = list(store.read(reflected.path))

        # Stage 3: the student, from the original LLM unless the ablation asks otherwise
        start = base.outputs["model"] if config.training.sequential else llm
        data = dr if config.training.sequential else d1 + dr
        student = train(shop, "step", start, data, {"golden": expert, "reflected": reflected})

        # What experts alone would have given, with all golden trajectories
        rival = train(shop, "golden_only", llm, all_golden, {"golden": expert})

        if until == "training":
            return {}
        made = store.read_rows(reflected.path, kept_only=False)
        facts = {"synthesis": synthesis_summary(made)}
        trained = {"base": base, "golden_only": rival, "step": student}
        return conclude(shop, llm, trained, facts)
