"""What a run is going to do, in words, before anything starts."""

from __future__ import annotations

from step_ray.config import RunConfig
from step_ray.recipes.world import open_world, original_model


def plan(config: RunConfig) -> str:
    """The stages of a run with their sizes. Lists tasks (generated games are made), starts no Ray.

    Raises EnvError as the run itself would.
    """
    world = open_world(config)
    u1, u2 = world.halves(config.golden.fraction, config.seed)
    rules, test = config.synthesis, config.evaluation
    start = original_model(config) or "a tiny model made of the experts' words,"
    held_out = sum(map(len, world.held_out.values())) * len(test.seeds)
    lines = [
        f"golden       {len(world.train)} tasks of {world.name}, played by its expert",
        f"base         {start} trained on up to {len(u1)} golden trajectories",
        f"reflected    {len(u2) * rules.rollouts} monitored episodes, {rules.workers} workers of "
        f"{rules.envs_per_worker} episodes each, errors: {rules.on_error}, kept with at most "
        f"{rules.max_errors}",
        f"step         the original model on D_1 and D_r, mask {config.training.mask}",
        f"golden_only  the original model on up to {len(world.train)} golden trajectories",
        f"evaluation   3 students x {held_out} episodes ({', '.join(test.splits)})",
        f"report       {config.output / 'report' / 'index.html'}",
    ]
    return "\n".join(lines)
