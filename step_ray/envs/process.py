"""An environment in a process of its own, for engines that can hang, crash or leak.

A call that hangs is ended by :meth:`ProcessEnv.kill`, from any thread; what dies takes nobody
along. A call costs about 0.1 ms more than one in the same process, a new process a second.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from step_ray.envs import wire
from step_ray.envs.base import (
    Build,
    EnvError,
    EnvTimeout,
    Judgement,
    Observation,
    StepResult,
    Task,
)
from step_ray.trajectory import Turn

_LOOK_EVERY = 0.2  # seconds between two looks at the memory of a process that works
_PAGE = os.sysconf("SC_PAGE_SIZE")


class _Child:
    """The process, and the pipes to it. One call at a time."""

    def __init__(self, limit_mb: float) -> None:
        self.limit_mb = limit_mb
        self._lock = threading.Lock()
        self._rest = b""
        self._looked = 0.0
        self._ended = False
        child_end, self._lifeline = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "step_ray.envs.child", str(child_end)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                pass_fds=[child_end],
                process_group=0,  # killed with all that it starts; not interrupted by a keyboard
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        finally:
            os.close(child_end)

    def call(self, message: Mapping[str, Any], seconds: float | None) -> Any:
        """The answer to a call. Raises EnvTimeout after ``seconds``, EnvError if the process is
        dead, dies of the call or takes twice the memory that it may; then it is killed."""
        with self._lock:
            try:
                self._write(wire.encode(message))
                answer = wire.decode(self._read(seconds))
            except EnvError:
                self.kill()
                raise
        if "error" in answer:
            raise EnvError(answer["error"])
        return wire.result(_returns(message["method"]), answer["value"])

    def memory_mb(self) -> float:
        """Resident memory in MB (10^6 bytes); 0 where it cannot be told."""
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        except (OSError, IndexError):
            return 0.0
        return int(pages) * _PAGE / 1e6

    @property
    def alive(self) -> bool:
        """Whether the process runs. It is not reaped here: its number stays its own."""
        return not self._ended and _exit(self.process.pid, os.WNOHANG) is None

    def kill(self) -> None:
        """Ends the process and all that it started, at once; from any thread."""
        if not self._ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def end(self, grace: float = 0.0) -> None:
        """Leaves nothing of the process; kills what still runs after ``grace`` seconds."""
        with self._lock:
            if self._ended:
                return
            assert self.process.stdout is not None
            select.select([self.process.stdout], [], [], grace)  # its end closes its output
            self.kill()
            _exit(self.process.pid)
            self._ended = True
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                assert pipe is not None
                with contextlib.suppress(OSError):
                    pipe.close()
            os.close(self._lifeline)

    def _write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        try:
            while line:
                line = line[self.process.stdin.write(line) :]
        except (OSError, ValueError) as error:
            raise EnvError(self._death()) from error

    def _read(self, seconds: float | None) -> bytes:
        assert self.process.stdout is not None
        file = self.process.stdout.fileno()
        until = None if seconds is None else time.monotonic() + seconds
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            if select.select([file], [], [], _LOOK_EVERY)[0]:
                part = os.read(file, 1 << 16)
                if not part:
                    raise EnvError(self._death())
                parts.append(part)
            elif until is not None and time.monotonic() > until:
                raise EnvTimeout(f"the environment's process did not answer in {seconds:g} s")
            self._look()
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    def _look(self) -> None:
        """Now and then, at the memory."""
        now = time.monotonic()
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = now
        if (used := self.memory_mb()) > 2 * self.limit_mb:
            raise EnvError(
                f"the environment took {used:.0f} MB in the middle of an episode, over twice "
                f"the {self.limit_mb:.0f} MB of env.memory_mb; it was killed"
            )

    def _death(self) -> str:
        if self._ended:
            return "this environment is closed; make a new one"
        self.kill()  # changes nothing about how it died
        return f"the environment's process died ({_exit(self.process.pid)})"


def _exit(pid: int, options: int = 0) -> str | None:
    """How a child process ended, which is not reaped; waits for it unless WNOHANG says not to."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | options)
    if ended is None:
        return None
    if ended.si_code == os.CLD_EXITED:
        return f"exit status {ended.si_status}"
    return signal.Signals(ended.si_status).name


class ProcessEnv:
    """A :class:`~step_ray.envs.base.TextEnv` whose engine runs in a child process.

    ``name`` and ``options`` (JSON-like) are what ``make_env`` takes. ``memory_mb``: resident
    memory (in 10^6 bytes) from which it should not begin another episode, see :attr:`worn`; at
    twice that a call is ended. ``start``: seconds that making it may take; ``seconds``: those that
    a call may but ``tasks``, None for a caller with deadlines of its own, who calls :meth:`kill`;
    ``patience``: those that closing it may.

    Raises EnvError where ``make_env`` does, and when the process does not start.
    """

    inline = False

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        *,
        memory_mb: float = 2048.0,
        start: float = 60.0,
        seconds: float | None = None,
        patience: float = 10.0,
    ) -> None:
        self._seconds, self._patience = seconds, patience
        self._child = _Child(memory_mb)
        self._number, self._forks = 0, [0]
        try:
            self.name: str = self._child.call(_message(0, "make", name, dict(options)), start)
        except BaseException:
            self._child.end()
            raise

    @property
    def pid(self) -> int:
        """The process that may be killed."""
        return self._child.process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive

    @property
    def worn(self) -> bool:
        """Whether it takes more memory than it may."""
        return self._child.memory_mb() > self._child.limit_mb

    def tasks(self, split: str) -> Sequence[Task]:
        # No deadline: some environments make their data when they are asked for the first time.
        found: Sequence[Task] = self._child.call(_message(self._number, "tasks", split), None)
        return found

    def reset(self, task: Task, seed: int = 0) -> Observation:
        first: Observation = self._ask("reset", asdict(task), seed)
        return first

    def step(self, action: str) -> StepResult:
        answer: StepResult = self._ask("step", action)
        return answer

    def admissible(self) -> list[str]:
        actions: list[str] = self._ask("admissible")
        return actions

    def expert(self) -> Turn | None:
        turn: Turn | None = self._ask("expert")
        return turn

    def judge(self, action: str) -> Judgement:
        judgement: Judgement = self._ask("judge", action)
        return judgement

    def build(self) -> Build:
        build: Build = self._ask("build")
        return build

    def fork(self) -> ProcessEnv:
        """A copy in the same process: it dies with the original."""
        self._forks[0] += 1
        message = {**_message(self._number, "fork"), "fork": self._forks[0]}
        child = object.__new__(ProcessEnv)
        child.__dict__.update(self.__dict__)
        child._number = self._child.call(message, self._seconds)
        return child

    def kill(self) -> None:
        """Ends the process at once, also while another thread waits for it; then ``close``."""
        self._child.kill()

    def close(self) -> None:
        """Gently, after ``patience`` by force. A fork is only forgotten."""
        with contextlib.suppress(EnvError):
            self._child.call(_message(self._number, "close"), self._patience)
        if not self._number:
            self._child.end(grace=1.0)

    def _ask(self, method: str, *arguments: Any) -> Any:
        return self._child.call(_message(self._number, method, *arguments), self._seconds)


def _message(number: int, method: str, *arguments: Any) -> dict[str, Any]:
    return {"env": number, "method": method, "arguments": arguments}


def _returns(method: str) -> str:
    return "name" if method == "make" else method
