"""A circuit breaker: a server that keeps failing is left alone for a while, then asked once.

M. Nygard, Release It! (Pragmatic Bookshelf, 2007), with waiting in place of failing: nothing is
lost to an outage that ends in time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable


class Breaker:
    """Closed, it lets everything through. ``failures`` in a row open it for ``cooldown`` seconds;
    then one request is the probe, and only its success lets the others through again. Every failed
    probe doubles the time, up to ``longest``. Belongs to one event loop.
    """

    def __init__(
        self,
        failures: int = 8,
        cooldown: float = 1.0,
        longest: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed, self._first, self._longest, self._clock = failures, cooldown, longest, clock
        self.openings = 0
        self._failed = 0  # in a row
        self._cooldown = cooldown
        self._until: float | None = None  # None: closed
        self._probing = False
        self._changed = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self._until is None

    async def enter(self) -> bool:
        """Returns when a request may be sent, and whether that is the probe. Every entry needs its
        :meth:`leave`."""
        while self._until is not None:
            left = self._until - self._clock()
            if left <= 0 and not self._probing:
                self._probing = True
                return True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if self._probing else left):
                    await self._changed.wait()
        return False

    def leave(self, probe: bool, healthy: bool | None) -> None:
        """What a request has shown of the server; None: nothing, as it was cancelled."""
        if probe:
            self._probing = False
        if healthy:
            self._failed, self._cooldown, self._until = 0, self._first, None
        elif healthy is False:
            self._failed += 1
            if probe or (self._until is None and self._failed >= self._allowed):
                self.openings += not probe
                self._until = self._clock() + self._cooldown
                self._cooldown = min(self._longest, 2 * self._cooldown)
        self._changed.set()  # who waits looks again
        self._changed = asyncio.Event()
