"""The same work on several sides, in turns, so that noise on the machine meets all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from measure import Cost, rounded
from sides import Side

from step_ray.envs.base import Task, TextEnv

OURS = "ours"


@dataclass(frozen=True)
class Work:
    """A task, as the sides want it, and what is done in it."""

    task: Any
    actions: list[str]


def walk(env: TextEnv, task: Task, steps: int, choose: Callable[[Any], str]) -> list[str]:
    """The actions of an episode of at most ``steps`` steps, until it ends."""
    env.reset(task)
    actions: list[str] = []
    while len(actions) < steps:
        actions.append(choose(env))
        answer = env.step(actions[-1])
        if answer.terminated or answer.truncated:
            break
    return actions


def in_rounds(works: Sequence[Work], rounds: int, size: int) -> list[Sequence[Work]]:
    """``size`` works for each of the rounds, mixed."""
    return [works[i::rounds][:size] for i in range(rounds)]


def compare(
    sides: Mapping[str, Side],
    rounds: Sequence[Sequence[Work]],
    repeat: Mapping[str, int],
    *,
    alike: Collection[str],
    keep: bool = False,
) -> dict[str, Any]:
    """Rows for load, reset, step, and step with the list of actions.

    In a round every side does the same work, the fast ones ``repeat`` times; the first round is
    warm-up and not counted. A side that lists the actions at every step in any case has the same
    figure in both rows. ``keep``: all rounds are played in the environments of the first one, and
    only there is their loading counted. Raises SystemExit where a side of ``alike`` was told
    something else than ours; of the others it is counted.
    """
    rows = ("load", "reset", "step", "step_and_actions")
    costs: dict[str, dict[str, list[Cost]]] = {row: {n: [] for n in sides} for row in rows}
    same, observations = Counter[str](), 0
    for number, works in enumerate(rounds):
        tasks, actions = [work.task for work in works], [work.actions for work in works]
        told = {}
        for name, side in sides.items():
            again = repeat.get(name, 1)
            listing = side.lists != "never"
            if number and keep:
                side.retask(tasks)
            else:
                cost = side.load(tasks)
                if number or keep:
                    costs["load"][name].append(cost)
            if number:
                costs["reset"][name].append(side.reset(again))
            cost, told[name] = side.play(actions, listing, again if number else max(again, 3))
            if number and listing:
                costs["step_and_actions"][name].append(cost)
            if number and side.lists == "asked":
                cost, _ = side.play(actions, admissible=False, repeat=again)
            if number:
                costs["step"][name].append(cost)
            if not keep:
                side.clear()
        observations += sum(map(len, actions))
        for name in sides.keys() - {OURS}:
            for work, mine, theirs in zip(works, told[OURS], told[name], strict=True):
                if name in alike:
                    check_same(work, mine, theirs, name)
                same[name] += sum(
                    answer[0][0] == expected[0][0]
                    for answer, expected in zip(mine, theirs, strict=True)
                )
    table: dict[str, Any] = {row: _row(each) for row, each in costs.items()}
    table["observations"] = {"played": observations, "same_as_ours": dict(same)}
    return table


def check_same(work: Work, ours: Sequence[Any], theirs: Sequence[Any], name: str) -> None:
    """Raises SystemExit if the two were not told the same after every step."""
    for turn, (answer, expected) in enumerate(zip(ours, theirs, strict=True)):
        for mine, other in zip(answer, expected, strict=False):  # one may have no list of actions
            if mine != other:
                raise SystemExit(
                    f"{work.task}: after {work.actions[: turn + 1]} ours tells\n"
                    f"{str(mine)[:2000]}\nand {name} tells\n{str(other)[:2000]}"
                )


def environments(
    engines: Mapping[str, Callable[[], Side]],
    works: Sequence[Work],
    counts: Sequence[int],
    played: Mapping[str, tuple[int, int]],
) -> dict[str, Any]:
    """Memory and speed with several environments in one process, by their number.

    ``engines`` start the sides; ``played``: steps per environment and repetitions, by side. The
    first half of the steps is warm-up.
    """
    sides = {name: start() for name, start in engines.items()}
    try:
        empty = {name: side.rss_mb() for name, side in sides.items()}
        rows: dict[str, Any] = {}
        first: dict[str, float] = {}
        there = 0
        for count in counts:
            rows[str(count)] = {}
            for name, side in sides.items():
                side.load([work.task for work in works[there:count]])
                steps, repeat = played[name]
                actions = [work.actions[:steps] for work in works[:count]]
                warmup = max(map(len, actions)) // 2
                cost, _ = side.play(actions, False, repeat, uncounted=warmup)
                memory = side.rss_mb()
                further = count - counts[0]
                rows[str(count)][name] = {
                    **cost.each(),
                    "steps_per_cpu_s": rounded(cost.count / cost.cpu),
                    "rss_mb": rounded(memory),
                    "mb_per_env": rounded(memory / count),
                    "mb_per_env_beyond_start": rounded((memory - empty[name]) / count),
                    "mb_per_further_env": rounded((memory - first[name]) / further)
                    if further
                    else None,
                }
                first.setdefault(name, memory)
            there = count
        return rows
    finally:
        for side in sides.values():
            side.close()


def _row(costs: Mapping[str, Sequence[Cost]]) -> dict[str, Any]:
    """Means by side, and for each but ours how many times ours it is, in CPU time."""
    costs = {name: each for name, each in costs.items() if each}
    total = {name: sum(each, Cost()) for name, each in costs.items()}
    row: dict[str, Any] = {name: cost.each() for name, cost in total.items()}
    others = [name for name in costs if name != OURS]
    if not others:
        return row
    row["ratio"] = {n: _ratio(total[n], total[OURS]) for n in others}
    row["ratio_wall"] = {n: rounded(row[n]["wall_ms"] / row[OURS]["wall_ms"]) for n in others}
    row["ratio_by_round"] = {
        n: [_ratio(*pair) for pair in zip(costs[n], costs[OURS], strict=True)] for n in others
    }
    return row


def _ratio(theirs: Cost, ours: Cost) -> float:
    return rounded(theirs.cpu / theirs.count / (ours.cpu / ours.count))
