"""Which environment a config names, and what of it is misspelled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from step_ray import envs
from step_ray.config import parse_config
from step_ray.config_text import ConfigError


def problems(**raw: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config({"output": "x", **raw})
    return caught.value.problems


def test_a_misspelled_environment_is_the_only_problem_of_its_section() -> None:
    env = {"name": "alfwrld", "games": {"train": 3}, "max_steps": "many"}
    said = "no such environment (alfwrld) -> did you mean alfworld?"
    assert problems(env=env) == [f"env.name: {said}"]
    assert problems(env=env, evaluation={"splits": ["none"]}) == [f"env.name: {said}"]
    assert problems(transfer={"rooms": {"env": env}}) == [f"transfer.rooms.env.name: {said}"]
    (first, second) = problems(env="my_package", seed="x")
    assert first.startswith("env.name: no such environment (my_package) -> choose of alfworld, sc")
    assert second.startswith("seed: ")


def test_an_announced_environment_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "castle-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: castle\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{envs.ENTRY_POINTS}]\ncastle = doubles:Corridor\n")
    (line,) = problems(env="castle")
    assert "no such environment (castle)" in line
    monkeypatch.syspath_prepend(tmp_path)
    assert parse_config({"output": "x", "env": "castle"}).env.name == "castle"


def test_an_option_by_its_name_elsewhere() -> None:
    assert problems(env={"seed": 3}) == [
        "env.seed: unknown field (3) -> did you mean env.generator_seed?"
    ]
    assert problems(env={"types": ["x"]}) == [
        "env.types: unknown field (['x']) -> did you mean env.task_types?"
    ]
