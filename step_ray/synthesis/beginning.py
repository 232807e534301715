"""Where an episode begins: at the start of its task, or after turns that others have taken.

Many episodes begin after the same turns (Monte-Carlo continuations of one state). In an engine that
copies its state in no time these turns are played once, and every episode gets a fork of the world;
in others, where a copy costs more, each episode plays them in its own world. Both are the same
episode.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from step_ray.envs.base import Build, Observation, Task, TextEnv
from step_ray.trajectory import Author, Turn

Prefix = tuple[tuple[Author, str, str], ...]
"""Turns that were taken before: who acted, thought, action."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """A world after the turns of a prefix, with what was seen on the way."""

    env: TextEnv
    first: Observation
    build: Build
    turns: tuple[Turn, ...]
    reward: float
    ended: bool


def begin(env: TextEnv, task: Task, seed: int, prefix: Prefix = ()) -> Beginning:
    """Starts ``task`` in ``env`` and plays the prefix, up to the world's end."""
    first = env.reset(task, seed)
    build, turns = env.build(), []
    reward, ended = 0.0, False
    for author, thought, action in prefix:
        start = time.perf_counter()
        result = env.step(action)
        turns.append(
            Turn(
                thought,
                action,
                result.observation,
                author,
                valid=result.valid,
                reward=result.reward,
                seconds=time.perf_counter() - start,
            )
        )
        reward, ended = result.reward, result.terminated or result.truncated
        if ended:
            break
    return Beginning(env, first, build, tuple(turns), reward, ended)


class Beginnings:
    """Begins episodes; keeps the last ``size`` worlds that stand at the end of a prefix."""

    def __init__(self, size: int = 32) -> None:
        self._size = size
        self._known: OrderedDict[tuple[str, str, int, Prefix], Beginning] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, env: TextEnv, task: Task, seed: int, prefix: Prefix) -> Beginning:
        """A beginning of the caller's own: in ``env``, or in a fork of a world that is there."""
        if not prefix or not getattr(env, "inline", False):
            return begin(env, task, seed, prefix)
        key = task.split, task.id, seed, prefix
        with self._lock:
            known = self._known.pop(key, None)
            if known is None:
                made = begin(env, task, seed, prefix)
                known = _in(made, env.fork())
            self._known[key] = known
            if len(self._known) > self._size:
                self._known.popitem(last=False)
            return _in(known, known.env.fork())


def _in(beginning: Beginning, env: TextEnv) -> Beginning:
    return Beginning(
        env,
        beginning.first,
        beginning.build,
        beginning.turns,
        beginning.reward,
        beginning.ended,
    )
