"""What the runs of a comparison say of the data that their methods made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from step_ray.evaluation.statistics import Interval, wilson
from step_ray.lineage import RunError, read_json
from step_ray.run import RESULTS

_ROW = {"student", "split", "n", "success", "average_reward", "train_trajectories"}


@dataclass(frozen=True, slots=True)
class Ran:
    """A finished run of a comparison."""

    env: str
    method: str
    seed: int
    path: Path


@dataclass(slots=True)
class Pasting:
    """STeCa's calibrations over all seeds: ``deviations`` were found; of the ``pasted``
    trajectories (the correction and the rest of the expert's recorded way put behind each
    deviation, as the original does) ``wrong`` many do not go in the world as they say."""

    env: str
    method: str
    deviations: int = 0
    pasted: int = 0
    wrong: int = 0

    @property
    def share(self) -> Interval:
        """Share of pasted trajectories that cannot be executed, with Wilson's 95 % interval."""
        return wilson(self.wrong, self.pasted)


def results_of_run(path: Path) -> dict[str, Any]:
    """What ``results.json`` of a run holds; RunError if it is not there yet."""
    if not (path / RESULTS).exists():
        raise RunError(f"{path}: no {RESULTS}, so it is no finished run; finish it first")
    return read_json(path / RESULTS)


def figures_of_run(path: Path) -> list[dict[str, Any]]:
    """The rows of ``results.json``: a student on a split. RunError if it has none, or others."""
    rows = results_of_run(path).get("students")
    if not isinstance(rows, list) or not rows or not all(map(_is_row, rows)):
        raise RunError(
            f"{path / RESULTS}: it does not have the figures of students: made by another version,"
            " or damaged; run the command that made the run again: it is written anew"
        )
    return rows


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and row.keys() >= _ROW
        and isinstance(row["student"], str)
        and isinstance(row["split"], str)
        and all(_is_figure(row[name]) for name in ("success", "average_reward"))
    )


def _is_figure(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("value"), int | float)


def error_kinds(runs: Iterable[Ran]) -> dict[str, dict[str, int]]:
    """Method -> kind of error -> how many of them its teacher found; with several environments each
    method in each."""
    runs = list(runs)
    several = len({run.env for run in runs}) > 1
    kinds: dict[str, dict[str, int]] = {}
    for run in runs:
        name = f"{run.method}, {run.env}" if several else run.method
        found = results_of_run(run.path).get("synthesis", {}).get("error_kinds", {})
        for kind, count in found.items():
            mine = kinds.setdefault(name, {})
            mine[kind] = mine.get(kind, 0) + count
    return kinds


def pastings(runs: Iterable[Ran]) -> list[Pasting]:
    """One for each method and environment that calibrates."""
    found: dict[tuple[str, str], Pasting] = {}
    for run in runs:
        facts = results_of_run(run.path).get("calibration")
        if facts is None:
            continue
        one = found.setdefault((run.env, run.method), Pasting(run.env, run.method))
        one.deviations += facts["deviations"]
        one.pasted += facts["pasted"]["trajectories"]
        one.wrong += facts["pasted"]["not_executable"]
    return list(found.values())
