"""What a person types. No logic: every command calls one function and says what went wrong."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from step_ray._version import __version__

app = typer.Typer(
    help="Train LLM agents that notice their own mistakes and recover.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

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


@app.command()
def run(
    config: Config,
    overrides: Set = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print the resolved config and the plan, and stop")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="make stages again whose settings have changed")
    ] = False,
) -> None:
    """Run or continue a recipe; the same command after an interruption goes on where it was."""
    from step_ray.config import load_config

    with _plain_errors():
        resolved = load_config(config, overrides or [])
        if dry_run:
            from step_ray.recipes.plan import plan

            typer.echo(json.dumps(resolved.resolved(), indent=2))
            typer.echo(plan(resolved))
            return
        from step_ray.progress import Progress
        from step_ray.recipes import step

        progress = Progress()
        results = step.run(resolved, progress, fresh)
        progress.table(results)
        typer.echo(f"Report: {(resolved.output / 'report' / 'index.html').absolute()}")


@app.command()
def verify(run_folder: RunFolder) -> None:
    """Replay every trajectory, decode every trained span, check every file of a run."""
    with _plain_errors():
        from step_ray.recipes.verify import verify as check

        problems = check(run_folder, lambda what, count: typer.echo(f"{count:7d}  {what}"))
    for problem in problems:
        typer.echo(f"WRONG  {problem}", err=True)
    if problems:
        raise typer.Exit(1)
    typer.echo("All as it says.")


@app.command()
def report(run_folder: RunFolder) -> None:
    """Write the report page of a run again."""
    with _plain_errors():
        from step_ray.report.page import build_report

        typer.echo(build_report(run_folder))


@app.command()
def teacher_score(
    run_folder: RunFolder,
    overrides: Set = None,
    stage: Annotated[str, typer.Option(help="stage whose episodes are used")] = "reflected",
    episodes: Annotated[
        int | None, typer.Option(min=1, help="at most so many, drawn at random")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Compare a teacher's judgements with the expert's on the turns of a run's student."""
    with _plain_errors():
        from step_ray.progress import Progress
        from step_ray.recipes.score import score_teacher
        from step_ray.teacher.score import as_text

        found = score_teacher(
            run_folder, overrides or [], Progress(), stage=stage, episodes=episodes
        )
        typer.echo(json.dumps(found) if as_json else as_text(found))


@app.command()
def envs(
    env: Annotated[str | None, typer.Argument(help="one environment: list its tasks")] = None,
    data: Data = None,
    settings: Options = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """List the environments, or the splits and task types of one."""
    with _plain_errors():
        from step_ray.envs.listing import show

        show(env, data, settings or [], as_json)


@app.command()
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
    with _plain_errors():
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


@app.command("import")
def import_(
    form: Annotated[
        str, typer.Argument(metavar="FORMAT", help="eto, agentgym, messages or scienceworld-log")
    ],
    source: Annotated[Path, typer.Argument(help="file, or folder of files")],
    output: Annotated[Path, typer.Argument(help="folder of the new dataset")],
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
    with _plain_errors():
        from step_ray.exchange.importing import Import, as_text, import_records

        found = import_records(
            Import(
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
        )
        typer.echo(as_text(found))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="folder of a run or of a dataset")],
    form: Annotated[
        str,
        typer.Argument(
            metavar="FORMAT",
            help="messages, agentgym, axolotl, llamafactory, trl, or tokens: trl-tokens, skyrl",
        ),
    ],
    output: Annotated[Path, typer.Argument(help="new folder")],
    mask: Annotated[str, typer.Option(help="partial, none or corrections_only")] = "partial",
    stage: Annotated[
        list[str] | None, typer.Option(help="stage of the run; may be repeated; else all but tests")
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
    with _plain_errors():
        from step_ray.exchange.exporting import Export, as_text
        from step_ray.exchange.exporting import export as write

        wanted = Export(source, form, output, mask, stage or (), tokenizer, max_length, kind)
        typer.echo(as_text(write(wanted), output))


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Errors that say what, where and how to fix it need no traceback. Others keep theirs."""
    from step_ray.config import ConfigError
    from step_ray.envs.base import EnvError
    from step_ray.lineage import RunError
    from step_ray.manifest import StoreError

    known: list[type[Exception]] = [ConfigError, EnvError, RunError, StoreError]
    try:
        yield
    except Exception as error:
        known += _loaded("step_ray.models.base", "ModelError")
        known += _loaded("step_ray.teacher.base", "TeacherError")
        known += _loaded("step_ray.training.checkpoint", "TrainError")
        known += _loaded("step_ray.synthesis.pipeline", "PipelineError")
        known += _loaded("step_ray.exchange.records", "ExchangeError")
        known += _loaded("step_ray.models.encoding", "TemplateError")
        if not isinstance(error, tuple(known)):
            raise
        typer.echo(f"step-ray: {error}", err=True)
        raise typer.Exit(2) from None


def _loaded(module: str, name: str) -> list[type[Exception]]:
    """An exception class of a heavy module, only if that was loaded: else it was not raised."""
    return [getattr(sys.modules[module], name)] if module in sys.modules else []


def main() -> None:
    """Entry point of the ``step-ray`` command."""
    app()


if __name__ == "__main__":
    main()
