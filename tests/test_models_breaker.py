"""The circuit breaker, by a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from step_ray.models.breaker import Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def failed(breaker: Breaker, times: int = 1) -> None:
    for _ in range(times):
        breaker.leave(await breaker.enter(), False)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def run(test: Callable[[Breaker, Clock], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = Clock()
        await test(Breaker(3, 1.0, 4.0, clock), clock)

    asyncio.run(main())


def test_failures_in_a_row_open_it() -> None:
    async def test(breaker: Breaker, clock: Clock) -> None:
        await failed(breaker, 2)
        breaker.leave(await breaker.enter(), True)
        await failed(breaker, 2)
        breaker.leave(await breaker.enter(), None)
        assert breaker.closed
        await failed(breaker)
        assert not breaker.closed
        assert breaker.openings == 1

    run(test)


def test_one_probe_decides_for_all() -> None:
    async def test(breaker: Breaker, clock: Clock) -> None:
        await failed(breaker, 3)
        clock.now = 1.0
        waiting = [asyncio.create_task(breaker.enter()) for _ in range(4)]
        await settle()
        entered = [task for task in waiting if task.done()]
        assert [task.result() for task in entered] == [True], "one, and it is the probe"
        breaker.leave(True, True)
        assert sorted(await asyncio.gather(*waiting)) == [False, False, False, True]
        assert breaker.closed

    run(test)


def test_a_failed_probe_doubles_the_time_up_to_the_longest() -> None:
    async def test(breaker: Breaker, clock: Clock) -> None:
        await failed(breaker, 3)
        clock.now = 1.0
        for wait in (2.0, 4.0, 4.0):
            breaker.leave(await breaker.enter(), False)
            clock.now += wait - 0.01
            early = asyncio.create_task(breaker.enter())
            await settle()
            assert not early.done()
            early.cancel()
            clock.now += 0.01
        breaker.leave(await breaker.enter(), True)
        assert breaker.openings == 1, "it was the same outage all the time"
        await failed(breaker, 3)
        clock.now += 1.0
        assert await breaker.enter(), "the next outage begins anew"

    run(test)


def test_a_probe_that_tells_nothing_makes_room_for_another() -> None:
    async def test(breaker: Breaker, clock: Clock) -> None:
        await failed(breaker, 3)
        clock.now = 1.0
        assert await breaker.enter()
        other = asyncio.create_task(breaker.enter())
        await settle()
        assert not other.done()
        breaker.leave(True, None)
        assert await other
        assert not breaker.closed

    run(test)


def test_what_was_sent_before_it_opened_changes_little() -> None:
    """A late failure neither counts as a probe's nor prolongs the wait; a late success closes."""

    async def test(breaker: Breaker, clock: Clock) -> None:
        await failed(breaker, 3)
        breaker.leave(False, False)
        clock.now = 1.0
        assert await breaker.enter()
        breaker.leave(False, False)
        waiting = asyncio.create_task(breaker.enter())
        await settle()
        assert not waiting.done(), "the probe is still under way"
        breaker.leave(False, True)
        assert not await waiting
        assert breaker.closed

    run(test)


def test_time_passes_by_itself() -> None:
    async def main() -> None:
        breaker = Breaker(1, 0.02, 0.02)
        await failed(breaker)
        assert await asyncio.wait_for(breaker.enter(), 10)

    asyncio.run(main())


@pytest.mark.parametrize("healthy", [True, False, None])
def test_while_closed_everything_may_go(healthy: bool | None) -> None:
    async def test(breaker: Breaker, clock: Clock) -> None:
        assert not any([await breaker.enter() for _ in range(100)])
        breaker.leave(False, healthy)
        assert breaker.closed

    run(test)
