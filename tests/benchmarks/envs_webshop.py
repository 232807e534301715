"""WebShop: our environment against the original, on the same catalogue, prices and goals.

A task is the index of a synthetic goal. The original needs an interpreter of its own and is
optional (see ``envs_webshop_original`` and ``envs``). The large catalogue is the given one again
and again with new codes: the worst case for a search, whose words are all frequent then.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from compare import OURS, Work, compare, environments, in_rounds, walk
from measure import Cost, rounded, timed
from sides import Side
from sizes import Sizes

from step_ray.envs.base import Task
from step_ray.envs.webshop.env import ENGINE, WebShopEnv
from step_ray.envs.webshop.files import CatalogueFiles
from step_ray.envs.webshop.generate import generate_catalogue

_QUERIES = 200


class Ours:
    """One shop, as many environments as wanted around it."""

    lists = "asked"

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._first = WebShopEnv(**options)

    def load(self, goal: int) -> WebShopEnv:
        env = WebShopEnv(**self._options)
        env.reset(_task(goal))
        return env

    def reset(self, env: WebShopEnv, goal: int) -> None:
        env.reset(_task(goal))

    def step(self, env: WebShopEnv, action: str) -> tuple[str, float, bool]:
        answer = env.step(action)
        return answer.observation, answer.reward, answer.terminated

    def admissible(self, env: WebShopEnv) -> list[str]:
        return env.session.clickables  # what the original lists

    def fork(self, env: WebShopEnv) -> WebShopEnv:
        return env.fork()

    def close(self, env: WebShopEnv) -> None:
        env.close()

    def versions(self) -> dict[str, str]:
        shop = self._first.shop
        sizes = {"products": str(len(shop.catalogue)), "goals": str(len(shop.goals))}
        return {"engine": ENGINE, **sizes}

    def search(self, queries: list[str]) -> dict[str, Any]:
        """The asins that searches list, and the CPU seconds that each of them takes.

        As in a step: the products that are shown are looked up when the page is written.
        """
        shop = self._first.shop
        costs, found = timed([partial(shop.find, words.split(" ")) for words in queries])
        asins = [[shop.catalogue[place].asin for place in places] for places in found]
        return {"costs": costs, "asins": asins}


@dataclass(frozen=True)
class Original:
    """Where the original is: its checkout, an interpreter for it, and a folder for its index."""

    checkout: Path
    python: Path
    index: Path

    def side(self, data: Path) -> Callable[[], Side]:
        """Starts it on a catalogue, whose Lucene index is made first if it is not there."""
        names = {"checkout": self.checkout, "data": data, "index": self.index}
        options = {name: str(path.resolve()) for name, path in names.items()}
        script = Path(__file__).with_name("envs_webshop_original.py")
        subprocess.run([self.python, script, *options.values()], check=True, capture_output=True)
        return lambda: Side("envs_webshop_original:Original", options, str(self.python))


def measure(
    sizes: Sizes, data: Path | None, original: Original | None, scratch: Path
) -> dict[str, Any]:
    """All of WebShop's figures; ``data``: the folder of the three files, None for generated ones.

    ``scratch``: an empty folder for the large catalogue, a gigabyte per 200,000 products.
    """
    options = {} if data is None else {"data": str(data.resolve())}
    engines: dict[str, Callable[[], Side]] = {OURS: lambda: Side("envs_webshop:Ours", options)}
    if data is not None and original is not None:
        engines["stock"] = original.side(data)
    env = WebShopEnv(data)
    works = _walks(env, sizes)
    queries = _queries(env)
    starts = _starts(engines, sizes.webshop_starts)
    sides = {name: start() for name, start in engines.items()}
    try:
        rounds = in_rounds(works, sizes.rounds + 1, sizes.webshop_games)
        rows = compare(sides, rounds, {OURS: 20}, alike=sides)
        sides[OURS].load([works[0].task])
        sides[OURS].play([works[0].actions], admissible=False)
        rows["fork"] = {OURS: sides[OURS].fork(20_000).each("us")}
        rows["query"] = _compared_searches(sides, queries)
        versions = {name: side.versions() for name, side in sides.items()}
    finally:
        for side in sides.values():
            side.close()
    rows["environments"] = environments(
        engines, works, sizes.webshop_counts, {OURS: (sizes.steps, 5), "stock": (10, 1)}
    )
    large = _large(data, sizes.products, queries, scratch)
    ratio = rows["step"].get("ratio")
    return {
        **({"webshop_step_ratio": ratio["stock"]} if ratio else {}),
        "webshop_steps_per_s": rounded(1e3 / rows["step"][OURS]["cpu_ms"]),
        "webshop_start_s": starts[OURS]["cpu_s"],
        "webshop_fork_us": rows["fork"][OURS]["cpu_us"],
        "webshop_query_ms": rows["query"][OURS]["cpu_ms"],
        "webshop_large_products": sizes.products,
        "webshop_large_rss_mb": large["rss_mb"],
        "webshop_large_query_ms": large["query"]["median_cpu_ms"],
        "webshop": {
            "catalogue": "generated by step-ray" if data is None else "WebShop's 1,000 products",
            "versions": versions,
            "start": starts,
            **rows,
            "large": large,
        },
    }


def _task(goal: int) -> Task:
    return Task(f"synthetic-{goal}", "webshop", "test", "")


def _walks(env: WebShopEnv, sizes: Sizes) -> list[Work]:
    """Random visits: every kind of page, purchases, searches for the instruction."""
    choose = random.Random(1)
    count = max(*sizes.webshop_counts, (sizes.rounds + 1) * sizes.webshop_games)
    goals = random.Random(0).sample(range(len(env.tasks("test"))), count)
    return [
        Work(goal, walk(env, _task(goal), sizes.steps, lambda env: choose.choice(env.admissible())))
        for goal in goals
    ]


def _queries(env: WebShopEnv) -> list[str]:
    """The instructions of goals, the longest queries there are."""
    goals = env.shop.goals
    return [goals[i].instruction.lower() for i in range(min(_QUERIES, len(goals)))]


def _starts(engines: Mapping[str, Callable[[], Side]], times: int) -> dict[str, Any]:
    """From the engine's import to the first page, with a warm file cache: the median process."""
    taken: dict[str, list[Cost]] = {name: [] for name in engines}
    for name in list(engines) * times:
        with engines[name]() as side:
            side.load([0])
            taken[name].append(side.start)
    rows: dict[str, Any] = {
        name: sorted(costs, key=lambda cost: cost.cpu)[len(costs) // 2].each("s")
        for name, costs in taken.items()
    }
    if "stock" in rows:
        rows["ratio"] = {"stock": rounded(rows["stock"]["cpu_s"] / rows[OURS]["cpu_s"])}
    return rows


def _compared_searches(sides: Mapping[str, Side], queries: list[str]) -> dict[str, Any]:
    answers = {name: side.call("search", queries=queries) for name, side in sides.items()}
    for name, answer in answers.items():
        for words, mine, theirs in zip(
            queries, answers[OURS]["asins"], answer["asins"], strict=True
        ):
            if mine != theirs:
                raise SystemExit(f"{words!r}: ours finds {mine}, {name} finds {theirs}")
    return {name: _each_search(answer) for name, answer in answers.items()}


def _each_search(answer: Mapping[str, Any]) -> dict[str, float]:
    cpu = sorted(1e3 * seconds for seconds in answer["costs"])
    return {
        "cpu_ms": rounded(statistics.mean(cpu)),
        "median_cpu_ms": rounded(statistics.median(cpu)),
        "p90_cpu_ms": rounded(cpu[len(cpu) * 9 // 10]),
    }


def _large(data: Path | None, products: int, queries: list[str], scratch: Path) -> dict[str, Any]:
    """A catalogue of many products: built once, then opened and searched in another process."""
    folder = scratch / "large"
    folder.mkdir()
    _replicate(data, products, folder)
    options = {"data": str(folder)}
    cache = {"STEP_RAY_CACHE": str(scratch / "cache")}
    with Side("envs_webshop:Ours", options, environment=cache) as building:
        built = building.start
    with Side("envs_webshop:Ours", options, environment=cache) as shop:
        answer = shop.call("search", queries=queries)
        files = [path for path in (scratch / "cache").rglob("*") if path.is_file()]
        return {
            "products": products,
            "build": built.each("s"),
            "start": shop.start.each("s"),
            "query": _each_search(answer),
            "rss_mb": rounded(shop.rss_mb()),
            "stored_mb": rounded(sum(path.stat().st_size for path in files) / 1e6),
            "versions": shop.versions(),
        }


def _replicate(data: Path | None, products: int, folder: Path) -> None:
    """Writes the three files of a catalogue with the same products under new codes."""
    if data is None:
        items, ins, _ = generate_catalogue(1000, 0)
    else:
        items, ins, _ = CatalogueFiles.find(data).load()
    codes = (f"B{number:09d}" for number in itertools.count())
    again = list(itertools.islice(zip(itertools.cycle(items), codes), products))
    with (
        (folder / "items_shuffle.json").open("w", encoding="utf-8") as items_file,
        (folder / "items_ins_v2.json").open("w", encoding="utf-8") as ins_file,
    ):
        for place, (item, code) in enumerate(again):
            items_file.write(",\n" if place else "[")
            items_file.write(json.dumps({**item, "asin": code}))
            ins_file.write(",\n" if place else "{")
            ins_file.write(f"{json.dumps(code)}: {json.dumps(ins[item['asin']])}")
        items_file.write("]")
        ins_file.write("}")
    (folder / "items_human_ins.json").write_text(json.dumps({}), encoding="utf-8")
