"""What a person sees when something is wrong: a clear message, a non-zero exit, nothing made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from step_ray.envs.alfworld.generate import generate_games

CONFIG = """\
output: {output}
env: {{games: {{train: 12, valid_seen: 2, valid_unseen: 2}}}}
{more}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG.format(output=tmp_path / "run", more=""))
    return path


def ask(*arguments: object) -> tuple[int, str]:
    """In a process of its own: Ray does not survive a change of standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "step_ray.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )
    return done.returncode, done.stdout


def test_help_loads_neither_torch_nor_ray() -> None:
    code = (
        "import sys, step_ray.cli\n"
        "try:\n    step_ray.cli.app(['--help'])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'ray', 'pyarrow', 'transformers'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_a_dry_run_prints_config_and_plan_and_makes_nothing(config: Path) -> None:
    code, output = ask("run", config, "--dry-run", "--set", "seed=7")
    assert code == 0
    resolved, end = json.JSONDecoder().raw_decode(output)
    assert resolved["seed"] == 7
    assert resolved["env"]["games"]["train"] == 12
    plan = output[end:]
    for stage in ("golden", "base", "reflected", "step", "golden_only", "evaluation", "report"):
        assert stage in plan
    assert not (config.parent / "run").exists()


def test_all_mistakes_of_a_config_are_told_at_once(config: Path) -> None:
    config.write_text(
        config.read_text()
        + "synthesis: {max_error: 2, workers: many}\nstudent: {model: /nowhere}\n"
    )
    code, output = ask("run", config)
    assert code == 2
    for said in ("synthesis.max_error", "max_errors", "synthesis.workers", "/nowhere"):
        assert said in output
    assert not (config.parent / "run").exists()


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda text: text.replace('"solvable": true', '"solvable": false'), "no solvable task"),
        (lambda text: text[: len(text) // 2], "game.tw-pddl"),
    ],
    ids=["unsolvable", "corrupt"],
)
def test_broken_games_are_named(config: Path, tmp_path: Path, break_it, says: str) -> None:
    data = tmp_path / "json_2.1.1"
    for split, count in (("train", 2), ("valid_seen", 1), ("valid_unseen", 1)):
        for game in generate_games(data, split, count, seed=0):  # type: ignore[arg-type]
            if split == "train":
                game.write_text(break_it(game.read_text()))
    config.write_text(f"output: {tmp_path / 'run'}\nenv: {{data: {data}}}\n")
    code, output = ask("run", config)
    assert code == 2
    assert says in output
    assert not (tmp_path / "run" / "golden" / "manifest.json").exists()


def test_a_folder_of_another_run_is_refused_with_the_difference(config: Path) -> None:
    from step_ray.config import load_config
    from step_ray.run import Run

    other = load_config(config, ["seed=5"])
    Run.open(other.output, other.resolved()).close()
    code, output = ask("run", config)
    assert code == 2
    assert "seed" in output
    assert "5" in output


def test_verify_and_report_of_no_run(tmp_path: Path) -> None:
    for command in ("verify", "report"):
        code, output = ask(command, tmp_path)
        assert code == 2
        assert str(tmp_path) in output
