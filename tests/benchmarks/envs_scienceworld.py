"""ScienceWorld: our environment against the package ``scienceworld``, one Java process each.

Both run the same simulator, the same Java and the same tasks with ETO's simplifications. The
original runs as it comes but for ``-XX:hashCode=2``, without which its own texts differ from one
process to the next and nothing could be compared; its speed is the same.

At every step the package lists all valid actions, and the simulator draws random numbers for that,
as it does for bees and genes: so the original's texts differ from ours where chance has a part,
which is counted. ``Bare`` is the package's simulator without that: its texts must be ours.
"""

from __future__ import annotations

import importlib.metadata
import random
import subprocess
from typing import Any

from compare import OURS, Work, compare, environments, in_rounds, walk
from measure import rounded
from sides import Side
from sizes import Sizes

from step_ray.envs.base import Task
from step_ray.envs.scienceworld import tasks as tables
from step_ray.envs.scienceworld.env import ScienceWorldEnv
from step_ray.envs.scienceworld.jvm import find_java

# Of all kinds, but those whose gold path takes the engine long to work out.
_TASKS = (
    "find-plant",
    "use-thermometer",
    "power-component",
    "chemistry-mix-paint-secondary-color",
    "melt",
    "test-conductivity",
    "find-animal",
    "lifespan-longest-lived",
)
_SAME_TEXTS = {"JDK_JAVA_OPTIONS": "-XX:+UnlockExperimentalVMOptions -XX:hashCode=2"}
_RANDOM_SHARE = 0.3


class Ours:
    """Simulators in shared Java processes, behind the public face."""

    lists = "asked"

    def load(self, task: str) -> ScienceWorldEnv:
        env = ScienceWorldEnv()
        self.reset(env, task)
        return env

    def reset(self, env: ScienceWorldEnv, task: str) -> None:
        env.reset(_task(task))

    def step(self, env: ScienceWorldEnv, action: str) -> tuple[str, float, bool]:
        answer = env.step(action)
        return answer.observation, answer.reward, answer.terminated

    def admissible(self, env: ScienceWorldEnv) -> list[str]:
        return env.admissible()

    def fork(self, env: ScienceWorldEnv) -> None:
        env.fork().close()

    def close(self, env: ScienceWorldEnv) -> None:
        env.close()

    def versions(self) -> dict[str, str]:
        return {"simulator": importlib.metadata.version("scienceworld"), "java": _java()}


class Stock:
    """The package's own environment."""

    lists = "always"

    def __init__(self) -> None:
        import scienceworld

        self._make = scienceworld.ScienceWorldEnv

    def load(self, task: str) -> dict[str, Any]:
        env = {"env": self._make("", envStepLimit=1000)}
        self.reset(env, task)
        return env

    def reset(self, env: dict[str, Any], task: str) -> None:
        name, variation = tables.parse_id(_task(task))
        env["env"].load(name, variation, tables.simplifications_for(name, "eto"))
        env["env"].reset()

    def step(self, env: dict[str, Any], action: str) -> tuple[str, float, bool]:
        text, _, done, info = env["env"].step(action)
        env["valid"] = [] if done else sorted(set(info["valid"]))
        return text, max(info["score"], 0) / 100, done

    def admissible(self, env: dict[str, Any]) -> list[str]:
        return list(env["valid"])

    def close(self, env: dict[str, Any]) -> None:
        env["env"].close()

    def versions(self) -> dict[str, str]:
        return {"scienceworld": importlib.metadata.version("scienceworld"), "java": _java()}


class Bare(Stock):
    """The package's simulator by its own connection, without the rest of the package's step."""

    lists = "never"

    def reset(self, env: dict[str, Any], task: str) -> None:
        name, variation = tables.parse_id(_task(task))
        env["env"].load(name, variation, tables.simplifications_for(name, "eto"))
        env["env"].server.step("look around")

    def step(self, env: dict[str, Any], action: str) -> tuple[str, float, bool]:
        simulator = env["env"].server
        text = simulator.step(action)
        score = round(100 * simulator.getScore())
        return text, max(score, 0) / 100, simulator.getCompleted() or score < 0


def measure(sizes: Sizes) -> dict[str, Any]:
    """All of ScienceWorld's figures."""
    count = max(*sizes.scienceworld_counts, (sizes.rounds + 1) * sizes.scienceworld_games)
    works = _walks(count, sizes.scienceworld_steps)
    rounds = in_rounds(works, sizes.rounds + 1, sizes.scienceworld_games)

    def ours() -> Side:
        return Side("envs_scienceworld:Ours")

    def stock() -> Side:
        return Side("envs_scienceworld:Stock", environment=_SAME_TEXTS)

    def bare() -> Side:
        return Side("envs_scienceworld:Bare", environment=_SAME_TEXTS)

    with ours() as our_side, stock() as stock_side, bare() as bare_side:
        sides = {OURS: our_side, "stock": stock_side, "stock_bare": bare_side}
        rows = compare(sides, rounds, {}, alike=("stock_bare",), keep=True)
        rows["fork"] = {OURS: our_side.fork(3).each()}
        versions = {name: side.versions() for name, side in sides.items()}
    rows["environments"] = by_count = environments(
        {OURS: ours, "stock": stock},
        works,
        sizes.scienceworld_counts,
        dict.fromkeys((OURS, "stock"), (sizes.scienceworld_steps // 2, 1)),
    )
    most = str(max(sizes.scienceworld_counts))
    return {
        "scienceworld_step_ratio": rows["step"]["ratio"]["stock"],
        "scienceworld_step_and_actions_ratio": rows["step_and_actions"]["ratio"]["stock"],
        "scienceworld_mb_per_env": by_count[most][OURS]["mb_per_further_env"],
        "scienceworld_mb_per_env_stock": by_count[most]["stock"]["mb_per_further_env"],
        "scienceworld_steps_per_s": rounded(1e3 / rows["step"][OURS]["cpu_ms"]),
        "scienceworld": {"versions": versions, **rows},
    }


def _task(name: str) -> Task:
    return Task(name, "scienceworld", "valid_unseen", "")


def _walks(count: int, steps: int) -> list[Work]:
    """The engine's gold path, with other valid actions in between; a wrong focus would end it."""
    choose = random.Random(0)
    env = ScienceWorldEnv()
    works = []
    for number in range(count):
        name = _TASKS[number % len(_TASKS)]
        task = f"{name}_{tables.variations(name, 'valid_unseen')[number // len(_TASKS)]}"
        gold = _gold(env, task)

        def act(env: ScienceWorldEnv, gold: list[str] = gold) -> str:
            if gold and choose.random() > _RANDOM_SHARE:
                return gold.pop(0)
            return choose.choice([a for a in env.admissible() if not a.startswith("focus")])

        works.append(Work(task, walk(env, _task(task), steps, act)))
    env.close()
    return works


def _gold(env: ScienceWorldEnv, task: str) -> list[str]:
    name, variation = tables.parse_id(_task(task))
    simplifications = tables.simplifications_for(name, "eto")
    env.simulator.load(name, variation, simplifications, gold=True)
    return env.simulator.gold_path()


def _java() -> str:
    said = subprocess.run([find_java(), "-version"], capture_output=True, text=True, check=True)
    return next(line for line in said.stderr.splitlines() if " version " in line)
