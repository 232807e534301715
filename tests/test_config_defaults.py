"""What a config leaves open is filled in from what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from step_ray.config import RunConfig, parse_config


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def config(**raw: Any) -> RunConfig:
    made = parse_config({"output": "runs/x", **raw})
    assert parse_config(made.resolved()) == made
    return made


@pytest.mark.parametrize(
    ("slots", "envs", "filled"),
    [
        (None, None, (32, 8)),
        (None, 40, (40, 40)),
        (None, 16, (32, 16)),
        (4, None, (4, 4)),
        (64, None, (64, 8)),
        (50, 40, (50, 40)),
    ],
)
def test_every_chat_has_a_slot(
    slots: int | None, envs: int | None, filled: tuple[int, int]
) -> None:
    student = {} if slots is None else {"slots": slots}
    synthesis = {} if envs is None else {"envs_per_worker": envs}
    config = parse_config({"output": "runs/x", "student": student, "synthesis": synthesis})
    assert (config.student.slots, config.synthesis.envs_per_worker) == filled
    assert parse_config(config.resolved()) == config


@pytest.mark.parametrize(
    ("turns", "golden", "filled"),
    [(None, {}, 40), (10, {}, 40), (120, {}, 120), (120, {"max_steps": 30}, 30)],
)
def test_the_expert_has_as_many_turns_as_the_student(
    turns: int | None, golden: dict[str, int], filled: int
) -> None:
    env = {} if turns is None else {"max_steps": turns}
    assert config(env=env, golden=golden).golden.max_steps == filled


def test_fewer_errors_are_kept_in_webshop() -> None:
    assert config().synthesis.max_errors == 2
    assert config(env="scienceworld").synthesis.max_errors == 2
    assert config(env="webshop").synthesis.max_errors == 1
    assert config(env={"name": "webshop"}, synthesis={"max_errors": 3}).synthesis.max_errors == 3
    for recipe in ("eto", "steca"):  # which do not read it, and refuse another than the default
        assert config(env="webshop", recipe=recipe).synthesis.max_errors == 2
