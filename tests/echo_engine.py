"""Engines for tests of the benchmarks; imports little, for every test starts processes of it."""

from __future__ import annotations

from typing import Any


class Echo:
    """Tells task, action and the number of the step; prints, as engines do."""

    lists = "asked"

    def __init__(self, wrong: str = "") -> None:
        self._wrong = wrong

    def load(self, task: str) -> dict[str, Any]:
        print("loading", task)
        if task == "missing":
            raise KeyError(task)
        return {}

    def reset(self, env: dict[str, Any], task: str) -> None:
        env.update(task=task, steps=0)

    def step(self, env: dict[str, Any], action: str) -> tuple[str, bool]:
        env["steps"] += 1
        return f"{env['task']} {env['steps']} {action}", action == self._wrong

    def admissible(self, env: dict[str, Any]) -> list[str]:
        return [env["task"]]

    def close(self, env: dict[str, Any]) -> None:
        env.clear()


class Silent(Echo):
    """Never lists actions."""

    lists = "never"
