"""Where ETO's rounds end. What its stages make is left to tests of their own and to the drills."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray")

from step_ray.config import parse_config
from step_ray.progress import Progress
from step_ray.recipes import eto

CONFIG = parse_config({"recipe": "eto", "output": "runs/x", "eto": {"iterations": 2}})


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages, as they are asked for; the first round has a pair, the second has none."""
    names: list[str] = []

    def stage(name: str, **outputs: Any) -> Any:
        names.append(name)
        return SimpleNamespace(path=Path(name), outputs={"model": Path(name), **outputs})

    def train(shop: Any, name: str, *rest: Any) -> Any:
        return stage(name)

    monkeypatch.setattr(eto, "open_world", lambda config: SimpleNamespace(train=()))
    monkeypatch.setattr(eto, "opened", lambda *given: contextlib.nullcontext(None))
    monkeypatch.setattr(eto.store, "read", lambda *given, **options: iter(()))
    monkeypatch.setattr(eto, "golden", lambda shop: stage("golden"))
    monkeypatch.setattr(eto, "original", lambda *given: Path("llm"))
    monkeypatch.setattr(eto, "train", train)
    monkeypatch.setattr(eto, "explore", lambda shop, name, *rest: stage(name))
    monkeypatch.setattr(
        eto, "pair", lambda shop, name, *rest: stage(name, pairs=name, counts={"lose": 0})
    )
    monkeypatch.setattr(eto, "read_pairs", lambda name: [1] if name == "pairs_1" else [])
    monkeypatch.setattr(eto, "conclude", lambda shop, llm, students, facts: students)
    return names


def test_without_pairs_the_rounds_end(made: list[str]) -> None:
    students = eto.run(CONFIG, Progress())
    assert list(students) == ["golden_only", "eto_1"]
    assert made == [
        *("golden", "golden_only", "explored_1", "pairs_1", "eto_1", "explored_2", "pairs_2")
    ]


@pytest.mark.parametrize("until", ["synthesis", "training"])
def test_a_run_that_is_to_end_early_plays_no_evaluation(made: list[str], until: Any) -> None:
    assert eto.run(CONFIG, Progress(), until=until) == {}
