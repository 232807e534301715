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


def test_a_tiny_models_rate_for_a_larger_one_is_noted() -> None:
    def said(**training: object) -> str:
        raw = {"output": "runs/x", "env": GAMES, "student": {"model": "/nowhere"}}
        planned = plan(parse_config({**raw, "training": training}, planning=True))
        return " ".join(notes(planned))

    assert "training.learning_rate: all weights of /nowhere are trained" in said()
    assert "(0.001) -> set it to 2.0e-5" in said()
    assert "learning_rate" not in said(learning_rate=1e-4)
    assert "learning_rate" not in said(lora={})


def test_the_config_with_two_absent_models_names_both() -> None:
    said = notes(plan(load_config(CONFIGS / "vllm_teacher.yaml", planning=True)))
    assert [line.split(": ")[1] for line in said] == ["teacher.model.model", "student.model"]
