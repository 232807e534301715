"""An environment in a process of its own is the same one, and dies alone."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles import Corridor
from rough_env import NAME

from step_ray.envs.base import EnvError, EnvTimeout, Judgement
from step_ray.envs.contract import check_contract
from step_ray.envs.process import ProcessEnv

pytestmark = pytest.mark.timeout(300)

TASK = Corridor().tasks("train")[0]


@pytest.fixture
def make() -> Iterator[Callable[..., ProcessEnv]]:
    made: list[ProcessEnv] = []

    def one(name: str = NAME, options: dict[str, Any] | None = None, **limits: Any) -> ProcessEnv:
        made.append(ProcessEnv(name, options or {}, **limits))
        return made[-1]

    yield one
    for env in made:
        env.kill()
        env.close()


def gone(pid: int) -> bool:
    """Whether a process has ended, within a minute; also one that nobody has reaped."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)  # a poll
    return False


def test_the_contract_holds_across_the_pipe() -> None:
    check_contract(lambda: ProcessEnv("fourth_env:Crafting", {"spare": 1}), tasks=2, steps=6)


def test_calls_return_what_they_return_in_this_process(make: Callable[..., ProcessEnv]) -> None:
    here, there = Corridor(), make()
    assert (there.name, there.tasks("train")) == (here.name, here.tasks("train"))
    assert there.reset(TASK, 3) == here.reset(TASK, 3)
    for action in ("right", "left", "\ud800\n", "right"):
        assert there.judge(action) == here.judge(action)
        assert isinstance(there.judge(action), Judgement)
        assert there.step(action) == here.step(action)
        assert there.expert() == here.expert()
        assert there.admissible() == here.admissible()
    assert there.build() == here.build()


def test_a_fork_lives_on_its_own_in_the_same_process(make: Callable[..., ProcessEnv]) -> None:
    env = make()
    env.reset(TASK)
    child = env.fork()
    grandchild = child.fork()
    assert child.pid == env.pid
    assert child.step("right").observation == "You are in room 1."
    assert env.step("left").valid is False
    assert grandchild.step("right").observation == "You are in room 1."
    child.close()
    grandchild.close()
    assert env.step("right").valid


def test_an_engine_that_raises_or_prints_is_heard(make: Callable[..., ProcessEnv]) -> None:
    env = make()
    with pytest.raises(EnvError, match="unknown split"):
        env.tasks("test")
    env.reset(TASK)
    with pytest.raises(EnvError, match="LookupError: the engine lost its way"):
        env.step("fail")
    assert env.step("shout").observation == str(env.pid)
    assert env.step("right").observation == "You are in room 1."


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(EnvError, match="unknown environment 'nowhere'"):
        ProcessEnv("nowhere", {})
    with pytest.raises(EnvError, match=r"died .*SIGSEGV"):
        ProcessEnv(NAME, {"woes": {"make": "crash"}})
    with pytest.raises(EnvTimeout, match=r"in 0\.5 s"):
        ProcessEnv(NAME, {"woes": {"make": "hang"}}, start=0.5)


def test_a_native_crash_is_an_error_of_this_environment(make: Callable[..., ProcessEnv]) -> None:
    env, neighbour = make(), make()
    env.reset(TASK)
    neighbour.reset(TASK)
    with pytest.raises(EnvError, match=r"died \(SIGSEGV\)"):
        env.step("crash")
    assert not env.alive
    with pytest.raises(EnvError, match="died"):
        env.reset(TASK)
    assert neighbour.step("right").valid


def test_a_hang_is_ended_by_a_deadline_or_by_another_thread(
    make: Callable[..., ProcessEnv],
) -> None:
    hasty = make(seconds=1.0)
    hasty.reset(TASK)
    with pytest.raises(EnvTimeout):
        hasty.step("hang")
    assert gone(hasty.pid)

    env = make()
    env.reset(TASK)
    told: list[str] = []

    def ask() -> None:
        try:
            env.step("hang")
        except EnvError as error:
            told.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    env.kill()
    thread.join(60)
    assert told == ["the environment's process died (SIGKILL)"]


def test_closing_ends_what_hangs_and_what_it_started(make: Callable[..., ProcessEnv]) -> None:
    env = make(options={"woes": {"close": "hang"}}, patience=0.5)
    env.reset(TASK)
    born = int(env.step("give_birth").observation)
    env.close()
    env.close()
    assert gone(born)
    assert not env.alive
    with pytest.raises(EnvError, match="closed"):
        env.reset(TASK)


def test_memory_wears_it_out_and_twice_as_much_ends_it(make: Callable[..., ProcessEnv]) -> None:
    env = make(memory_mb=150.0)
    env.reset(TASK)
    assert not env.worn
    env.step("leak")
    assert env.worn
    with pytest.raises(EnvError, match=r"twice the 150 MB of env\.memory_mb"):
        _leak_on(env)
    assert gone(env.pid)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_the_kernel_ends_it_with_its_parent_even_while_it_hangs(end: signal.Signals) -> None:
    code = f"""
import sys, threading
from doubles import Corridor
from step_ray.envs.process import ProcessEnv
env = ProcessEnv({NAME!r}, {{}})
env.reset(Corridor().tasks("train")[0])
born = env.step("give_birth").observation
print(env.pid, born, flush=True)
env.step("hang")
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2
    try:
        parent.send_signal(end)
        parent.wait(60)
        assert all(gone(pid) for pid in pids)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        parent.stdout.close()


def _leak_on(env: ProcessEnv) -> None:
    for _ in range(50):
        env.step("leak")
