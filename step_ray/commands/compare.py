"""Recipes side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import Set

if TYPE_CHECKING:
    from step_ray.config_suite import Cell, Suite


def compare(
    what: Annotated[
        list[Path],
        typer.Argument(help="YAML file of a suite, see jobs/configs; or folders of finished runs"),
    ],
    overrides: Set = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print all runs, what they share, and their plans")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="make stages again whose settings have changed")
    ] = False,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="run nothing: the table of what is finished")
    ] = False,
    reference: Annotated[
        str | None,
        typer.Option(help="row that the others are tested against; else the suite's, or the first"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="folder for the report on run folders; else none"),
    ] = None,
) -> None:
    """Run what is missing of a suite of recipes, seeds and environments, and write its table."""
    with plain_errors():
        if what[0].is_dir():
            needless = {"--set": overrides, "--dry-run": dry_run, "--fresh": fresh}
            wrong = [name for name, value in needless.items() if value]
            if wrong:
                raise typer.BadParameter(f"{wrong[0]} is for a suite, not for finished runs")
            _of_folders(what, reference, output)
            return
        if len(what) > 1 or output is not None:
            raise typer.BadParameter("a suite is one file, and names its output itself")
        _of_suite(what[0], overrides or [], dry_run, fresh, table_only, reference)


def _of_folders(runs: Sequence[Path], reference: str | None, output: Path | None) -> None:
    from step_ray.recipes.tabulate import findings, runs_at
    from step_ray.report import suite as suite_report

    title = "Runs side by side"
    found = findings(title, runs_at(runs), reference, [f"{len(runs)} runs."])
    typer.echo(suite_report.markdown(found))
    if output is not None:
        typer.echo(f"Report: {suite_report.write(output, found).absolute()}")


def _of_suite(
    path: Path,
    overrides: Sequence[str],
    dry_run: bool,
    fresh: bool,
    table_only: bool,
    reference: str | None,
) -> None:
    from step_ray.config_suite import load_suite

    if reference is not None:
        overrides = [*overrides, f"reference={reference}"]
    suite, cells = load_suite(path, overrides, planning=dry_run or table_only)
    if dry_run:
        _plan(suite, cells)
        return
    from step_ray.recipes.tabulate import tabulate

    failed: list[tuple[Cell, str]] = []
    if not table_only:
        from step_ray.progress import Progress
        from step_ray.recipes.compare import run_missing

        failed = run_missing(cells, Progress(), fresh)
    for cell, why in failed:
        typer.echo(f"FAILED  {cell.label}: {why}", err=True)
    page, table = tabulate(suite, cells, [cell for cell, _ in failed])
    typer.echo(table)
    typer.echo(f"Report: {page.absolute()}")
    if failed:
        raise typer.Exit(1)


def _plan(suite: Suite, cells: Sequence[Cell]) -> None:
    """All runs with what they share, then the plan of each method in each environment, of which
    those of other seeds are like the first."""
    from step_ray.recipes.plan import plan
    from step_ray.recipes.suite_plan import overview

    typer.echo(overview(cells))
    for cell in cells:
        if cell.seed == suite.seeds[0]:
            typer.echo(f"\n{cell.method}, {cell.env}")
            typer.echo(plan(cell.config))
