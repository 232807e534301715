"""A plan names what is not on this machine yet."""

from __future__ import annotations

from pathlib import Path

import pytest

from step_ray.config import load_config, parse_config
from step_ray.recipes.plan import plan

CONFIGS = Path(__file__).parents[1] / "jobs" / "configs"
GAMES = {"games": {"train": 4, "valid_seen": 2, "valid_unseen": 2}}


def notes(said: str) -> list[str]:
    return [line.removeprefix("NOTE").strip() for line in said.splitlines() if "NOTE" in line]


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ({"student": {"model": "/nowhere"}}, "student.model"),
        ({"student": {"adapter": "/nowhere"}}, "student.adapter"),
        (
            {"teacher": {"type": "llm", "model": {"backend": "vllm", "model": "/nowhere"}}},
            "teacher.model.model",
        ),
        ({"env": {"name": "webshop", "data": "/nowhere"}}, "env.data"),
        ({"env": {"name": "webshop", "goals": "human", "lists": "/nowhere"}}, "env.lists"),
    ],
)
def test_what_is_missing_is_noted(section: dict[str, object], field: str) -> None:
    raw = {"output": "runs/x", "env": GAMES, **section}
    first, *_ = notes(plan(parse_config(raw, planning=True)))
    assert first.startswith(f"NOT THERE YET: {field}: ")
    assert "(/nowhere) -> " in first


def test_nothing_is_noted_when_all_is_there() -> None:
    assert notes(plan(parse_config({"output": "runs/x", "env": GAMES}))) == []


def test_the_config_with_two_absent_models_names_both() -> None:
    said = notes(plan(load_config(CONFIGS / "vllm_teacher.yaml", planning=True)))
    assert [line.split(": ")[1] for line in said] == ["teacher.model.model", "student.model"]
