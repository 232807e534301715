"""A suite goes on when one of its runs fails; whole suites are run in drills."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import pytest
from rich.console import Console

pytest.importorskip("ray")

from step_ray.bucket import BucketError
from step_ray.config import RunConfig
from step_ray.config_suite import load_suite
from step_ray.progress import Progress
from step_ray.recipes import compare
from step_ray.synthesis.placement import PipelineError

SUITE = """\
output: out
seeds: [0, 1]
base: {env: {games: {train: 6}}, student: {temperature: 0}}
methods: {step: {}}
"""


@pytest.mark.parametrize("error", [BucketError("no bucket"), PipelineError("models failed")])
def test_a_run_that_fails_does_not_keep_the_others(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("step_ray.config_checks.usable_cpus", lambda: 4)
    Path("suite.yaml").write_text(SUITE)
    _, cells = load_suite("suite.yaml")
    ran: list[Path] = []

    def recipe(config: RunConfig, *_: object) -> None:
        ran.append(config.output)
        if len(ran) == 1:
            raise error

    monkeypatch.setattr(compare, "run_recipe", recipe)
    monkeypatch.setattr(compare, "cluster", lambda config: contextlib.nullcontext())
    failed = compare.run_missing(cells, Progress(Console(file=io.StringIO())))
    assert failed == [(cells[0], str(error))]
    assert ran == [cell.config.output for cell in cells]
