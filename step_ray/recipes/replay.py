"""Whether a trajectory is what the engine does."""

from __future__ import annotations

from collections.abc import Iterator

from step_ray.envs.base import EnvError, Task, TextEnv
from step_ray.trajectory import Trajectory


def replay(trajectory: Trajectory, env: TextEnv) -> Iterator[str]:
    """Plays a trajectory's actions again and yields every difference to what it says."""
    if trajectory.outcome in ("env_error", "env_timeout") and not trajectory.initial_observation:
        return  # it never began
    task = Task(trajectory.task, trajectory.env, trajectory.split, trajectory.task_type)
    try:
        first = env.reset(task, trajectory.provenance.seed)
    except EnvError as error:
        yield f"its task cannot be played: {error}"
        return
    if (first.instruction, first.text) != (trajectory.instruction, trajectory.initial_observation):
        yield "the episode begins with another text"
    if env.build().data_hash != trajectory.provenance.data_hash:
        yield "its game is another one than it was made with"
    reward, ended = 0.0, False
    for number, turn in enumerate(trajectory.turns, start=1):
        if not turn.executed:
            continue
        if ended:
            yield f"turn {number} comes after the end of the episode"
            return
        result = env.step(turn.action)
        reward, ended = result.reward, result.terminated or result.truncated
        said = (turn.observation, turn.valid, turn.reward)
        if said != (result.observation, result.valid, result.reward):
            yield (
                f"turn {number}, action {turn.action!r}: recorded {said}, the engine answers "
                f"{(result.observation, result.valid, result.reward)}"
            )
            return
    if reward != trajectory.reward or (ended and reward >= 1.0) != trajectory.success:
        yield f"its end is recorded as {trajectory.outcome} with reward {trajectory.reward:g}"
