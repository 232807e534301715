"""Which recipe has which settings: nothing is accepted that would do nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from step_ray.config import ConfigError, RunConfig, parse_config
from step_ray.config_protocols import note_on


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("step_ray.config_checks.usable_cpus", lambda: 4)


def config(**raw: Any) -> RunConfig:
    return parse_config({"output": "runs/x", **raw})


def problems(**raw: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(**raw)
    return caught.value.problems


def test_a_recipe_has_its_own_section_and_no_other() -> None:
    assert config().eto is None
    assert config(recipe="eto").eto is not None
    assert "eto" not in config().resolved()
    for recipe in ("step", "eto", "steca"):
        resolved = config(recipe=recipe).resolved()
        assert parse_config(resolved).resolved() == resolved
    (line,) = problems(eto={"iterations": 2})
    assert line.startswith("eto: does nothing with recipe step -> remove it, or set recipe to eto")


def test_rounds_leave_a_run_of_one_round_as_it_is() -> None:
    plain, again = config(), config(step={"rounds": 2})
    assert "step" not in plain.resolved()
    assert again.step is not None
    assert again.step.revisit == "unkept"
    for section in ("synthesis", "training", "teacher", "student", "env", "evaluation"):
        assert plain.identity()[section] == again.identity()[section], "fingerprints are the same"
    (line,) = problems(recipe="eto", step={"rounds": 2})
    assert line.startswith("step: does nothing with recipe eto -> remove it, or set recipe to step")
    (line,) = problems(step={"revisit": "all"})
    assert line.startswith("step.revisit: does nothing with one round (all) -> remove it")


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("synthesis", "max_errors", 5),
        ("synthesis", "keep_clean", True),
        ("golden", "fraction", 0.7),
        ("student", "temperature", 0.1),
        ("training", "sequential", True),
        ("training", "loss", "reward_weighted"),
    ],
)
def test_eto_refuses_what_it_does_not_read(section: str, name: str, value: Any) -> None:
    lines = problems(recipe="eto", **{section: {name: value}})
    assert any(line.startswith(f"{section}.{name}: ") for line in lines), lines


def test_failures_are_cut_where_eto_cuts_them() -> None:
    def extra(**raw: Any) -> int | None:
        section = config(recipe="eto", **raw).eto
        assert section is not None
        return section.extra_turns

    assert extra() is None
    assert extra(env={"name": "webshop"}) == 5
    assert extra(env="scienceworld") == 5
    assert extra(env="webshop", eto={"extra_turns": None}) is None


def test_etos_schedule() -> None:
    section = config(recipe="eto").eto
    assert section is not None
    rounds = [section.training(number, 2e-5) for number in (1, 2, 3)]
    assert [one["dpo_beta"] for one in rounds] == [0.1, 0.5, 0.5]
    assert [one["learning_rate"] for one in rounds] == pytest.approx([1e-6, 5e-7, 5e-7])
    assert config().training.trainer(rounds[0]).loss == "dpo"
    (line,) = problems(recipe="eto", eto={"betas": [0.1, 0]})
    assert line.startswith("eto.betas: ")


def test_stecas_sections() -> None:
    section = config(recipe="steca", synthesis={"min_reward": 0.5}).steca
    assert section is not None
    changes = section.training(2e-5)
    assert changes["learning_rate"] == pytest.approx(3e-6)
    assert config().training.trainer(changes).loss == "reward_weighted"
    (line,) = problems(recipe="steca", steca={"delta": 0.1})
    assert line.startswith("steca.delta: does nothing with rule code")
    (line,) = problems(recipe="steca", student={"temperature": 0.5})
    assert line.endswith("-> set steca.temperature instead")
    (line,) = problems(recipe="steca", eto={})
    assert line.startswith("eto: does nothing with recipe steca")


def test_protocols_set_what_they_are_known_for() -> None:
    def caps(**raw: Any) -> tuple[int, float]:
        found = config(**raw).evaluation
        return found.max_steps, found.temperature

    assert caps() == (40, 0.0)
    assert caps(env="webshop", evaluation={"protocol": "eto"}) == (10, 0.0)
    assert caps(evaluation={"protocol": "verl-agent"}) == (50, 0.4)
    scienceworld = {"name": "scienceworld", "step_limits": "eto"}
    assert caps(env=scienceworld, evaluation={"protocol": "eto"}) == (120, 0.0)
    resolved = config(evaluation={"protocol": "verl-agent"}).resolved()
    assert parse_config(resolved).resolved() == resolved
    (line,) = problems(evaluation={"protocol": "eto", "max_steps": 30})
    assert line.startswith("evaluation.max_steps: the protocol eto has 40 (30)")
    (line,) = problems(env=scienceworld, evaluation={"protocol": "verl-agent"})
    assert line.startswith("evaluation.protocol: verl-agent has no scienceworld")
    (line,) = problems(env="scienceworld", evaluation={"protocol": "eto"})
    assert line.startswith(
        "env.step_limits: the protocol eto has each task's own: eto (none) -> set"
    )


def test_protocols_are_complete(tmp_path: Path) -> None:
    """Number of tasks, and what figures depend on in the environment."""

    def tasks(env: str, protocol: str) -> int | None:
        return config(env=env, evaluation={"protocol": protocol}).evaluation.tasks

    assert [tasks("alfworld", "eto"), tasks("webshop", "eto")] == [None, 200]
    assert [tasks("alfworld", "verl-agent"), tasks("webshop", "verl-agent")] == [128, 128]
    (line,) = problems(evaluation={"protocol": "eto", "tasks": 20})
    assert line.startswith("evaluation.tasks: the protocol eto has all (20) -> remove it")
    hard = {"name": "scienceworld", "step_limits": "eto", "simplifications": "none"}
    (line,) = problems(env=hard, evaluation={"protocol": "eto"})
    assert line.startswith("env.simplifications: the protocol eto has all: eto (none)")
    official = {"name": "webshop", "data": str(tmp_path)}
    goals, lists = problems(env=official, evaluation={"protocol": "eto"})
    assert goals.startswith("env.goals: the protocol eto has human (synthetic)")
    assert lists == (
        "env.lists: the protocol eto has ETO's lists of goals (the original's splits) -> set it to "
        "a folder with eval_agent/data/webshop of github.com/Yifan-Song793/ETO, or "
        "evaluation.protocol to own"
    )
    human = {**official, "goals": "human"}
    config(env={**human, "lists": str(tmp_path)}, evaluation={"protocol": "eto"})
    (line,) = problems(env=human, evaluation={"protocol": "verl-agent"})
    assert line.startswith("env.goals: the protocol verl-agent has synthetic (human)")
    config(env={"name": "webshop"}, evaluation={"protocol": "eto"})  # a generated catalogue's goals


@pytest.mark.parametrize(
    ("protocol", "env", "said"),
    [
        ("eto", {"task_types": ["pick_and_place_simple"]}, "task_types: {} all (pick_and_place_"),
        ("verl-agent", {"task_types": ["look_at_obj_in_light"]}, "task_types: {} all (look_at_"),
        ("eto", {"name": "scienceworld", "task_types": ["boil"]}, "task_types: {} all (boil)"),
        ("eto", {"name": "scienceworld", "variations": 3}, "variations: {} all (3) -> remove it,"),
        ("eto", {"name": "webshop", "page_size": 4}, "page_size: {} 10 (4) -> set it to 10, or"),
        ("verl-agent", {"name": "webshop", "page_size": 4}, "page_size: {} 10 (4)"),
        ("eto", {"name": "webshop", "mode": "text_rich"}, "mode: {} text (text_rich) -> set it to"),
        ("verl-agent", {"name": "webshop", "mode": "text_rich"}, "mode: {} text (text_rich)"),
    ],
)
def test_another_environment_than_the_protocols_is_refused(
    protocol: str, env: dict[str, Any], said: str
) -> None:
    if env.get("name") == "scienceworld":
        env = {**env, "step_limits": "eto"}
    (line,) = problems(env=env, evaluation={"protocol": protocol})
    assert line.startswith("env." + said.format(f"the protocol {protocol} has"))
    config(env=env)


def test_other_splits_than_the_protocols_are_refused() -> None:
    one, two = problems(
        env={"name": "webshop", "page_size": 4},
        evaluation={"protocol": "eto", "splits": ["train", "test"]},
    )
    assert one == (
        "evaluation.splits: the protocol eto has test (train) -> leave train out, or set "
        "evaluation.protocol to own"
    )
    assert two.startswith("env.page_size: ")
    config(evaluation={"protocol": "eto", "splits": ["valid_unseen"]})
    science = {"name": "scienceworld", "step_limits": "eto"}
    config(env=science, evaluation={"protocol": "eto", "splits": ["test"]})


def test_etos_lists_are_not_verl_agents() -> None:
    shop = {"name": "webshop", "data": ".", "goals": "human", "lists": "."}
    _, line = problems(env=shop, evaluation={"protocol": "verl-agent"})
    assert line.startswith("env.lists: the protocol verl-agent has the original's splits (.) -> ")


def test_what_a_protocol_does_not_promise_is_said() -> None:
    assert note_on("own", {"name": "webshop"}) == ""
    games = {"name": "alfworld", "data": "data"}
    assert note_on("eto", games).endswith("report average reward.")
    assert "not the official ones" in note_on("verl-agent", {"name": "alfworld", "data": None})
    shop = {"name": "webshop", "data": "data", "tagger": "spacy", "lists": None}
    assert note_on("eto", shop).endswith("report average reward.")
    for one, others in (({**shop, "tagger": "rule"}, []), (games, [{**shop, "tagger": "rule"}])):
        assert "(tagger: rule), the original's by spaCy" in note_on("eto", one, others)
    assert "in both of ETO's lists are tested on" in note_on("eto", {**shop, "lists": "lists"})


def test_what_would_do_nothing_in_eto_and_steca() -> None:
    (line,) = problems(recipe="eto", eto={"rollouts": 3})
    assert line.startswith("eto.rollouts: at temperature 0 all are alike (3) -> use 1, or raise")
    assert config(recipe="eto", eto={"rollouts": 3, "temperature": 0.7}).eto is not None
    (line,) = problems(recipe="steca", training={"normalize": "trajectory"})
    assert line.startswith("training.normalize: trajectories that weigh the same have no weights")
    for recipe in ("eto", "steca"):
        (line,) = problems(recipe=recipe, training={"mask": "corrections_only"})
        assert line.startswith(f"training.mask: does nothing with recipe {recipe}")
