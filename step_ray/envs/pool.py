"""The environments of one process: made when they are needed, used again, replaced when broken."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable

from step_ray.envs.base import TextEnv

Make = Callable[[], TextEnv]
FATES = ("replaced", "recycled", "restarted")
"""An environment is not used again as it hung, failed or died, or as it took too much memory; or
an engine that several may share died, and was started again without harm to an episode."""


class EnvPool:
    """Lends environments that ``make`` makes; for one thread, but for :meth:`add`.

    It knows no deadline: what hangs is the caller's to give up.
    """

    def __init__(self, make: Make) -> None:
        self._make = make
        self._idle: list[TextEnv] = []
        self._died: Counter[str] = Counter()

    def add(self, env: TextEnv | None = None) -> None:
        """One more, or the one given; making it may take seconds. Raises EnvError."""
        self._idle.append(self._make() if env is None else env)

    def take(self) -> TextEnv | None:
        """One that is ready for an episode; None when there is none: then ``add`` one."""
        while self._idle:
            env = self._idle.pop()
            if getattr(env, "alive", True):
                return env
            self._died["replaced"] += 1
            _close(env)
        return None

    def give_back(self, env: TextEnv, lost: bool) -> dict[str, int]:
        """After an episode; ``lost``: it must not be used again, and is closed by whoever found
        out. Returns how many of each of ``FATES`` there were since the last time."""
        fates, self._died = self._died, Counter()
        restarts = getattr(env, "restarts", None)
        fates["restarted"] += restarts() if restarts is not None else 0
        if lost:
            fates["replaced"] += 1
        elif getattr(env, "worn", False):
            fates["recycled"] += 1
            _close(env)
        else:
            self._idle.append(env)
        return {fate: fates[fate] for fate in FATES}

    def close(self, patience: float) -> None:
        """Closes those that are not lent, side by side; waits for ``patience`` seconds at most."""
        until = time.monotonic() + patience
        closing = [_close(env) for env in self._idle]
        self._idle.clear()
        for thread in closing:
            thread.join(max(0.0, until - time.monotonic()))


def _close(env: TextEnv) -> threading.Thread:
    """Closes an environment in a thread that nobody needs to wait for."""

    def close() -> None:
        with contextlib.suppress(Exception):
            env.close()

    thread = threading.Thread(target=close, name="step-ray-close", daemon=True)
    thread.start()
    return thread
