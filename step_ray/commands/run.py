"""Run a recipe, check it, look at it."""

from __future__ import annotations

import json
from pathlib import Path
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
        resolved = load_config(config, overrides or [], planning=dry_run)
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


def report(
    run_folder: RunFolder,
    compare: Annotated[
        list[Path] | None, typer.Option(help="folder of a run to compare with; may be repeated")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="model folder for the token view; else the run's own student"),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="trajectories in the page; more are chosen evenly")
    ] = 20_000,
    token_views: Annotated[
        int, typer.Option(min=0, help="trajectories that can be seen as tokens")
    ] = 100,
) -> None:
    """Write the report page of a run again, with other runs to compare if wanted."""
    with plain_errors():
        from step_ray.report.page import build_report

        typer.echo(build_report(run_folder, compare or (), tokenizer, limit, token_views))


def audit(
    source: Annotated[Path, typer.Argument(help="folder of a run or of a dataset")],
    tokenizer: Annotated[
        Path | None, typer.Option(help="model folder; else the run's own student")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="model folder: measure loss and gradient by verdict")
    ] = None,
    mask: Annotated[
        str | None, typer.Option(help="partial, none or corrections_only; else the run's")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=16, help="tokens; else the run's, or the model's limit")
    ] = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="stage of the run; may be repeated; else all but tests")
    ] = None,
    spans: Annotated[int, typer.Option(min=0, help="trained texts shown of each verdict")] = 3,
    gradient_samples: Annotated[
        int, typer.Option(min=1, help="samples that loss and gradient are measured on")
    ] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of a table")] = False,
) -> None:
    """Audit the loss mask of all training data, token by token; violations exit with 1."""
    with plain_errors():
        from step_ray.recipes.audit import Wanted, as_text, mask_of, save
        from step_ray.recipes.audit import audit as check

        found = check(
            Wanted(
                source,
                tokenizer,
                checkpoint,
                mask_of(mask),
                max_length,
                stage or (),
                spans,
                gradient_samples,
            )
        )
        saved = save(source, found)
    typer.echo(json.dumps(found, indent=2) if as_json else as_text(found))
    if saved is not None:
        typer.echo(f"\nSaved as {saved}; step-ray report {source} puts it into the page.", err=True)
    if found["violation_count"]:
        raise typer.Exit(1)
