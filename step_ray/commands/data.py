"""Trajectories in and out."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import Data, Options


def import_(
    form: Annotated[
        str, typer.Argument(metavar="FORMAT", help="eto, agentgym, messages or scienceworld-log")
    ],
    source: Annotated[Path, typer.Argument(help="file, or folder of files")],
    output: Annotated[str, typer.Argument(help="folder of the new dataset, or s3://bucket/folder")],
    env: Annotated[
        str | None, typer.Option(help="environment the records are of; they are replayed in it")
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay/--no-replay", help="play the actions again")
    ] = True,
    strict: Annotated[
        bool,
        typer.Option("--strict/--lax", help="reject an episode that the engine answers otherwise"),
    ] = True,
    reward: Annotated[
        float | None, typer.Option(min=0, max=1, help="of records that state none")
    ] = None,
    min_reward: Annotated[
        float, typer.Option(min=0, max=1, help="trajectories below it are marked as dropped")
    ] = 1.0,
    data: Data = None,
    settings: Options = None,
) -> None:
    """Import trajectories of others; each record is checked, every rejected one is named."""
    with plain_errors():
        from step_ray.exchange.importing import Import, as_text, import_records
        from step_ray.progress import Progress

        wanted = Import(
            form,
            source,
            output,
            env,
            data,
            settings or (),
            replayed=replay,
            strict=strict,
            reward=reward,
            min_reward=min_reward,
        )
        with Progress().stage("import", unit="records") as bar:
            found = import_records(wanted, bar.advance)
        typer.echo(as_text(found))


def export(
    source: Annotated[
        str, typer.Argument(help="folder of a run or of a dataset, or a dataset's s3:// address")
    ],
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="messages, agentgym, axolotl, llamafactory, trl; tokens: trl-tokens, skyrl; "
            "pairs: trl-dpo",
        ),
    ],
    output: Annotated[str, typer.Argument(help="new folder, or s3://bucket/folder")],
    mask: Annotated[str, typer.Option(help="partial, none or corrections_only")] = "partial",
    stage: Annotated[
        list[str] | None,
        typer.Option(help="stage of the run; may be repeated; else all that are to be imitated"),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="of these only what this student (base, step, ...) was trained on"),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="folder of the model whose tokens are wanted")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=1, help="tokens; longer trajectories are left out")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--file", help="parquet, jsonl or json; default by format")
    ] = None,
) -> None:
    """Write trajectories, masked, as another trainer reads them, with a dataset card."""
    with plain_errors():
        from step_ray.exchange.exporting import Export, as_text
        from step_ray.exchange.exporting import export as write

        wanted = Export(
            source, form, output, mask, stage or (), tokenizer, max_length, kind, student
        )
        typer.echo(as_text(write(wanted), output))


def fetch(
    name: Annotated[str, typer.Argument(help="alfworld, webshop (1,000 products), webshop-full")],
    output: Annotated[
        Path | None, typer.Option(help="new folder; default: below the cache folder")
    ] = None,
    mirror: Annotated[
        list[str] | None,
        typer.Option(help="address of a folder with the same files, tried first; may be repeated"),
    ] = None,
    sha256: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE=SUM", help="what a file must be; may be repeated"),
    ] = None,
) -> None:
    """Fetch official files from where their authors publish them; resumes, checks, unpacks.

    Nothing else needs them: every environment has data of its own.
    """
    with plain_errors():
        from step_ray.config_env import flags_for_data
        from step_ray.envs.fetch import fetch as fetch_data
        from step_ray.envs.fetched import RECORD
        from step_ray.progress import Progress

        sums = dict(text.partition("=")[::2] for text in sha256 or [])
        folder = fetch_data(name, Progress(), output, mirror or (), sums)
        for file, digest in json.loads((folder / RECORD).read_text("utf-8"))["sums"].items():
            typer.echo(f"{digest}  {file}")
        flags = flags_for_data(name.partition("-")[0], folder)
        typer.echo(" ".join(f"--set {shlex.quote(flag)}" for flag in flags))
