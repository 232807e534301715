"""Blocking calls away from the event loop, such that one that hangs costs its own thread only."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class CallThread:
    """Makes the calls it is given, one after the other, in a daemon thread of its own.

    The threads of a pool are shared and joined when the interpreter exits: hung calls would use
    the pool up and keep the process alive. Nothing ever waits for this thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        threading.Thread(target=self._serve, name=name, daemon=True).start()

    async def call(self, function: Callable[[], T]) -> T:
        """What ``function`` returns or raises.

        To cancel the wait does not stop the function; later calls come after it.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        results: list[T] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                results.append(function())
            except Exception as error:  # noqa: BLE001 - raised again where it is awaited
                errors.append(error)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(_wake, done)

        self._calls.put(run)
        await done
        if errors:
            raise errors[0]
        return results[0]

    def end(self, last: Callable[[], object] | None = None) -> None:
        """Lets the thread end after all calls, with ``last`` as the very last one."""

        def run() -> None:
            if last is not None:
                with contextlib.suppress(Exception):
                    last()

        self._calls.put(run)
        self._calls.put(None)

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _wake(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
