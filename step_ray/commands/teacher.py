"""Judge a teacher."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from step_ray.commands.errors import plain_errors
from step_ray.commands.options import RunFolder, Set


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
    with plain_errors():
        from step_ray.progress import Progress
        from step_ray.recipes.score import score_teacher
        from step_ray.teacher.score import as_text

        found = score_teacher(
            run_folder, overrides or [], Progress(), stage=stage, episodes=episodes
        )
        typer.echo(json.dumps(found) if as_json else as_text(found))
