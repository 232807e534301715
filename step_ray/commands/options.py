"""Arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(help="YAML file, see jobs/configs")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="override one field; may be repeated"),
]
Data = Annotated[Path | None, typer.Option(help="folder of official files")]
Options = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="OPTION=VALUE", help="option of the environment; may be repeated"
    ),
]
RunFolder = Annotated[Path, typer.Argument(help="folder of a run")]
