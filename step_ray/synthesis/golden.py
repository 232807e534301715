"""Golden trajectories: the environment's own expert plays a task."""

from __future__ import annotations

import dataclasses
import time

from step_ray._version import __version__
from step_ray.envs.base import Build, EnvError, EnvTimeout, Observation, Task, TextEnv
from step_ray.synthesis.spec import EpisodeSpec
from step_ray.trajectory import Outcome, Trajectory, Turn


def golden_episode(spec: EpisodeSpec, env: TextEnv, task: Task) -> Trajectory:
    """Plays ``task`` by ``env.expert()`` for at most ``spec.max_steps`` turns.

    If the engine raises, or the expert proposes an invalid action, the episode ends there with the
    outcome ``env_error`` or ``env_timeout``; its environment should not be used again.
    """
    first, build = Observation("", ""), Build("", "", "")
    turns: list[Turn] = []
    reward, success = 0.0, False
    outcome: Outcome = "step_limit"
    detail = ""
    try:
        first = env.reset(task, spec.seed)
        build = env.build()
        while len(turns) < spec.max_steps:
            turn = env.expert()
            if turn is None:
                outcome, detail = "failure", "the expert has no turn here"
                break
            start = time.perf_counter()
            result = env.step(turn.action)
            if not result.valid:
                raise EnvError(f"the expert proposed {turn.action!r}, which is not valid")
            turns.append(
                dataclasses.replace(
                    turn,
                    observation=result.observation,
                    author="expert",
                    reward=result.reward,
                    seconds=time.perf_counter() - start,
                )
            )
            reward = result.reward
            if result.terminated or result.truncated:
                success = result.reward >= 1.0
                outcome = "success" if success else "failure"
                break
    except EnvTimeout as error:
        outcome, detail = "env_timeout", str(error)
    except EnvError as error:
        outcome, detail = "env_error", str(error)
    return Trajectory(
        id=spec.id,
        task=task.id,
        env=env.name,
        split=task.split,
        task_type=task.type,
        instruction=first.instruction,
        initial_observation=first.text,
        turns=tuple(turns),
        reward=reward,
        success=success,
        outcome=outcome,
        detail=detail,
        provenance=spec.provenance(build.engine, build.data_hash, build.dialect, __version__),
    )
