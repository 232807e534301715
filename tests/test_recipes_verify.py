"""What verify finds in runs that are not as they say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("ray")

from step_ray.config import RunConfig
from step_ray.evaluation.statistics import bootstrap_mean
from step_ray.models.load import load_tokenizer
from step_ray.models.make import PACKAGED_MODEL
from step_ray.recipes import stages
from step_ray.recipes.verify import check_results, verify
from step_ray.recorded import config_of
from step_ray.training.masks import tokenize
from tests.compared_runs import make
from tests.test_cli import ask
from tests.trained_runs import model_of, opened, steca


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of two students on one split."""
    raw = {"output": str(tmp_path / "run"), "evaluation": {"splits": ["test"]}}
    students = {"base": ("m0", [False, True]), "step": ("m1", [True, True])}
    config = RunConfig.model_validate(raw).resolved()
    return make(tmp_path / "run", 0, students, config=config)


def rows(run: Path) -> tuple[list[str], dict[str, int]]:
    said: dict[str, int] = {}
    return list(check_results(run, config_of(run), said.__setitem__)), said


def change(run: Path, how: Callable[[list[dict[str, Any]]], object]) -> None:
    results = json.loads((run / "results.json").read_text())
    how(results["students"])
    (run / "results.json").write_text(json.dumps(results))


def test_results_are_computed_again(run: Path) -> None:
    assert rows(run) == ([], {"results.json: rows computed again from the episodes": 2})
    change(run, lambda students: [row["success"].update(value=0.99) for row in students])
    problems, _ = rows(run)
    assert [problem.split(": success is ")[0] for problem in problems] == [
        "results.json: base on test",
        "results.json: step on test",
    ]
    assert problems[0].endswith("success is 0.99, and that of its episodes 0.5")


def test_other_rewards_and_other_rows_are_named(run: Path) -> None:
    change(run, lambda students: students[0].update(average_reward=bootstrap_mean([1.0]).to_dict()))
    (problem,), _ = rows(run)
    assert "base on test: average_reward" in problem
    change(run, lambda students: students.pop(0))
    assert rows(run)[0] == ["results.json: base on test: is not in it"]
    change(run, lambda students: students.append({**students[0], "student": "mine"}))
    assert rows(run)[0][1] == "results.json: mine on test: was not evaluated"


@pytest.mark.parametrize(
    ("text", "said"), [("{", "not JSON"), ("{}", "figures of students"), (None, "it is gone")]
)
def test_results_that_are_damaged_or_gone(run: Path, text: str | None, said: str) -> None:
    (run / "results.json").unlink() if text is None else (run / "results.json").write_text(text)
    (problem,), _ = rows(run)
    assert said in problem
    assert "run the command that made the run again" in problem


def test_a_run_that_is_not_finished_is_said_to_be(tmp_path: Path, monkeypatch: Any) -> None:
    with opened(tmp_path / "run", monkeypatch):
        pass
    said: dict[str, int] = {}
    assert verify(tmp_path / "run", said.__setitem__) == []
    assert said["results.json: rows, as the run is not evaluated"] == 0


def test_configs_that_cannot_be_read(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    for text, said in (
        ("{", "not JSON"),
        (json.dumps({**config, "colour": "red"}), "colour: unknown field"),
        ("{}", "made by another version of step-ray, or damaged"),
    ):
        (run / "config.json").write_text(text)
        for command in (("verify", run), ("compare", run)):
            code, output = ask(*command)
            assert code == 2
            assert said in output
    (run / "config.json").unlink()
    code, output = ask("verify", run)
    assert code == 2
    assert "config.json is gone" in output


def test_samples_that_the_models_limit_cut_are_sound(tmp_path: Path, monkeypatch: Any) -> None:
    with opened(tmp_path / "run", monkeypatch) as (shop, expert, shown):
        assert shop.config.training.max_length is None
        tokenizer = load_tokenizer(PACKAGED_MODEL)
        longest = max(len(tokenize(one, tokenizer).input_ids) for one in shown)
        model = model_of(tmp_path / "short", longest - 1)
        made = stages.train(shop, "base", model, shown, {"golden": expert})
        assert made.outputs["truncated"] >= 1
    assert verify(tmp_path / "run") == []


def test_samples_of_what_was_chosen_are_sound(tmp_path: Path, monkeypatch: Any) -> None:
    said: dict[str, int] = {}
    assert verify(steca(tmp_path / "run", monkeypatch), said.__setitem__) == []
    assert said["steca: samples decoded"] == 3
