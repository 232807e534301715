"""ETO: exploration-based trajectory optimisation (arXiv 2403.02502).

The base agent is the LLM fine-tuned on all golden trajectories. In every round the policy acts in
the same training tasks by itself; where expert and policy differ in reward, the two trajectories
become a pair; DPO on the pairs, with the policy that explored as its reference, makes the next
policy. docs/recipes.md says where this leaves the original code.
"""

from __future__ import annotations

from typing import Any

from step_ray import store
from step_ray.config import RunConfig
from step_ray.progress import Progress
from step_ray.recipes.results import Until, conclude
from step_ray.recipes.stages import explore, golden, original, skipped, train
from step_ray.recipes.workshop import Workshop, opened
from step_ray.recipes.world import open_world
from step_ray.run import Stage
from step_ray.synthesis.explore import contrast
from step_ray.synthesis.pairs import PAIRS, read_pairs, write_pairs


def run(
    config: RunConfig, progress: Progress, fresh: bool = False, until: Until | None = None
) -> dict[str, Any]:
    """Runs or continues the recipe in ``config.output``; returns what ``results.json`` holds.

    ``until`` ends it early, with {}: before the last round's DPO, or when all students are trained.
    """
    world, rules = open_world(config), config.eto
    assert rules is not None, "a config with recipe eto has its section"

    with opened(config, world, progress, fresh) as shop:
        # The agent to begin with learns from all that experts did
        expert = golden(shop)
        shown = list(store.read(expert.path))
        solved = {trajectory.task for trajectory in shown}
        tasks = [task for task in world.train if task.id in solved]
        llm = original(shop, shown, expert)
        policy = train(shop, "golden_only", llm, shown, {"golden": expert})
        students, rounds = {"golden_only": policy}, []

        for number in range(1, rules.iterations + 1):
            # The policy acts in the training tasks by itself
            start = policy.outputs["model"]
            explored = explore(
                shop, f"explored_{number}", start, tasks, rules.rollouts, rules.temperature
            )
            # Where it did worse than the expert, or better, there is something to prefer
            pairs = pair(shop, f"pairs_{number}", expert, explored)
            rounds.append(pairs.outputs["counts"])
            chosen = list(read_pairs(pairs.outputs["pairs"]))
            if not chosen:  # the policy does as well as the expert everywhere: nothing to learn
                break
            if until == "synthesis" and number == rules.iterations:
                break
            # DPO; the reference is the policy that explored
            changes = rules.training(number, config.training.learning_rate)
            policy = train(shop, f"eto_{number}", start, chosen, {"pairs": pairs}, changes)
            students[f"eto_{number}"] = policy

        if until:
            return {}
        return conclude(shop, llm, students, {"rounds": rounds})


def pair(shop: Workshop, name: str, expert: Stage, explored: Stage) -> Stage:
    """The pairs of a round, in one file; ``counts`` says what became of the explored episodes."""
    rules = shop.config.eto
    assert rules is not None
    inputs = {"golden": expert, "explored": explored}
    with shop.run.stage(name, inputs, {"extra_turns": rules.extra_turns}) as stage:
        if skipped(shop, stage):
            return stage
        own = store.read(explored.path, kept_only=False)
        pairs, counts = contrast(store.read(expert.path), own, rules.extra_turns)
        write_pairs(stage.path / PAIRS, pairs)
        stage.finish({"pairs": stage.path / PAIRS, "counts": counts})
    return stage
