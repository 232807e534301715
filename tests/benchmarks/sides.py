"""One side of a comparison: an engine in a process of its own, told what to do line by line.

``python sides.py MODULE:CLASS`` serves the engine; :class:`Side` starts that and asks. A process
per side keeps memory and CPU time apart, and lets an original run on an interpreter with other
packages. Only the standard library is imported here, for such an interpreter has nothing of ours.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, Protocol

from measure import Cost, rss_mb


class Engine(Protocol):
    """What a side plays. ``lists``: when the admissible actions are worked out."""

    lists: Literal["asked", "always", "never"]

    def __init__(self, **options: Any) -> None:
        """Everything that environments share is ready afterwards."""

    def load(self, task: Any) -> Any:
        """An environment for a task that this process has not seen."""

    def reset(self, env: Any, task: Any) -> None:
        """The task's first observation, perhaps not for the first time."""

    def step(self, env: Any, action: str) -> Sequence[Any]:
        """What an agent is told: the observation first, then what else is compared."""

    def admissible(self, env: Any) -> Sequence[str]:
        """The actions that are possible now."""

    def fork(self, env: Any) -> Any:
        """An independent copy; only asked of our own engines."""

    def close(self, env: Any) -> None:
        """Ends the use of an environment."""

    def versions(self) -> dict[str, str]:
        """What is being measured."""


class Side:
    """A running engine. Close it, or use it as a context."""

    def __init__(
        self,
        engine: str,
        options: Mapping[str, Any] | None = None,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name = engine
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, __file__, engine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        self.start = Cost(**self._ask("start", options=dict(options or {})))
        """What imports and the start of the engine took."""
        self.lists: str = self._ask("lists")

    def load(self, tasks: Sequence[Any]) -> Cost:
        """Makes one more environment for each task."""
        return Cost(**self._ask("load", tasks=tasks))

    def retask(self, tasks: Sequence[Any]) -> None:
        """Gives the environments that there are other tasks for their next episodes."""
        self._ask("retask", tasks=tasks)

    def reset(self, repeat: int = 1) -> Cost:
        """Starts an episode in every environment; only the last of the repetitions is kept."""
        return Cost(**self._ask("reset", repeat=repeat))

    def play(
        self,
        actions: Sequence[Sequence[str]],
        admissible: bool,
        repeat: int = 1,
        uncounted: int = 0,
    ) -> tuple[Cost, list[Any]]:
        """Plays a list of actions in every environment, one step in each in turn.

        Every repetition starts with a reset, which is not counted, nor are the first ``uncounted``
        steps of each environment. Returns the answers of the last one. ``admissible``: asks for
        the list of actions after every step too.
        """
        answer = self._ask(
            "play", actions=actions, admissible=admissible, repeat=repeat, uncounted=uncounted
        )
        return Cost(**answer["cost"]), answer["answers"]

    def fork(self, count: int) -> Cost:
        """Copies of the first environment's present state."""
        return Cost(**self._ask("fork", count=count))

    def call(self, name: str, **arguments: Any) -> Any:
        """A method of this engine alone; what it returns must be JSON."""
        return self._ask("call", name=name, arguments=arguments)

    def clear(self) -> None:
        """Closes all environments."""
        self._ask("clear")

    def rss_mb(self) -> float:
        """Memory of the process and its children."""
        return float(self._ask("rss"))

    def versions(self) -> dict[str, str]:
        """What is being measured."""
        return dict(self._ask("versions"))

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def __enter__(self) -> Side:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, question: str, **arguments: Any) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps([question, arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._process.wait(20)  # it writes its last words
            self._errors.seek(0)
            raise RuntimeError(f"{self._name} failed:\n{self._errors.read()[-3000:]}")
        return json.loads(answer)


class _Server:
    def __init__(self, engine: str) -> None:
        self._name = engine
        self._engine: Any = None
        self._envs: list[tuple[Any, Any]] = []

    def start(self, options: dict[str, Any]) -> Any:
        cost = Cost()
        with cost.adding():
            module, _, name = self._name.partition(":")
            self._engine = getattr(importlib.import_module(module), name)(**options)
        return asdict(cost)

    def lists(self) -> str:
        return str(self._engine.lists)

    def load(self, tasks: list[Any]) -> Any:
        cost = Cost()
        with cost.adding(len(tasks)):
            self._envs += [(self._engine.load(task), task) for task in tasks]
        return asdict(cost)

    def retask(self, tasks: list[Any]) -> None:
        self._envs = [(env, task) for (env, _), task in zip(self._envs, tasks, strict=True)]

    def reset(self, repeat: int) -> Any:
        cost = Cost()
        with cost.adding(repeat * len(self._envs)):
            for _ in range(repeat):
                for env, task in self._envs:
                    self._engine.reset(env, task)
        return asdict(cost)

    def play(self, actions: list[list[str]], admissible: bool, repeat: int, uncounted: int) -> Any:
        step, listed = self._engine.step, self._engine.admissible
        turns = [
            [
                (i, self._envs[i][0], each[turn])
                for i, each in enumerate(actions)
                if turn < len(each)
            ]
            for turn in range(max(map(len, actions)))
        ]
        parts = [[each for turn in turns[:uncounted] for each in turn]]
        parts.append([each for turn in turns[uncounted:] for each in turn])
        costs = [Cost(), Cost()]
        for _ in range(repeat):
            self.reset(1)
            answers: list[list[Any]] = [[] for _ in actions]
            for part, cost in zip(parts, costs):  # noqa: B905
                with cost.adding(len(part)):
                    if admissible:
                        for i, env, action in part:
                            answers[i].append((step(env, action), listed(env)))
                    else:
                        for i, env, action in part:
                            answers[i].append((step(env, action),))
        return {"cost": asdict(costs[1]), "answers": answers}

    def fork(self, count: int) -> Any:
        env, cost = self._envs[0][0], Cost()
        with cost.adding(count):
            for _ in range(count):
                self._engine.fork(env)
        return asdict(cost)

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        return getattr(self._engine, name)(**arguments)

    def clear(self) -> None:
        for env, _ in self._envs:
            self._engine.close(env)
        self._envs = []

    def rss(self) -> float:
        return rss_mb()

    def versions(self) -> Any:
        return self._engine.versions()


def serve(engine: str) -> None:
    """Answers the questions on standard input until it ends."""
    server = _Server(engine)
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # whatever an engine prints goes with the errors
        for line in sys.stdin:
            question, arguments = json.loads(line)
            answers.write(json.dumps(getattr(server, question)(**arguments)) + "\n")
            answers.flush()
    sys.stderr.flush()
    server.clear()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    serve(sys.argv[1])
