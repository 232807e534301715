"""Other environments to evaluate in: by a name each, with fields, checks and caps of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from step_ray.config import ConfigError, RunConfig, execution_fields, parse_config
from step_ray.config_env import ScienceWorldConfig, WebShopConfig
from step_ray.run import Run, RunError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("step_ray.config_checks.usable_cpus", lambda: 4)


def config(transfer: Any, **raw: Any) -> RunConfig:
    return parse_config({"output": "runs/x", "transfer": transfer, **raw})


def problems(transfer: Any, **raw: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(transfer, **raw)
    return caught.value.problems


def test_names_stand_for_environments_as_they_come() -> None:
    made = config(["webshop", "scienceworld"])
    assert isinstance(made.transfer["webshop"].env, WebShopConfig)
    assert made.transfer["webshop"].splits == ("test",)
    assert isinstance(made.transfer["scienceworld"].env, ScienceWorldConfig)
    assert made.transfer["scienceworld"].splits == ("valid_seen", "valid_unseen")
    assert parse_config(made.resolved()) == made
    own = config({"small": {"env": {"name": "webshop", "products": 60}, "tasks": 5}})
    assert own.transfer["small"].env.options()["products"] == 60
    assert config({"webshop": None}).transfer == config(["webshop"]).transfer


def test_without_it_a_config_is_what_it_was() -> None:
    plain = parse_config({"output": "runs/x"})
    assert "transfer" not in plain.resolved()
    assert "transfer" not in plain.identity()
    there = config(["webshop"]).identity()
    assert there.pop("transfer")
    assert there == plain.identity(), "no other stage is made anew"


def test_other_names_of_splits_are_the_tasks_own() -> None:
    there = {"science": {"env": "scienceworld", "splits": ["dev", "test"]}}
    assert config(there).transfer["science"].splits == ("valid_seen", "valid_unseen")
    there["science"]["splits"] = ["test", "valid_unseen"]
    assert problems(there) == [
        "transfer.science.splits: another name of valid_unseen, which is there too (test) -> name "
        "it once"
    ]


def test_a_protocol_caps_each_environment() -> None:
    made = config(["webshop"], evaluation={"protocol": "eto"})
    assert (made.evaluation.max_steps, made.transfer["webshop"].max_steps) == (40, 10)
    made = config(["webshop"], evaluation={"protocol": "verl-agent"})
    assert (made.evaluation.max_steps, made.transfer["webshop"].max_steps) == (50, 15)
    assert made.evaluation.temperature == 0.4
    (line,) = problems({"webshop": {"max_steps": 12}}, evaluation={"protocol": "eto"})
    assert line.startswith("transfer.webshop.max_steps: the protocol eto has 10 (12) -> remove it")
    (line,) = problems(["scienceworld"], evaluation={"protocol": "eto"})
    assert line.startswith("transfer.scienceworld.env.step_limits: the protocol eto has each")
    lists = {"shop": {"env": {"name": "webshop", "goals": "human", "data": "."}}}
    (line,) = problems(lists, evaluation={"protocol": "eto"})
    assert line.startswith("transfer.shop.env.lists: the protocol eto has ETO's lists of goals")
    there = {"webshop": {"splits": ["dev"]}}
    (line,) = problems(there, evaluation={"protocol": "eto"})
    assert line.startswith("transfer.webshop.splits: the protocol eto has test (dev) -> leave dev")
    (line,) = problems(["scienceworld"], evaluation={"protocol": "verl-agent"})
    assert line.startswith("evaluation.protocol: verl-agent has no scienceworld")


def test_everything_wrong_at_once_where_it_is() -> None:
    env = {"name": "webshop", "data": "nowhere", "max_steps": 3, "train_tasks": 9, "memory_mb": 99}
    found = problems(
        {
            "shop": {"env": {**env, "mode": "loud"}, "splits": ["moon"], "taks": 3},
            "Big Shop": {"env": "webshop"},
            "nothing": {},
        }
    )
    heads = [line.split(" -> ")[0].split(" (")[0] for line in found]
    assert sorted(heads) == [
        "transfer.Big Shop: String should match pattern '^[a-z0-9][a-z0-9_-]*$'",
        "transfer.nothing.env: missing",
        "transfer.shop.env.data: no such folder",
        "transfer.shop.env.max_steps: does nothing, as nobody is trained there",
        "transfer.shop.env.memory_mb: does nothing, as environments have no process of their own",
        "transfer.shop.env.mode: should be 'text' or 'text_rich'",
        "transfer.shop.env.train_tasks: does nothing, as nobody is trained there",
        "transfer.shop.splits: no such split",
        "transfer.shop.taks: unknown field",
    ]
    said = "\n".join(found)
    assert "did you mean transfer.shop.tasks?" in said
    assert "set transfer.shop.env.isolated to true" in said
    assert "set transfer.shop.max_steps instead" in said


@pytest.mark.parametrize("transfer", [["moon"], 3, "webshop"])
def test_what_names_no_environment(transfer: Any) -> None:
    (line,) = problems(transfer)
    assert line.startswith("transfer: should be a valid dictionary (")
    assert "a list such as [webshop]" in line


def test_the_runs_own_environment_is_no_other() -> None:
    (line,) = problems(["alfworld"])
    assert line.startswith("transfer.alfworld.env: the same environment and splits as the run's")
    assert config({"other_rooms": {"env": {"name": "alfworld", "generator_seed": 7}}})


def test_data_of_a_cluster_are_not_needed_for_a_plan() -> None:
    transfer = {"shop": {"env": {"name": "webshop", "data": "/data/webshop"}}}
    assert len(problems(transfer)) == 1
    parse_config({"output": "runs/x", "transfer": transfer}, planning=True)


def test_how_it_is_played_may_change() -> None:
    one, two, three = (
        config({"shop": {"env": {"name": "webshop", **env}}})
        for env in ({}, {"isolated": True, "memory_mb": 900}, {"products": 70})
    )
    assert one.identity() == two.identity() != three.identity()
    Run.open("runs/x", one.resolved(), ignore=execution_fields()).close()
    Run.open("runs/x", two.resolved(), ignore=execution_fields()).close()
    with pytest.raises(RunError, match=r"transfer\.shop\.env\.products: 1000 -> 70"):
        Run.open("runs/x", three.resolved(), ignore=execution_fields())
