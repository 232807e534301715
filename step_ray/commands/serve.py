"""Offer models to people outside."""

from __future__ import annotations

from typing import Annotated

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import Config, Set


def serve(
    config: Config,
    overrides: Set = None,
    only: Annotated[
        str | None, typer.Option(help="teacher or student; else all that the config has")
    ] = None,
) -> None:
    """Serve the models of a config over HTTP, as OpenAI's chat completions, until Ctrl-C."""
    from step_ray.config import load_config

    with plain_errors():
        resolved = load_config(config, overrides or [])
        from step_ray.recipes.serve import serve as serve_models

        serve_models(resolved, only, typer.echo)
