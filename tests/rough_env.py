"""An environment whose engine hangs, crashes, leaks, prints and raises on demand; see ``Rough``."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import Any

from doubles import Corridor

from step_ray.envs.base import Observation, StepResult, Task

NAME = "rough_env:Rough"


def hang() -> None:
    """As native code may: nothing else runs in this process meanwhile, no thread, no signal."""
    re.match(r"(a+)+$", "a" * 60 + "b")


class Rough(Corridor):
    """A corridor with actions of its own, the names of its methods but ``step`` and ``reset``.

    ``woes``: what happens where: a call ("make", "reset", "close") -> a method; ``task``: only
    there.
    """

    def __init__(self, data: Any = None, *, woes: dict[str, str] | None = None, task: str = ""):
        super().__init__(data)
        self.woes, self.only, self.hoard = woes or {}, task, b""
        self._suffer("make")

    def _suffer(self, call: str) -> None:
        if call in self.woes:
            getattr(self, self.woes[call])()

    def reset(self, task: Task, seed: int = 0) -> Observation:
        if task.id == self.only or not self.only:
            self._suffer("reset")
        return super().reset(task, seed)

    def step(self, action: str) -> StepResult:
        if action in ("hang", "crash", "leak", "shout", "fail", "give_birth"):
            said = getattr(self, action)()
            return StepResult(str(said or os.getpid()), 0.0, False, False, True)
        return super().step(action)

    def close(self) -> None:
        self._suffer("close")
        super().close()

    def hang(self) -> None:
        hang()

    def crash(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def leak(self) -> None:
        self.hoard += b"x" * 150_000_000

    def shout(self) -> None:
        print('{"value": "not an answer"}', flush=True)
        os.write(1, b"nor is this\n")

    def fail(self) -> None:
        raise LookupError("the engine lost its way")

    def give_birth(self) -> int:
        code = "import time; time.sleep(600)"
        return subprocess.Popen([sys.executable, "-c", code]).pid
