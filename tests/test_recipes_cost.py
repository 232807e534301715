"""The configs of the paper's scale are planned and costed where neither model nor data is."""

from __future__ import annotations

from pathlib import Path

import pytest

from step_ray.config import ConfigError, load_config, parse_config
from step_ray.envs.base import Task
from step_ray.recipes.cost import estimate, size_of
from step_ray.recipes.plan import plan
from step_ray.recipes.world import PACKAGED_MODEL, World

TRAINED = {"alfworld": 3119, "scienceworld": 1483, "webshop": 1802}
CONFIGS = sorted((Path(__file__).parents[1] / "jobs" / "configs").glob("*_llama2_7b.yaml"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def world(tasks: int, held_out: int = 10) -> World:
    def some(split: str, count: int) -> tuple[Task, ...]:
        return tuple(Task(str(n), "alfworld", split, "") for n in range(count))

    return World("alfworld", {}, some("train", tasks), {"valid_seen": some("s", held_out)}, "")


def test_there_are_three() -> None:
    assert [path.name.split("_")[0] for path in CONFIGS] == ["alfworld", "scienceworld", "webshop"]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("recipe", ["step", "eto", "steca"])
def test_paper_scale(path: Path, recipe: str) -> None:
    with pytest.raises(ConfigError, match="not a Hugging Face folder"):
        load_config(path)
    changes = [] if recipe == "step" else [
        f"recipe={recipe}",
        "student.temperature=0.7",
        "synthesis.max_errors=2",
        "synthesis.abort_errors=6",
    ]  # fmt: skip
    if recipe == "eto":
        changes += ["teacher={type: expert}", "synthesis.min_reward=1.0"]
    config = load_config(path, changes, planning=True)
    said = plan(config)
    assert "Llama-2-7b-chat-hf (NOT THERE YET)" in said
    assert "NOT THERE YET: the numbers of tasks are those published" in said
    assert f"golden       {TRAINED[config.env.name]} tasks of {config.env.name}, played" in said
    assert "GPU hours    about" in said
    assert "assumed" in said
    assert config.training.learning_rate == 2e-5
    assert config.evaluation.max_steps == {"a": 40, "s": 120, "w": 10}[config.env.name[0]]
    assert config.golden.max_steps >= config.env.max_steps == config.evaluation.max_steps


def test_what_is_planned_is_what_is_trained_on(tmp_path: Path) -> None:
    """With the data there, the number of training tasks is that of the config or of its lists."""
    alfworld, scienceworld, webshop = (load_config(path, planning=True).env for path in CONFIGS)
    assert alfworld.train_tasks == TRAINED["alfworld"]
    assert set(scienceworld.folders()) == {"data"}, "ETO's lists"
    assert set(webshop.folders()) == {"data", "lists"}

    def trained(env: dict[str, object], **folders: Path) -> str:
        raw = {"output": "x", "env": {**env, **{field: str(at) for field, at in folders.items()}}}
        return plan(parse_config(raw, planning=True)).splitlines()[0].split()[1]

    away = tmp_path / "away"
    shop = {"name": "webshop", "goals": "human"}
    assert trained(shop, data=away) == "10587"
    assert trained(shop, data=away, lists=tmp_path) == "1802"
    assert trained(shop, data=tmp_path, lists=away) == "1802"
    assert trained({"name": "webshop"}, data=away) == "5410"
    assert trained({}, data=away) == "3554"
    assert trained({"train_tasks": 100}, data=away) == "100"


def test_sizes_of_models() -> None:
    assert size_of("/models/Llama-2-7b-chat-hf") == 7e9
    assert size_of("Qwen/Qwen2.5-72B-Instruct") == 72e9
    assert size_of("Qwen/Qwen2.5-0.5B") == 0.5e9
    assert size_of("my-model") is None
    assert 1e6 < (size_of(PACKAGED_MODEL) or 0) < 3e6, "by its weights"


def test_costs_grow_with_what_is_done() -> None:
    def cost(recipe: str, tasks: int = 100, **more: object):  # type: ignore[no-untyped-def]
        raw = {"output": "runs/x", "recipe": recipe, "student": {"model": "m-7b"}, **more}
        return estimate(parse_config(raw, planning=True), world(tasks))

    once, twice = cost("step"), cost("step", 200)
    assert twice.trained == pytest.approx(2 * once.trained, rel=1e-6)
    assert once.teacher_said == 0, "the expert has no tokens"
    assert twice.gpu_hours > once.gpu_hours > 0
    # 50 golden for the base, 50 and 25 reflected for STeP, all 100: of 1,480 tokens, 3 epochs
    assert once.trained == 225 * 1480 * 3
    # Then 25 tasks of which nothing was kept: half of them, 12.5, are kept; or all 50 again
    again = cost("step", step={"rounds": 2})
    assert again.trained == round((225 + 50 + 25 + 12.5) * 1480 * 3)
    everything = cost("step", step={"rounds": 2, "revisit": "all"})
    assert everything.trained == (225 + 50 + 50) * 1480 * 3
    one, three = (cost("eto", eto={"iterations": number}) for number in (1, 3))
    assert three.read > one.read
    assert three.trained - one.trained == pytest.approx(2 * (50 * 2.5) * 1480 * 3)
    few, many = (cost("steca", steca={"samples": number}) for number in (1, 5))
    assert many.read > few.read
    assert many.trained == few.trained
