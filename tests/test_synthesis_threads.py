"""Calls in a thread of their own: results, errors, order, and no waiting for what hangs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from step_ray.synthesis.threads import CallThread


def test_results_and_errors_come_back() -> None:
    def fail() -> None:
        raise KeyError("x")

    async def calls() -> None:
        thread = CallThread("calls")
        assert await thread.call(lambda: 3) == 3
        with pytest.raises(KeyError, match="x"):
            await thread.call(fail)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await thread.call(lambda: next(iter(())))
        names = [await thread.call(lambda: threading.current_thread().name) for _ in range(3)]
        assert names == ["calls"] * 3
        thread.end()

    asyncio.run(calls())


def test_calls_are_made_in_order_and_the_last_one_last() -> None:
    done: list[object] = []
    over = threading.Event()

    def last() -> None:
        done.append("last")
        over.set()
        raise RuntimeError("nobody is interested")

    async def calls() -> None:
        thread = CallThread("calls")
        waits = [thread.call(lambda number=number: done.append(number)) for number in range(20)]
        await asyncio.gather(*waits)
        thread.end(last)

    asyncio.run(calls())
    assert over.wait(30)
    assert done == [*range(20), "last"]


def test_who_gives_up_waiting_does_not_stop_the_call() -> None:
    go, over = threading.Event(), threading.Event()
    done: list[str] = []

    def slow() -> None:
        go.wait(60)
        done.append("slow")

    async def calls() -> None:
        thread = CallThread("calls")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(thread.call(slow), 0.02)
        thread.end(over.set)

    asyncio.run(calls())
    assert done == []
    go.set()  # the loop is closed by now: the thread does not mind
    assert over.wait(30)
    assert done == ["slow"]


def test_the_interpreter_does_not_wait_for_a_hung_call() -> None:
    code = """
import asyncio, threading
from step_ray.synthesis.threads import CallThread

async def main():
    thread = CallThread("hung")
    try:
        await asyncio.wait_for(thread.call(threading.Event().wait), 0.02)
    except TimeoutError:
        thread.end()

asyncio.run(main())
print("over")
"""
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert said.stdout == "over\n"
