"""``step-ray compare``: runs what is missing of a suite, then puts all of it into one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from step_ray.config_suite import Cell, Suite
from step_ray.evaluation.table import Ran, error_kinds, rows_of
from step_ray.progress import Progress
from step_ray.recipes.choose import run_recipe
from step_ray.recipes.cluster import cluster
from step_ray.report import suite as suite_report
from step_ray.run import RESULTS


def compare(
    suite: Suite, cells: Sequence[Cell], progress: Progress, fresh: bool = False
) -> tuple[Path, str]:
    """Runs or continues every run of the suite on one cluster; stages that are the same in several
    of them are made once. Returns the page's path and the table as Markdown.

    Raises what the runs raise, and RunError if ``suite.reference`` is no row; what is done stays.
    """
    with cluster(cells[0].config.ray):
        for number, cell in enumerate(cells, start=1):
            at = f"{number} of {len(cells)}: {cell.method}, {cell.env}, seed {cell.seed}"
            progress.note(at)
            run_recipe(cell.config, progress, fresh)
    return tabulate(suite, cells)


def tabulate(suite: Suite, cells: Sequence[Cell]) -> tuple[Path, str]:
    """The table of all runs that are finished, written to the suite's report folder."""
    runs = [
        Ran(cell.env, cell.method, cell.seed, cell.config.output)
        for cell in cells
        if (cell.config.output / RESULTS).exists()
    ]
    rows = rows_of(runs, suite.reference)
    said = (
        f"{len(runs)} of {len(cells)} runs, seeds {', '.join(map(str, suite.seeds))}. Intervals of "
        "success and reward are Student's 95 % over seeds; of differences to "
        f"{suite.reference or rows[0].student} a bootstrap over tasks. Episodes are paired by task "
        "and seed. Hours are those of all stages that a student needed, tokens those of one pass "
        "over its own training data."
    )
    folder = suite.output / suite_report.FOLDER
    page = suite_report.write(folder, suite.name, rows, error_kinds(runs), said)
    return page, suite_report.markdown(rows, said)
