"""Look ahead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from step_ray.commands.errors import plain_errors


def estimate(
    run_folders: Annotated[
        list[Path],
        typer.Argument(
            help="folder of a finished run; several, of different sizes, tell its start"
        ),
    ],
    episodes: Annotated[int, typer.Option(min=1, help="episodes of the synthesis to come")],
    workers: Annotated[int, typer.Option(min=1, help="its workers, of one CPU each")],
    teacher_rate: Annotated[
        float | None,
        typer.Option(min=1e-3, help="requests a second that the teacher's model answers at most"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say what a larger synthesis takes, by what a finished run took: hours, tokens, money."""
    with plain_errors():
        from dataclasses import asdict

        from step_ray.recipes import estimate as module

        known = [module.measured(folder) for folder in run_folders]
        what = module.estimate(known, episodes, workers, teacher_rate)
        typer.echo(json.dumps(asdict(what)) if as_json else module.as_text(known, what))
