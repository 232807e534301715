"""Run a recipe, check it, look at it."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import Config, RunFolder, Set


def run(
    config: Config,
    overrides: Set = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the resolved config and the plan, and stop")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="make stages again whose settings have changed")
    ] = False,
    until: Annotated[
        Literal["synthesis", "training"] | None,
        typer.Option("--until", help="stop when the data are published, or the students trained"),
    ] = None,
) -> None:
    """Run or continue a recipe; the same command after an interruption goes on where it was."""
    from step_ray.config import load_config

    with plain_errors():
        resolved = load_config(config, overrides or [])
        if dry_run:
            from step_ray.recipes.plan import plan

            typer.echo(json.dumps(resolved.resolved(), indent=2))
            typer.echo(plan(resolved))
            return
        from step_ray.progress import Progress
        from step_ray.recipes.choose import run_recipe

        progress = Progress()
        results = run_recipe(resolved, progress, fresh, until)
        if not results:
            typer.echo(f"Done up to {until}: {resolved.output.absolute()}")
            return
        progress.table(results)
        typer.echo(f"Report: {(resolved.output / 'report' / 'index.html').absolute()}")


def verify(run_folder: RunFolder) -> None:
    """Replay every trajectory, decode every trained span, check every file of a run."""
    with plain_errors():
        from step_ray.recipes.verify import verify as check

        problems = check(run_folder, lambda what, count: typer.echo(f"{count:7d}  {what}"))
    for problem in problems:
        typer.echo(f"WRONG  {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo("All as it says.")


def report(run_folder: RunFolder) -> None:
    """Write the report page of a run again."""
    with plain_errors():
        from step_ray.report.page import build_report

        typer.echo(build_report(run_folder))
