"""Look at environments, play them."""

from __future__ import annotations

from typing import Annotated

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import Data, Options


def envs(
    env: Annotated[str | None, typer.Argument(help="one environment: list its tasks")] = None,
    data: Data = None,
    settings: Options = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the environments, or the splits and task types of one."""
    with plain_errors():
        from step_ray.envs.listing import show

        show(env, data, settings or [], as_json)


def play(
    env: Annotated[str, typer.Argument(help="environment, see step-ray envs")],
    task: Annotated[str | None, typer.Argument(help="id of a task; else one is drawn")] = None,
    split: Annotated[str | None, typer.Option(help="draw from this split")] = None,
    kind: Annotated[str | None, typer.Option("--type", help="draw a task of this type")] = None,
    seed: Annotated[int, typer.Option(help="of the draw, and of the episode")] = 0,
    show_expert: Annotated[
        bool, typer.Option("--show-expert", help="show the expert's turn before each of yours")
    ] = False,
    data: Data = None,
    settings: Options = None,
) -> None:
    """Play an environment by hand; /help lists what can be typed."""
    with plain_errors():
        from step_ray.envs.play import play as play_by_hand

        play_by_hand(
            env,
            task,
            data=data,
            settings=settings or [],
            split=split,
            kind=kind,
            seed=seed,
            show_expert=show_expert,
        )
