"""Recorded episodes played again in the real engine: what is imported is what it answers."""

from __future__ import annotations

import dataclasses
import re

from step_ray._version import __version__
from step_ray.envs.base import EnvError, Observation, Task, TextEnv
from step_ray.exchange.chats import Recorded
from step_ray.exchange.records import Rejected
from step_ray.exchange.tasks import words
from step_ray.trajectory import Provenance, Turn

# ETO leaves this out of ALFWorld's observations, AgentGym does not.
_ARRIVED = re.compile(r"^You arrive at (loc -?\d+|[a-z]+ \d+)\. ")
_TOLERANCE = 0.005  # recorded rewards are rounded


@dataclasses.dataclass(frozen=True, slots=True)
class Replayed:
    """The episode as the engine answers it."""

    first: Observation
    turns: tuple[Turn, ...]
    reward: float
    ended: bool
    provenance: Provenance


def replay(recorded: Recorded, env: TextEnv, task: Task, strict: bool) -> Replayed:
    """Plays the recorded actions. What follows the end of the episode is left out.

    Recorded observations are compared by their words, as some engines draw the order of things at
    random. ``strict`` rejects an episode at the first that differs; without it only the final
    reward has to be the recorded one. Raises Rejected.
    """
    try:
        first = env.reset(task)
    except EnvError as error:
        raise Rejected("cannot_play", str(error)) from error
    build, turns = env.build(), []
    reward, ended = 0.0, False
    for number, turn in enumerate(recorded.turns, start=1):
        try:
            result = env.step(turn.action)
        except EnvError as error:
            raise Rejected("cannot_play", f"turn {number}: {error}") from error
        ended = result.terminated or result.truncated
        reward = result.reward
        last = number == len(recorded.turns)
        # A chat that ends with the agent's message does not say what came of it.
        told = bool(turn.observation) or not (last or ended)
        if strict and told and not _same(turn.observation, result.observation):
            raise Rejected(
                "other_observation",
                f"turn {number}, {turn.action!r:.80}: recorded {turn.observation!r:.200}, "
                f"the engine answers {result.observation!r:.200}",
            )
        turns.append(
            dataclasses.replace(
                turn, observation=result.observation, valid=result.valid, reward=reward
            )
        )
        if ended:
            break
    if recorded.reward is not None and abs(recorded.reward - reward) > _TOLERANCE:
        raise Rejected("other_reward", f"recorded {recorded.reward:g}, the engine gives {reward:g}")
    provenance = Provenance(build.engine, build.data_hash, build.dialect, code_version=__version__)
    return Replayed(first, tuple(turns), reward, ended, provenance)


def _same(recorded: str, answered: str) -> bool:
    one, other = words(recorded), words(answered)
    return one == other or one == words(_ARRIVED.sub("", answered))
