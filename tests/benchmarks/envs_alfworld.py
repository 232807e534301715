"""ALFWorld: our environment against alfworld 0.4.2.

A task is a game file, and the same file is played on all sides. The original plays it as
``textworld.start`` with alfworld's own wrappers does; ``StockMemoised`` is the fastest it gets with
our patches (``step_ray.envs.alfworld.stock``), which answer repeated parses from memory.
"""

from __future__ import annotations

import importlib.metadata
import random
from pathlib import Path
from typing import Any

from compare import Work, compare, environments, in_rounds, walk
from measure import rounded
from sides import Side
from sizes import Sizes

from step_ray.envs.alfworld.engine import Game, State
from step_ray.envs.alfworld.env import ENGINES, ALFWorldEnv
from step_ray.envs.alfworld.stock import StockGame
from step_ray.envs.base import Task


class Ours:
    """The native engine behind its public face. Loading is measured without the cache."""

    lists = "asked"

    def load(self, path: str) -> ALFWorldEnv:
        Game.load(path)
        return ALFWorldEnv(Path(path).parents[3])

    def reset(self, env: ALFWorldEnv, path: str) -> None:
        trial = Path(path).parent
        name = f"{trial.parent.name}/{trial.name}"
        env.reset(Task(name, "alfworld", trial.parent.parent.name, ""))

    def step(self, env: ALFWorldEnv, action: str) -> tuple[str, bool]:
        answer = env.step(action)
        return answer.observation, answer.terminated

    def admissible(self, env: ALFWorldEnv) -> list[str]:
        return env.admissible()

    def fork(self, env: ALFWorldEnv) -> ALFWorldEnv:
        return env.fork()

    def close(self, env: ALFWorldEnv) -> None:
        env.close()

    def versions(self) -> dict[str, str]:
        return {"engine": ENGINES["native"]}


class Engine:
    """Our engine alone, without what the environment keeps for the expert and the judge."""

    lists = "asked"

    def load(self, path: str) -> dict[str, Any]:
        return {"game": Game.load(path)}

    def reset(self, env: dict[str, Any], path: str) -> None:
        env["state"] = env["game"].initial()
        env["game"].reset_text()

    def step(self, env: dict[str, Any], action: str) -> tuple[str, bool]:
        text, _ = env["state"].step(action)
        return text, env["state"].won()

    def admissible(self, env: dict[str, Any]) -> list[str]:
        state: State = env["state"]
        return [] if state.won() else state.admissible()

    def fork(self, env: dict[str, Any]) -> State:
        state: State = env["state"]
        return state.fork()

    def close(self, env: dict[str, Any]) -> None:
        env.clear()

    def versions(self) -> dict[str, str]:
        return {"engine": ENGINES["native"]}


class Stock:
    """The original, as its users start it. Closed environments are left to the process's end:
    unloading their C++ libraries crashes it."""

    lists = "always"

    def __init__(self) -> None:
        import textworld
        from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredInfos

        self._start = textworld.start
        self._wanted = textworld.EnvInfos(won=True, admissible_commands=True, extras=["gamefile"])
        self._wrappers = AlfredDemangler, AlfredInfos

    def load(self, path: str) -> dict[str, Any]:
        demangler, infos = self._wrappers
        return {"env": self._start(path, self._wanted, [demangler(), infos])}

    def reset(self, env: dict[str, Any], path: str) -> None:
        env["env"].reset()

    def step(self, env: dict[str, Any], action: str) -> tuple[str, bool]:
        state, _, _ = env["env"].step(action)
        env["admissible"] = [] if state["won"] else list(state["admissible_commands"])
        return state.feedback, bool(state["won"])

    def admissible(self, env: dict[str, Any]) -> list[str]:
        return list(env["admissible"])

    def close(self, env: dict[str, Any]) -> None:
        pass

    def versions(self) -> dict[str, str]:
        names = ("alfworld", "textworld", "fast-downward-textworld")
        return {name: importlib.metadata.version(name) for name in names}


class StockMemoised(Stock):
    """The original with our memory for its parses."""

    def load(self, path: str) -> dict[str, Any]:
        return {"env": StockGame(path)}

    def step(self, env: dict[str, Any], action: str) -> tuple[str, bool]:
        text, won, admissible = env["env"].step(action)
        env["admissible"] = [] if won else admissible
        return text, won


def measure(sizes: Sizes, data: Path | None) -> dict[str, Any]:
    """All of ALFWorld's figures; ``data``: an official json_2.1.1 folder, None for generated."""
    env = ALFWorldEnv(data, games={"valid_seen": 140})
    tasks = list(env.tasks("valid_seen"))
    random.Random(0).shuffle(tasks)
    tasks = tasks[: max(*sizes.alfworld_counts, (sizes.rounds + 1) * sizes.alfworld_games)]
    choose = random.Random(1)
    works = [
        Work(
            str(env._games.path(task)),
            walk(
                env,
                task,
                sizes.steps,
                lambda env: (
                    choose.choice(env.admissible())
                    if choose.random() < 0.5
                    else env.expert().action
                ),
            ),
        )
        for task in tasks
    ]
    with (
        Side("envs_alfworld:Ours") as ours,
        Side("envs_alfworld:Engine") as engine,
        Side("envs_alfworld:Stock") as stock,
        Side("envs_alfworld:StockMemoised") as memoised,
    ):
        sides = {"ours": ours, "engine": engine, "stock": stock, "stock_memoised": memoised}
        rounds = in_rounds(works, sizes.rounds + 1, sizes.alfworld_games)
        rows = compare(sides, rounds, {"ours": 100, "engine": 100}, alike=sides)
        rows["fork"] = {}
        for name in ("ours", "engine"):
            sides[name].load([works[0].task])
            sides[name].play([works[0].actions], admissible=False)
            rows["fork"][name] = sides[name].fork(20_000).each("us")
        versions = {name: side.versions() for name, side in sides.items()}
    rows["environments"] = environments(
        {
            "ours": lambda: Side("envs_alfworld:Ours"),
            "stock": lambda: Side("envs_alfworld:Stock"),
        },
        works,
        sizes.alfworld_counts,
        {"ours": (sizes.steps, 20), "stock": (3, 1)},
    )
    with_list, alone = rows["step_and_actions"], rows["step"]
    return {
        "alfworld_step_ratio": with_list["ratio"]["stock"],
        "alfworld_step_ratio_memoised": with_list["ratio"]["stock_memoised"],
        "alfworld_engine_step_ratio": rounded(
            with_list["stock"]["cpu_ms"] / with_list["engine"]["cpu_ms"]
        ),
        "alfworld_load_ratio": rows["load"]["ratio"]["stock"],
        "alfworld_fork_us": rows["fork"]["ours"]["cpu_us"],
        "alfworld_steps_per_s": rounded(1e3 / alone["ours"]["cpu_ms"]),
        "alfworld_steps_and_actions_per_s": rounded(1e3 / with_list["ours"]["cpu_ms"]),
        "alfworld": {
            "games": "generated by step-ray" if data is None else "official json_2.1.1",
            "versions": versions,
            **rows,
        },
    }
