"""STeCa: step-level trajectory calibration (arXiv 2502.14276).

The base agent is the LLM fine-tuned on all golden trajectories. From every state on an expert's way
it tries a step of its own and goes on to the end. Steps that make success no likelier, by
Monte-Carlo continuations, are deviations. After each of them a teacher words the way back, which is
executed, and the expert goes on from the state that is. The base agent is trained further on these
calibrations, on its own successes and on the expert's way where its own failed, weighted by how far
it went astray. docs/recipes.md says where this leaves the original code.
"""

from __future__ import annotations

import random
from typing import Any

from step_ray import store
from step_ray.config import RunConfig
from step_ray.config_recipes import StecaConfig
from step_ray.progress import Progress
from step_ray.recipes.calibration import calibrate, explore_prefixes, select, value
from step_ray.recipes.results import Until, conclude
from step_ray.recipes.stages import golden, original, train
from step_ray.recipes.teachers import teacher_for
from step_ray.recipes.workshop import opened
from step_ray.recipes.world import open_world
from step_ray.trajectory import Trajectory


def run(
    config: RunConfig, progress: Progress, fresh: bool = False, until: Until | None = None
) -> dict[str, Any]:
    """Runs or continues the recipe in ``config.output``; returns what ``results.json`` holds.

    ``until`` ends it early, with {}: when all data are published, or when the student is trained.
    """
    world, rules = open_world(config), config.steca
    assert rules is not None, "a config with recipe steca has its section"

    with opened(config, world, progress, fresh) as shop:
        # Warm-up, from all that experts did
        expert = golden(shop)
        shown = list(store.read(expert.path))
        llm = original(shop, shown, expert)
        base = train(shop, "golden_only", llm, shown, {"golden": expert})
        policy = base.outputs["model"]

        # From every state on the expert's way the policy goes its own, once ...
        ways = some(shown, rules, config.seed)
        explored, probes = explore_prefixes(shop, policy, ways, expert)
        # ... and what its steps and the expert's are worth is found out by going on many times
        valued, values = value(shop, policy, probes, explored)

        # Where its step was a deviation, the way back is made
        teacher = teacher_for(config, policy, llm)
        calibrated, paste = calibrate(shop, probes, values, valued, teacher)

        # Calibrations, its own successes, and the expert's way where its own failed
        chosen, data = select(shop, probes, values, calibrated, valued)
        if until == "synthesis":
            return {}
        changes = rules.training(config.training.learning_rate)
        inputs = {"chosen": chosen, "base": base}
        student = train(shop, "steca", policy, data, inputs, changes)

        if until == "training":
            return {}
        facts = {
            "calibration": {
                "explored": len(probes),
                "continuations": valued.outputs["continuations"],
                "deviations": calibrated.outputs["deviations"],
                "chosen": chosen.outputs["counts"],
                "pasted": paste,
            },
            "teacher": calibrated.outputs["teacher"],
        }
        return conclude(shop, llm, {"golden_only": base, "steca": student}, facts)


def some(shown: list[Trajectory], rules: StecaConfig, seed: int) -> list[Trajectory]:
    """The golden trajectories that are explored from, in their order."""
    if rules.tasks is None or rules.tasks >= len(shown):
        return shown
    picked = random.Random(f"steca-{seed}").sample(range(len(shown)), rules.tasks)
    return [shown[index] for index in sorted(picked)]
