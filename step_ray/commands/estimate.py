"""Look ahead."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import RunFolder


def estimate(
    run_folder: RunFolder,
    episodes: Annotated[int, typer.Option(min=1, help="episodes of the synthesis to come")],
    workers: Annotated[int, typer.Option(min=1, help="its workers, of one CPU each")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Say what a larger synthesis takes, by what a finished run took: hours, tokens, money."""
    with plain_errors():
        from dataclasses import asdict

        from step_ray.recipes import estimate as module

        known = module.measured(run_folder)
        what = module.estimate(known, episodes, workers)
        typer.echo(json.dumps(asdict(what)) if as_json else module.as_text(known, what))
