"""Look whether everything is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import Set


def doctor(
    config: Annotated[
        Path | None, typer.Argument(help="also look at what this config needs")
    ] = None,
    overrides: Set = None,
    on_cluster: Annotated[
        bool, typer.Option("--cluster", help="ask every node of the running Ray cluster")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Look at versions, engines, Java, GPUs, data, ports, access, disk; each with its remedy.

    Exit status 1 if something is broken; what is optional and absent is not.
    """
    with plain_errors():
        from rich.console import Console

        from step_ray.config import load_config
        from step_ray.doctor import checkup

        wanted = load_config(config, overrides or []) if config else None
        console = Console(highlight=False)
        show = checkup.printer(console)
        found: checkup.Said = {}
        if on_cluster:
            from step_ray.doctor.cluster import every_node

            found = every_node(wanted)
        else:
            said = found.setdefault("here", [])
            for finding in checkup.here(wanted):
                said.append(finding)
                if not as_json:
                    show(finding)
        if as_json:
            typer.echo(checkup.as_json(found))
        elif on_cluster:
            for where, findings in found.items():
                console.print(where, style="bold", markup=False)
                for finding in findings:
                    show(finding)
    if not all(map(checkup.sound, found.values())):
        raise typer.Exit(1)
