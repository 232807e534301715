"""The table of a comparison: of a suite, or of run folders that are there already."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from step_ray.config import execution_fields
from step_ray.config_protocols import note_on
from step_ray.config_suite import Cell, Suite
from step_ray.evaluation.costs import spent
from step_ray.evaluation.made import Ran, error_kinds, pastings
from step_ray.evaluation.table import but_for, rows_of
from step_ray.lineage import CONFIG, RunError, changes, read_json, read_run
from step_ray.recorded import config_of
from step_ray.report import suite as suite_report
from step_ray.report.suite import Findings
from step_ray.run import RESULTS

# Fields in which runs of one method may differ: its seeds, and where it is kept.
_SEEDS = ("output", "name", "share", "seed", "training.seed", "env.generator_seed")
_REMEDIES = {"not finished": "run the suite", "failed": "correct that, and run the suite again"}
_OTHERS = "give the --set they were made with, or --fresh to make them again"
WHAT = (
    "Success is the full reward at the end of an episode; average reward counts the highest reward "
    "an episode had, as ETO does; both divide by all episodes.",
    "Intervals are 95 %: Student's over seeds, of a single seed over its tasks (Wilson's for "
    "success, a bootstrap for rewards and differences). Where seeds won equally often, success has "
    "Wilson's over tasks; where all seeds differ from the reference by the same, the difference "
    "has a bootstrap over tasks. What does not vary otherwise has none.",
    "p, seeds is of the paired t-test over seeds, whose students differ; p, tasks of a permutation "
    "test over tasks, these students given. Neither is corrected for the number of rows.",
    "Trajectories and their tokens are those of a student's own training (pairs for DPO); tokens "
    "trained are those of all passes of all trainings that led to it.",
    "Hours are those of all stages that a student was made of, shared ones in full, as if it had "
    "been made alone.",
)
_MIXED = (
    "The judge was asked in some of these runs only (evaluation.judge), so their errors, and what "
    "of them was recovered, are not the same thing."
)
_ERRORS = {
    False: "An error at test time is a turn that had no effect, or one that ends a loop; it is "
    "recovered if its episode was won.",
    True: "An error at test time is a turn that had no effect, one that ends a loop, or one that "
    "the environment's judge calls so; it is recovered if its episode was won.",
}


def tabulate(suite: Suite, cells: Sequence[Cell], failed: Sequence[Cell] = ()) -> tuple[Path, str]:
    """The table of all finished runs of a suite, written to its report folder. Returns the page's
    path and the table as Markdown. Left out, and named, are runs with other settings than the suite
    has now, and those that have ``failed``.

    Raises RunError if no run is left, or ``suite.reference`` is no row.
    """
    without = {cell.label: "failed" if cell in failed else _unfit(cell) for cell in cells}
    done = [cell for cell in cells if not without[cell.label]]
    missing: dict[str, list[str]] = {}
    for label, why in without.items():
        if why:
            missing.setdefault(why, []).append(label)
    if not done:
        why_not = "".join(
            f"\n  {len(labels)} {why} -> {_REMEDIES.get(why, _OTHERS)}"
            for why, labels in missing.items()
        )
        raise RunError(f"{suite.output}: none of {len(cells)} runs can be shown{why_not}")
    said = [f"{len(done)} of {len(cells)} runs, seeds {', '.join(map(str, suite.seeds))}."]
    said += [f"Missing: {'; '.join(labels)} ({why})." for why, labels in missing.items()]
    runs = [Ran(cell.env, cell.method, cell.seed, cell.config.output) for cell in done]
    found = findings(suite.name, runs, suite.reference, said)
    page = suite_report.write(suite.output / suite_report.FOLDER, found)
    return page, suite_report.markdown(found)


def findings(
    title: str, runs: Sequence[Ran], reference: str | None, said: Sequence[str]
) -> Findings:
    """All that is shown of finished runs."""
    rows = rows_of(runs, reference)
    configs = [config_of(run.path).resolved() for run in runs]
    notes = dict.fromkeys(map(_protocol, configs))
    judged = {bool(config["evaluation"].get("judge")) for config in configs}
    ended = dict.fromkeys(
        f"{row.student} ended early with seed {', '.join(map(str, row.ended))}: nothing was left "
        "to learn from."
        for row in rows
        if row.ended
    )
    facts = [
        *said,
        f"The reference is {reference or rows[0].student}.",
        *ended,
        *WHAT,
        *(_ERRORS[one] for one in sorted(judged)),
        *([_MIXED] if len(judged) > 1 else []),
        *(note for note in notes if note),
        f"All stages together, tests included, took {spent(run.path for run in runs):.2f} hours.",
    ]
    return Findings(title, rows, facts, error_kinds(runs), pastings(runs))


def runs_at(folders: Sequence[Path]) -> list[Ran]:
    """Run folders by environment, method and seed: those whose configs differ in seeds alone are
    one method, called by its recipe, by the runs' name, or by the first folder, whichever is the
    first that tells the methods apart.

    Raises RunError for what is no run, and for two runs of one method with the same seed.
    """
    configs = []
    for folder in folders:
        try:
            read_run(folder)
        except RunError as error:
            takes = "compare takes folders of runs, or the YAML file of a suite"
            raise RunError(f"{error}; {takes}") from None
        configs.append(config_of(folder).resolved())
    groups: dict[str, list[int]] = {}
    for number, config in enumerate(configs):
        groups.setdefault(json.dumps(but_for(config, _SEEDS), sort_keys=True), []).append(number)
    firsts = [numbers[0] for numbers in groups.values()]
    candidates: tuple[Callable[[int], str], ...] = (
        lambda number: str(configs[number]["recipe"]),
        lambda number: str(configs[number]["name"]),
        lambda number: str(folders[number]),
    )
    name = next(
        name
        for name in candidates
        if len({(name(first), configs[first]["env"]["name"]) for first in firsts}) == len(firsts)
        or name is candidates[-1]
    )
    found: dict[tuple[str, str, int], Ran] = {}
    for numbers in groups.values():
        for number in numbers:
            config = configs[number]
            run = Ran(config["env"]["name"], name(numbers[0]), config["seed"], folders[number])
            other = found.setdefault((run.env, run.method, run.seed), run)
            if other is not run:
                raise RunError(
                    f"{run.path} and {other.path}: two runs of one method with seed {run.seed}; "
                    "leave one of them out"
                )
    return list(found.values())


def _unfit(cell: Cell) -> str:
    """Why a run is not in the table; "" if it is."""
    if not (cell.config.output / RESULTS).exists():
        return "not finished"
    made, now = read_json(cell.config.output / CONFIG), cell.config.resolved()
    found = changes(made, now, execution_fields()).splitlines()
    return f"other settings, such as {found[0].strip()}" if found else ""


def _protocol(config: Mapping[str, Any]) -> str:
    others = [one["env"] for one in config.get("transfer", {}).values()]
    return note_on(config["evaluation"].get("protocol", "own"), config["env"], others)
