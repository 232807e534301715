"""What the benchmarks measure with: processes for the sides, costs, comparisons."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"
sys.path.append(str(BENCHMARKS))

from compare import Work, compare, environments  # noqa: E402
from measure import Cost, rss_mb  # noqa: E402
from serving import Lockstep  # noqa: E402
from sides import Side  # noqa: E402

from step_ray.models.base import Reply, Sampling  # noqa: E402

BURN = "import time\nwhile time.process_time() < 0.3: pass"
WORKS = [Work(task, ["a", "b", "c"][:size]) for task, size in (("x", 3), ("y", 2), ("z", 1))]


def side(engine: str = "Echo", **options: str) -> Side:
    """An engine of ``echo_engine`` in a process of its own."""
    here = str(Path(__file__).parent)
    return Side(f"echo_engine:{engine}", options, environment={"PYTHONPATH": here})


def test_environments_take_turns_from_the_beginning() -> None:
    with side() as echo:
        echo.load(["x", "y"])
        actions = [["a", "b", "c"], ["d"]]
        cost, answers = echo.play(actions, admissible=True, repeat=3)
        assert cost.count == 12
        cost, again = echo.play(actions, admissible=True, repeat=3, uncounted=1)
        assert (cost.count, again) == (6, answers)
    assert answers == [
        [[["x 1 a", False], ["x"]], [["x 2 b", False], ["x"]], [["x 3 c", False], ["x"]]],
        [[["y 1 d", False], ["y"]]],
    ]


@pytest.mark.parametrize("keep", [False, True])
def test_what_sides_tell_is_compared(keep: bool) -> None:
    rounds = [WORKS, WORKS[::-1], WORKS]
    with side() as ours, side("Silent") as silent, side(wrong="c") as wrong:
        sides = {"ours": ours, "silent": silent, "wrong": wrong}
        table = compare(sides, rounds, {"ours": 4}, alike=["silent"], keep=keep)
        assert table["observations"] == {
            "played": 18,
            "same_as_ours": {"silent": 18, "wrong": 18},  # only the texts are counted
        }
        assert table["step"]["ratio"].keys() == {"silent", "wrong"}
        assert table["step_and_actions"]["ratio"].keys() == {"wrong"}
        assert len(table["load"]["ratio_by_round"]["wrong"]) == (1 if keep else 2)
    with side() as ours, side(wrong="c") as wrong, pytest.raises(SystemExit, match=r"'b', 'c'\]"):
        compare({"ours": ours, "wrong": wrong}, rounds, {}, alike=["wrong"], keep=keep)


def test_environments_are_added_up() -> None:
    rows = environments({"ours": side}, WORKS, (1, 3), {"ours": (2, 5)})
    assert rows.keys() == {"1", "3"}
    assert rows["3"]["ours"]["rss_mb"] > rows["3"]["ours"]["mb_per_env"] > 0


def test_an_engine_that_fails_says_why() -> None:
    with side() as echo, pytest.raises(RuntimeError, match="KeyError: 'missing'"):
        echo.load(["missing"])


def test_children_count() -> None:
    ended, running = Cost(), Cost()
    with ended.adding():
        subprocess.run([sys.executable, "-c", BURN], check=True)
    assert ended.cpu > 0.25
    command = [sys.executable, "-c", f"{BURN}\nprint(flush=True)\ninput()"]
    before = rss_mb()
    with running.adding():
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout
        child.stdout.readline()
        assert rss_mb() > before + 2
    assert running.cpu > 0.25
    child.communicate(b"\n")


def test_in_lockstep_all_wait_for_the_slowest() -> None:
    calls: list[list[str]] = [[]]

    class Slow:
        fingerprint = "slow"

        async def chat(self, messages: Any, sampling: Any, schema: Any = None) -> Reply:
            calls[-1].append(messages)
            for _ in range(len(messages)):  # some take longer
                await asyncio.sleep(0)
            return Reply(messages, "stop", 1, 1)

    async def episode(model: Lockstep, name: str, turns: int) -> list[str]:
        said = []
        for _ in range(turns):
            said.append((await model.chat(name, Sampling())).text)
            if len(calls[-1]) == model.running:  # the first that goes on begins the next step
                calls.append([])
        model.over()
        return said

    async def play() -> list[list[str]]:
        model = Lockstep(Slow())
        model.running = 3
        episodes = (
            episode(model, name, turns) for name, turns in (("a", 1), ("bb", 3), ("ccc", 2))
        )
        return list(await asyncio.gather(*episodes))

    assert asyncio.run(asyncio.wait_for(play(), 60)) == [["a"], ["bb"] * 3, ["ccc"] * 2]
    assert [sorted(step) for step in calls if step] == [["a", "bb", "ccc"], ["bb", "ccc"], ["bb"]]
