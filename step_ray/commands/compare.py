"""Recipes side by side."""

from __future__ import annotations

from typing import Annotated

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import Config, Set


def compare(
    config: Config,
    overrides: Set = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the plan of every run, and stop")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="make stages again whose settings have changed")
    ] = False,
) -> None:
    """Run what is missing of a suite of recipes, seeds and environments, and write its table."""
    from step_ray.config_suite import load_suite

    with plain_errors():
        suite, cells = load_suite(config, overrides or [])
        if dry_run:
            from step_ray.recipes.plan import plan

            for cell in cells:
                typer.echo(f"{cell.method}, {cell.env}, seed {cell.seed}: {cell.config.output}")
                typer.echo(plan(cell.config))
            return
        from step_ray.progress import Progress
        from step_ray.recipes.compare import compare as run_all

        page, table = run_all(suite, cells, Progress(), fresh)
        typer.echo(table)
        typer.echo(f"Report: {page.absolute()}")
