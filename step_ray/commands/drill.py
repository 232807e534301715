"""Faults on purpose."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import Set


def drill(
    name: Annotated[
        str,
        typer.Argument(
            help="kill-workers, kill-driver, kill-node, hang-env, crash-env, slow-teacher, "
            "garbage-teacher, full-disk, corrupt-shard, two-drivers, several of them with commas "
            "between, or all (but kill-node)"
        ),
    ],
    config: Annotated[
        Path | None,
        typer.Argument(help="YAML file: its environment, workers and cluster; else a small one"),
    ] = None,
    overrides: Set = None,
    episodes: Annotated[int, typer.Option(min=2, help="episodes of each run")] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON, a line for each")] = False,
) -> None:
    """Break something on purpose, in a scratch folder, and see what comes of it."""
    with plain_errors():
        from step_ray.drills.catalogue import run_drills, show
        from step_ray.drills.settings import drill_config

        resolved = drill_config(config, overrides or [])
        verdicts = []
        for verdict in run_drills(name.split(","), resolved, episodes, config and resolved.output):
            verdicts.append(verdict)
            said = f"{verdict.verdict:7} {verdict.drill:15} {verdict.seconds:6.1f} s"
            typer.echo(json.dumps(dataclasses.asdict(verdict)) if as_json else said)
        if not as_json:
            show(verdicts)
    if any(verdict.verdict != "pass" for verdict in verdicts):
        raise typer.Exit(1)
