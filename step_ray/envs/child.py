"""The child's side of an environment in a process of its own: ``python -m step_ray.envs.child``.

It reads calls from standard input and answers on standard output, see ``step_ray.envs.wire``.
What the engine prints goes to standard error. The kernel kills the process, with all that it has
started, when its parent is gone, whatever hangs in here: the parent holds the other end of the
pipe named on the command line.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import signal
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

from step_ray.envs import make_env
from step_ray.envs.base import EnvError, Task, TextEnv
from step_ray.envs.wire import decode, encode


def serve(calls: BinaryIO, answers: BinaryIO) -> None:
    """Makes the environment that the first message describes, and answers calls to their end."""
    envs: dict[int, TextEnv] = {}  # 0: the environment, others: its forks
    for line in calls:
        message = decode(line)
        try:
            answer = {"value": _answer(message, envs)}
        except EnvError as error:
            answer = {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - engines are others' code and raise anything
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(encode(answer))
        answers.flush()
        if message["method"] == "close" and message["env"] == 0:
            return


def _answer(message: Mapping[str, Any], envs: dict[int, TextEnv]) -> Any:
    method, number, arguments = message["method"], message["env"], message["arguments"]
    if method == "make":
        name, options = arguments
        envs[0] = make_env(name, **options)
        return envs[0].name
    env = envs[number]
    if method == "fork":
        envs[message["fork"]] = env.fork()
        return message["fork"]
    if method == "reset":
        task, seed = arguments
        return env.reset(Task(**task), seed)
    if method == "tasks":
        return list(env.tasks(*arguments))
    if method == "close" and number:
        del envs[number]
    return getattr(env, method)(*arguments)


def _end_with_parent(lifeline: int) -> None:
    """Has the kernel kill this process group when the other end of the pipe is closed."""
    if hasattr(fcntl, "F_SETSIG"):  # Linux; elsewhere SIGIO comes, which ends a process too
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        if os.read(lifeline, 1) == b"":  # it was closed before
            sys.exit(1)


def main() -> None:
    """What the module does as a program."""
    _end_with_parent(int(sys.argv[1]))
    faulthandler.enable()
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    serve(calls, answers)


if __name__ == "__main__":
    main()
