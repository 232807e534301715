"""What a job adds to its command, without Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
JOBS = sorted(path.stem for path in (ROOT / "jobs").glob("*.py") if "run_job" in path.read_text())


def job(name: str, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key != "STEP_RAY_RUNS"}
    return subprocess.run(
        [sys.executable, f"jobs/{name}.py", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
        env={**clean, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", **variables},
    )  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_a_mistake_ends_a_job_with_what_is_wrong(name: str, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("output: x\nnonsense: 1\n")
    done = job(name, config)
    assert done.returncode == 2
    assert "nonsense" in done.stderr
    assert not (ROOT / "x").exists()


def test_a_relative_output_never_goes_into_the_copy_of_the_folder(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    games = "games: {train: 4, valid_seen: 2, valid_unseen: 2}"
    config.write_text(f"output: mine\nenv: {{name: alfworld, {games}}}\n")
    home = job("run", config, "--dry-run", HOME=str(tmp_path), STEP_RAY_CACHE=str(tmp_path))
    assert f"{tmp_path}/step-ray/mine/report" in home.stdout, home.stderr
    named = job("synthesize", config, "--dry-run", STEP_RAY_RUNS=f"{tmp_path}/runs")
    assert f"{tmp_path}/runs/mine/report" in named.stdout, named.stderr


def test_backends_of_no_run(tmp_path: Path) -> None:
    done = job("backends", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"backends.py: {tmp_path}: no config.json")
