"""The ``step-ray`` command: which commands there are, see :mod:`step_ray.commands`."""

from __future__ import annotations

from typing import Annotated

import typer

from step_ray._version import __version__
from step_ray.commands import (
    compare,
    data,
    doctor,
    drill,
    env,
    estimate,
    run,
    serve,
    teacher,
    train,
)

app = typer.Typer(
    help="Train LLM agents that notice their own mistakes and recover.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None: ...


for command in (
    doctor.doctor,
    run.run,
    compare.compare,
    run.verify,
    run.report,
    estimate.estimate,
    drill.drill,
    train.train,
    serve.serve,
    run.audit,
    teacher.teacher_score,
    env.envs,
    env.play,
    data.import_,
    data.export,
):
    app.command(command.__name__.rstrip("_").replace("_", "-"))(command)

data_app = typer.Typer(help="Official data sets.", no_args_is_help=True)
data_app.command("fetch")(data.fetch)
app.add_typer(data_app, name="data")


def main() -> None:
    """Entry point of the ``step-ray`` command."""
    app()


if __name__ == "__main__":
    main()
