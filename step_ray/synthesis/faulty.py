"""An environment in which a fault is planned: it behaves as any until the fault is due."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from typing import Any, cast

from step_ray.envs.base import StepResult, Task, TextEnv
from step_ray.faults import Fault, Faults


class FaultyEnv:
    """Passes everything on to ``env``; before a step for which a fault is planned, it strikes.

    An environment with a process of its own (``pid``) is stopped or killed for real; else the
    calling thread hangs, or an exception is raised that no environment should raise.
    """

    inline = False  # a call may hang: never on the thread of all episodes

    def __init__(self, env: TextEnv, faults: Faults, planned: Sequence[Fault]) -> None:
        self._env, self._faults, self._planned = env, faults, planned
        self._steps = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def reset(self, task: Task, seed: int = 0) -> Any:
        self._steps = 0
        return self._env.reset(task, seed)

    def step(self, action: str) -> StepResult:
        for fault in self._planned:
            if fault.step == self._steps and self._faults.strikes(fault):
                self._strike(fault)
        self._steps += 1
        return self._env.step(action)

    def _strike(self, fault: Fault) -> None:
        pid = cast("int | None", getattr(self._env, "pid", None))
        if fault.kind == "kill-worker":
            os.kill(os.getpid(), signal.SIGKILL)
        elif pid is not None:
            os.kill(pid, signal.SIGSTOP if fault.kind == "hang-env" else signal.SIGKILL)
        elif fault.kind == "hang-env":
            threading.Event().wait()
        else:
            raise RuntimeError("this environment crashed on purpose, for a drill")


def with_faults(env: TextEnv, faults: Faults, episode: str) -> TextEnv:
    """The environment itself, unless a fault is planned in the episode."""
    planned = faults.episodes.get(episode)
    return cast(TextEnv, FaultyEnv(env, faults, planned)) if planned else env
